// Rings: what two nodes write to send each other messages (docs/protocol.md L7, M1, M2).

#pragma once

#include <cstdint>

#include "format/layout.h"

namespace sheaf::format {

/// \brief What a node writes about one peer, one line (L2): who it is as a sender, and
/// how far it has read what that peer sent to which of its lives. Word 0 is Busy while it
/// changes; of a line that a crash cut short each other word is the old or the new one.
struct RingEnd {
  uint64_t version;     ///< Of the messages (kMessageVersion); 0: never written.
  uint64_t cluster_id;  ///< As in the segment header.
  uint64_t life;        ///< Of the writer's channel to this peer, rises; not 0.
  uint64_t peer_life;  ///< As a receiver: the sender's life that is acknowledged; 0 none.
  uint64_t lines_received;  ///< Of that sender's lines, by this life.
  uint64_t is_awake;        ///< 1: looks for messages by itself, no doorbell is needed.
  uint64_t reserved;
  uint64_t checksum;
};
static_assert(sizeof(RingEnd) == kLineBytes);

/// Lives of a segment's channels are above its format epoch times this.
constexpr uint32_t kRingLifeShift = 32;

/// Payload words of a line, behind its tag.
constexpr uint32_t kRingPayloadWords = kLineBytes / sizeof(uint64_t) - 1;
constexpr uint32_t kRingPayloadBytes = kRingPayloadWords * sizeof(uint64_t);

/// \brief Word 0 of each line of a frame: two lives, 16 bits each, and the number of the
/// line in their session, from 1 on, modulo 2^32.
constexpr uint64_t RingTag(uint64_t sender_life, uint64_t receiver_life, uint64_t line) {
  return (sender_life & 0xFFFF) << 48 | (receiver_life & 0xFFFF) << 32 |
         (line & 0xFFFFFFFF);
}

/// Bytes of one frame at most: two fit in a ring, so that one is read while the next is
/// written.
constexpr uint64_t kRingFrameBytesMax = uint64_t{32} << 10;

/// \brief First payload word of a frame, which has its bytes behind it.
struct RingFrameHead {
  uint16_t size_bytes;
  uint16_t goes_on;   ///< 1: its message has more frames; else 0.
  uint32_t checksum;  ///< Low half of XXH3 over the bytes.
};
static_assert(sizeof(RingFrameHead) == sizeof(uint64_t) && kRingFrameBytesMax <= 0xFFFF);

}  // namespace sheaf::format
