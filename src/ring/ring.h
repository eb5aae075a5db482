// Messages from one node to another through memory that both can load from: a ring of
// lines in the sender's segment, and the receiver's position in its own (docs/protocol.md
// L7, M1 to M4; model ring).

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/ring.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::ring {

/// \brief Both directions between the own node and one peer. Frames arrive in order, each
/// at most once; a new channel of either side begins a new session, in which nothing of
/// the old one is delivered (M2, M3). Full is refused, never overwritten. One thread of
/// the own node's daemon; the segments outlive it.
class Channel {
 public:
  /// Longer messages are sent as several frames.
  static constexpr size_t kFrameBytesMax = format::kRingFrameBytesMax;

  /// \brief Takes memory for the ring to `peer` in the own segment and begins a life that
  /// neither side has seen. OutOfMemory if there is none. Class C: a node that rebooted
  /// waits D before it calls this (M4).
  static arrow::Result<std::unique_ptr<Channel>> Open(region::Segment* own,
                                                      const region::Segment* peer);
  ~Channel();

  /// \brief Looks at the peer's end, and greets it if it is new. Rises by one with each
  /// session, in which both sides may send; 0 before the first. What was sent in an
  /// earlier one may be lost.
  uint64_t Poll();
  /// \brief Invalid, saying why, while the peer speaks another version of the messages or
  /// is of another cluster, as Poll saw it: there is no session then.
  const arrow::Status& peer_status() const;

  /// \brief Send `frame`, `goes_on` if its message has more of them. False if there is no
  /// room or no session: nothing was sent, try again after Poll.
  bool Send(std::span<const uint8_t> frame, bool goes_on);

  struct Frame {
    std::vector<uint8_t> bytes;
    bool goes_on = false;
    uint64_t session = 0;  ///< As of Poll: a message of a lower one is cut short.
  };
  /// \brief The next frame that has arrived as a whole; nothing if there is none, or no
  /// session. Invalid if the peer wrote what no sender writes: nothing of this session
  /// comes any more.
  arrow::Result<std::optional<Frame>> Receive();

  /// \brief Take nothing more of this session: what came makes no sense.
  void Refuse();

  /// \brief Tell the sender that what was received may be overwritten, if it is a quarter
  /// of the ring: it costs a line's way to memory.
  void Acknowledge();

  /// \brief Say whether this node looks for messages without being told that there are
  /// some. Who falls asleep looks once more afterwards. It may take a while until the
  /// peer knows of it, but for class A.
  void SetAwake(bool is_awake);
  /// \brief Does the peer look by itself? Asked after what it may wait for was stored.
  bool IsPeerAwake() const;

  /// \brief True if something was stored since the last call that the peer may wait for.
  bool TakeHasWritten();

 private:
  class Impl;
  explicit Channel(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// \brief Did the home of `peer`, ever, begin a channel to `own`?
bool IsOpenedBy(const region::Segment& peer, NodeId own);

/// \brief Peers about which `own`'s node has written what it never writes. Its next
/// channel with them begins above what they acknowledged (M2).
std::vector<NodeId> DamagedEnds(const region::Segment& own);
/// \brief Write that there was no channel with them yet. The home's daemon, or who holds
/// its lock.
void ClearEnds(region::Segment* own, const std::vector<NodeId>& peers);

}  // namespace sheaf::ring
