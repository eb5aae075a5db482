#include "daemon/ring_transport.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "daemon/doorbell.h"
#include "daemon/event_loop.h"
#include "daemon/log.h"
#include "daemon/pending_requests.h"
#include "daemon/send_points.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "platform/cache.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "ring/link.h"
#include "ring/ring.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

/// How late a message may be whose doorbell was lost, and for each node besides: one line
/// is read of each.
constexpr milliseconds kLookPeriod{20};
constexpr microseconds kLookPeriodPerNode{100};
/// The same where nobody can ring: a compromise between a request's time and what a node
/// that does nothing costs.
constexpr milliseconds kUnheardLookPeriod{1};
/// So many messages without a doorbell, and there is none: something swallows them.
constexpr int kUnrungMax = 16;
/// After a ring that made no sense, or had no memory.
constexpr std::chrono::seconds kReopenDelay{1};
/// Turns of a link before others have theirs.
constexpr int kTurnsPerLook = 8;

nanoseconds ArrivalTime(const region::ClusterConfig& config) {
  if (config.settle_class != platform::SettleClass::kPosted) return nanoseconds(0);
  return microseconds(config.posted_delay_us);
}

}  // namespace

RingTransport::RingTransport(EventLoop* loop, const region::Region* region,
                             Doorbell* bell, nanoseconds quiet)
    : loop_(loop),
      region_(region),
      bell_(bell),
      spin_(microseconds(region->config().spin_us)),
      arrival_(ArrivalTime(region->config())),
      requests_(loop),
      peers_(region->num_segments()) {
  for (Peer& peer : peers_) peer.opens_at = loop->Now() + quiet;
  bell_->OnRing([this](NodeId node) { OnRing(node); });
  loop_->OnSpin([this, alive = std::weak_ptr<bool>(alive_)](bool is_last) {
    return !alive.expired() && Spin(is_last);
  });
  loop_->After(nanoseconds(0), [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) LookAtAll();
  });
}

void RingTransport::Request(NodeId node, std::vector<uint8_t> message,
                            ReplyCallback done) {
  SHEAF_CHECK(node != region_->node() && node.value < peers_.size());
  const Peer& peer = PeerOf(node);
  const size_t unread_bytes = peer.link == nullptr ? 0 : peer.link->queued_bytes();
  if (unread_bytes > 0 && unread_bytes + message.size() > kUnreadBytesMax) {
    return requests_.Refuse(node,
                            "has left " + std::to_string(unread_bytes) +
                                " bytes of messages unread: its daemon has stopped, or "
                                "cannot keep up",
                            std::move(done));
  }
  requests_.Add(node, std::move(message), std::move(done));
  SendLater(node);
}

void RingTransport::SendLater(NodeId node) {
  if (std::exchange(PeerOf(node).sends_later, true)) return;
  loop_->AtTurnEnd([this, node, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) Send(node);
  });
}

// Nothing is taken here: what it would be answered with could not leave this turn.
void RingTransport::Send(NodeId node) {
  EndIfFormattedAnew(node);
  Peer& peer = PeerOf(node);
  peer.sends_later = false;
  if (peer.link == nullptr && !Open(node)) return;
  if (peer.session == 0) return;
  bool has_written = false;
  const auto post = [&](const std::vector<uint8_t>& message) {
    PassSendPoint(message, SendStep::kBefore);
    peer.link->Queue(message);
    has_written |= peer.link->SendQueued();
    PassSendPoint(message, SendStep::kAfter);
  };
  for (const auto& reply : std::exchange(peer.replies, {})) post(reply);
  peer.replies_bytes = 0;
  requests_.SendUnsent(node, post);
  if (!requests_.IsEmpty(node)) StayAwakeFor(&peer);
  if (has_written) Wake(node);
}

void RingTransport::Wake(NodeId node) {
  if (!PeerOf(node).link->IsPeerAwake()) bell_->Ring(node);
}

void RingTransport::StayAwakeFor(Peer* peer) {
  if (spin_.count() == 0) return;
  loop_->SpinFor(spin_);
  peer->is_awake_for = true;
  peer->link->SetAwake(true);
}

bool RingTransport::Spin(bool is_last) {
  bool has_moved = false;
  for (uint32_t k = 0; k < peers_.size(); ++k) {
    Peer& peer = peers_[k];
    if (!peer.is_awake_for) continue;
    if (is_last) {
      peer.is_awake_for = false;
      if (peer.link != nullptr) peer.link->SetAwake(false);
    }
    if (peer.link != nullptr) has_moved |= Look({k});
  }
  return has_moved;
}

bool RingTransport::Open(NodeId node) {
  Peer& peer = PeerOf(node);
  if (peer.link != nullptr) return true;
  const region::Segment* segment = region_->segment({node.value});
  if (segment == nullptr || loop_->Now() < peer.opens_at) return false;
  auto channel = ring::Channel::Open(&region_->own_segment(), segment);
  if (!channel.ok()) {
    peer.opens_at = loop_->Now() + kReopenDelay;
    LogProblem(node, channel.status());
    return false;
  }
  peer.link =
      std::make_unique<ring::Link>(*std::move(channel), platform::kFramePayloadMax);
  peer.segment = segment;
  LookLater(node, nanoseconds(0));
  return true;
}

// A ring in memory of a former life is one that nobody writes.
void RingTransport::EndIfFormattedAnew(NodeId node) {
  const Peer& peer = PeerOf(node);
  if (peer.link == nullptr || peer.segment == region_->segment({node.value})) return;
  End(node, arrow::Status::IOError("its memory was formatted anew"));
}

