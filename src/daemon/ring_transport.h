// Transport between daemons of any hosts: rings in the segments, and doorbells.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/status.h>

#include "daemon/doorbell.h"
#include "daemon/event_loop.h"
#include "daemon/pending_requests.h"
#include "daemon/transport.h"
#include "region/region.h"
#include "ring/link.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// What a node may leave unread beyond what its ring holds: then requests fail at once,
/// and a node that does not read replies is given up until its next session.
constexpr size_t kUnreadBytesMax = size_t{1} << 20;

/// \brief One link with each peer, opened when the first request needs it or when the
/// peer has opened its end. A restart of either daemon begins a new session: what is
/// unanswered is sent again, marked, and replies of the old session are dropped. A peer
/// that wrote what no sender writes is not read from any more in its session; a new one
/// is begun a second later. Looks when the doorbell rings, from time to time without,
/// and, if the cluster file says so (`spin_us`), again and again for a while after a
/// message. All that it is given outlives it.
class RingTransport : public Transport {
 public:
  /// Nothing is written before `quiet` has passed (M4).
  RingTransport(EventLoop* loop, const region::Region* region, Doorbell* bell,
                std::chrono::nanoseconds quiet);

  void Request(NodeId node, std::vector<uint8_t> message, ReplyCallback done) override;
  void Serve(Handler handler) override { handler_ = std::move(handler); }

 private:
  struct Peer {
    std::unique_ptr<ring::Link> link;           ///< Null while it is not opened.
    const region::Segment* segment = nullptr;   ///< Whose ring `link` reads.
    uint64_t session = 0;                       ///< Of all that there were; 0 none.
    std::vector<std::vector<uint8_t>> replies;  ///< Leave at the end of the turn.
    size_t replies_bytes = 0;
    bool sends_later = false;  ///< At the end of this turn.
    bool looks_later = false;
    bool is_awake_for = false;  ///< It knows that we look by ourselves.
    std::chrono::nanoseconds opens_at{0};
    std::string problem;   ///< Logged: not again until a message has come.
    int found_unrung = 0;  ///< Messages that came without its doorbell, since it rang.
  };

  Peer& PeerOf(NodeId node) { return peers_[node.value]; }
  bool Open(NodeId node);
  void EndIfFormattedAnew(NodeId node);
  bool Look(NodeId node);
  void LookLater(NodeId node, std::chrono::nanoseconds delay);
  void LookAtAll();
  bool Spin(bool is_last);
  void OnRing(NodeId node);
  void OnSession(NodeId node);
  void OnMessage(NodeId node, const std::vector<uint8_t>& bytes);
  void Reply(NodeId node, uint64_t session, std::vector<uint8_t> reply);
  void SendLater(NodeId node);
  void Send(NodeId node);
  void Wake(NodeId node);
  void StayAwakeFor(Peer* peer);
  bool IsUnheard(NodeId node) const;
  void End(NodeId node, const arrow::Status& why);
  void LogProblem(NodeId node, const arrow::Status& problem);

  EventLoop* loop_;
  const region::Region* region_;
  Doorbell* bell_;
  const std::chrono::nanoseconds spin_;
  /// After a doorbell, what it was rung for may still be on its way (class C).
  const std::chrono::nanoseconds arrival_;
  Handler handler_;
  PendingRequests requests_;
  std::vector<Peer> peers_;  ///< By node; the own one is not used.
  uint64_t sessions_ = 0;
  std::chrono::nanoseconds next_whole_look_{0};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sheaf::daemon
