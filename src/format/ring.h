// Rings: what two nodes write to send each other messages (docs/protocol.md L7, M1, M2).

#pragma once

#include <cstdint>

#include "format/layout.h"

namespace sheaf::format {

/// \brief What a node writes about one peer, one line (L2): who it is as a sender, and
/// how far it has read what that peer sent to which of its lives.
struct RingEnd {
  uint64_t life;            ///< Of the writer's channel to this peer; 0 never written.
  uint64_t peer_life;       ///< As a receiver: the sender's life that is acknowledged.
  uint64_t lines_received;  ///< Of that sender's lines, by this life.
  uint64_t reserved[4];
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

/// First payload word of a frame: its bytes, and whether its message goes on.
constexpr uint64_t kRingFrameGoesOn = uint64_t{1} << 63;

}  // namespace sheaf::format