void RingTransport::LookLater(NodeId node, nanoseconds delay) {
  if (std::exchange(PeerOf(node).looks_later, true)) return;
  loop_->After(delay, [this, node, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    PeerOf(node).looks_later = false;
    Look(node);
  });
}

// True if something has come.
bool RingTransport::Look(NodeId node) {
  EndIfFormattedAnew(node);
  Peer& peer = PeerOf(node);
  if (!Open(node)) return false;
  bool has_moved = false;
  for (int i = 0; i < kTurnsPerLook; ++i) {
    auto turn = peer.link->Advance();
    if (!turn.ok()) {
      End(node, turn.status());
      return true;
    }
    if (turn->is_new_session) OnSession(node);
    if (turn->has_written) Wake(node);
    if (const arrow::Status& status = peer.link->peer_status(); !status.ok()) {
      LogProblem(node, status);
      peer.session = 0;
      requests_.Fail(node, NodeLost(node, "cannot be talked to: " + status.message()));
      return has_moved;
    }
    for (const auto& message : turn->messages) {
      OnMessage(node, message);
      if (peer.link == nullptr) return true;  // It made no sense.
    }
    if (!turn->has_read) return has_moved;
    has_moved = true;
    StayAwakeFor(&peer);
  }
  LookLater(node, nanoseconds(0));
  return true;
}

void RingTransport::OnRing(NodeId node) {
  PeerOf(node).found_unrung = 0;
  Look(node);
  if (arrival_.count() > 0) LookLater(node, arrival_);
}

bool RingTransport::IsUnheard(NodeId node) const {
  return !bell_->Hears(node) || peers_[node.value].found_unrung >= kUnrungMax;
}

// What doorbells do not tell of: those that got lost, and nodes that have none.
void RingTransport::LookAtAll() {
  const auto now = loop_->Now();
  const auto period =
      std::max<nanoseconds>(kLookPeriod, kLookPeriodPerNode * peers_.size());
  const bool looks_at_all = now >= next_whole_look_;
  if (looks_at_all) next_whole_look_ = now + period;
  bool anyone_is_unheard = false;
  for (uint32_t k = 0; k < peers_.size(); ++k) {
    const NodeId node{k};
    const region::Segment* segment = region_->segment({k});
    if (node == region_->node() || segment == nullptr) continue;
    Peer& peer = peers_[k];
    const bool is_opened = peer.link != nullptr;
    const bool is_unheard = is_opened && IsUnheard(node);
    anyone_is_unheard |= is_unheard;
    if (!looks_at_all && !is_unheard) continue;
    if (!is_opened && requests_.IsEmpty(node) &&
        !ring::IsOpenedBy(*segment, region_->node())) {
      continue;
    }
    const bool has_moved = Look(node);
    // Before its first ring it may be the looking that was faster.
    if (!has_moved || !is_opened || !bell_->Hears(node) || is_unheard) continue;
    if (++peer.found_unrung == kUnrungMax) {
      Log(LogLevel::kWarning, "messages of node ", k, " come without its doorbell (",
          region_->config().address_of(region_->node()),
          ", UDP, is where it rings): they are looked for, which is slower");
    }
  }
  const nanoseconds delay = anyone_is_unheard ? nanoseconds(kUnheardLookPeriod) : period;
  loop_->After(delay, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) LookAtAll();
  });
}

void RingTransport::OnSession(NodeId node) {
  Peer& peer = PeerOf(node);
  peer.session = ++sessions_;
  peer.replies.clear();
  peer.replies_bytes = 0;
  requests_.BeginSession(node);
  SendLater(node);
  Log(LogLevel::kDebug, "a session with node ", node.value, " has begun");
}

void RingTransport::OnMessage(NodeId node, const std::vector<uint8_t>& bytes) {
  Peer& peer = PeerOf(node);
  const auto message = format::ParseMessage(bytes);
  if (!message.ok()) return End(node, message.status());
  peer.problem.clear();
  if ((*message)->is_reply()) {
    return requests_.Complete(node, (*message)->request_id(), message);
  }
  const ReplyFn reply = [this, node, session = peer.session,
                         alive = std::weak_ptr<bool>(alive_)](std::vector<uint8_t> text) {
    if (!alive.expired()) Reply(node, session, std::move(text));
  };
  if (handler_) return handler_(node, **message, reply);
  reply(format::MakeOutcomeReply((*message)->request_id(),
                                 NodeLost(region_->node(), "is not ready yet")));
}

// M3: the ids of another session are other requests.
void RingTransport::Reply(NodeId node, uint64_t session, std::vector<uint8_t> reply) {
  Peer& peer = PeerOf(node);
  if (peer.session != session) return;
  const size_t unread_bytes = peer.link->queued_bytes() + peer.replies_bytes;
  if (unread_bytes > kUnreadBytesMax) {
    return End(node, arrow::Status::CapacityError("it left ", unread_bytes,
                                                  " bytes of replies unread"));
  }
  peer.replies_bytes += reply.size();
  peer.replies.push_back(std::move(reply));
  SendLater(node);
}

void RingTransport::End(NodeId node, const arrow::Status& why) {
  LogProblem(node, why);
  Peer& peer = PeerOf(node);
  peer.link.reset();
  peer.session = 0;
  peer.is_awake_for = false;
  peer.replies.clear();
  peer.replies_bytes = 0;
  peer.opens_at = loop_->Now() + kReopenDelay;
}

void RingTransport::LogProblem(NodeId node, const arrow::Status& problem) {
  Peer& peer = PeerOf(node);
  if (std::exchange(peer.problem, problem.message()) == problem.message()) return;
  Log(LogLevel::kWarning, "messages of node ", node.value, ": ", problem.message());
}

}  // namespace sheaf::daemon
