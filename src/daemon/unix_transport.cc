#include "daemon/unix_transport.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "daemon/connection.h"
#include "daemon/event_loop.h"
#include "daemon/log.h"
#include "daemon/pending_requests.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

constexpr uint64_t kHelloId = 0;  // ids of requests begin with 1
constexpr std::chrono::milliseconds kConnectRetryPeriod{20};

}  // namespace

UnixTransport::UnixTransport(EventLoop* loop, region::Region* region,
                             uint64_t incarnation)
    : loop_(loop),
      region_(region),
      config_(region->config()),
      self_(region->node()),
      incarnation_(incarnation),
      requests_(loop) {}

UnixTransport::~UnixTransport() {
  for (auto& [node, peer] : peers_) {
    if (peer.connection != nullptr) peer.connection->Close();
  }
}

void UnixTransport::Request(NodeId node, std::vector<uint8_t> message,
                            ReplyCallback done) {
  SHEAF_CHECK(node != self_);
  requests_.Add(node, std::move(message), std::move(done));
  if (peers_[node].greeted) return SendRequests(node);
  ConnectAfter(node, std::chrono::nanoseconds(0));
}

void UnixTransport::SendRequests(NodeId node) {
  const auto connection = peers_[node].connection;
  requests_.SendUnsent(
      node, [&](const std::vector<uint8_t>& message) { connection->Send(message); });
}

// Never from inside Request: a connection may fail at once, and calls back then.
void UnixTransport::ConnectAfter(NodeId node, std::chrono::nanoseconds delay) {
  Peer& peer = peers_[node];
  if (peer.retry_armed || peer.connection != nullptr || requests_.IsEmpty(node)) return;
  peer.retry_armed = true;
  loop_->After(delay, [this, node, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    peers_[node].retry_armed = false;
    Connect(node);
  });
}

void UnixTransport::Connect(NodeId node) {
  Peer& peer = peers_[node];
  if (peer.connection != nullptr || requests_.IsEmpty(node)) return;
  auto socket = platform::ConnectUnix(config_.socket_path(node));
  if (socket.ok()) {
    const auto credentials = platform::GetPeerCredentials(socket->get());
    if (credentials.ok() && credentials->user_id != platform::CurrentUserId()) {
      Log(LogLevel::kWarning, "the daemon of node ", node.value, " runs as another user");
      socket = arrow::Status::IOError("another user's");
    }
  }
  if (!socket.ok()) return ConnectAfter(node, kConnectRetryPeriod);
  peer.greeted = false;
  peer.connection = Connection::Start(
      loop_, std::move(*socket),
      {[this, node](const Connection::Ptr&, const platform::Frame& frame) {
         OnFrame(node, frame);
       },
       [this, node](const Connection::Ptr&, const arrow::Status& reason) {
         Lose(node, reason);
       }});
  flatbuffers::FlatBufferBuilder builder;
  const auto hello = BuildHello(node, &builder);
  peer.connection->Send(
      format::FinishRequest(&builder, kHelloId, format::Body::NodeHello, hello));
}

uint64_t UnixTransport::EpochOf(NodeId node) const {
  const region::Segment* segment = region_->segment({node.value});
  return segment == nullptr ? 0 : segment->header().format_epoch;
}

flatbuffers::Offset<void> UnixTransport::BuildHello(
    NodeId node, flatbuffers::FlatBufferBuilder* builder) const {
  return format::CreateNodeHello(*builder, format::kMessageVersion, config_.cluster_id,
                                 self_.value, incarnation_, EpochOf(self_), EpochOf(node))
      .Union();
}

std::vector<uint8_t> UnixTransport::MakeHelloReply(NodeId node,
                                                   uint64_t request_id) const {
  flatbuffers::FlatBufferBuilder builder;
  const auto hello = BuildHello(node, &builder);
  return format::FinishReply(&builder, request_id, format::Body::NodeHello, hello);
}

bool UnixTransport::SpeaksOfMapped(const PeerName& peer) const {
  const uint64_t mapped = EpochOf(peer.node);
  return mapped == 0 || mapped == peer.format_epoch;
}

// Two nodes talk about the memory that both map, or not at all.
arrow::Status UnixTransport::CheckEpochs(const format::NodeHello& hello) const {
  const NodeId peer{hello.node()};
  const auto is_mapped = [&] { return SpeaksOfMapped({peer, hello.format_epoch()}); };
  if (!is_mapped()) region_->AttachAnew();
  if (!is_mapped()) {
    return arrow::Status::Invalid(
        "node ", peer.value, " speaks of memory with format epoch ", hello.format_epoch(),
        ", node ", self_.value, " has mapped its memory with ", EpochOf(peer),
        ": if that stays so, start the daemon of node ", self_.value, " again");
  }
  if (hello.peer_format_epoch() != 0 && hello.peer_format_epoch() != EpochOf(self_)) {
    return arrow::Status::Invalid(
        "node ", peer.value, " has mapped memory of node ", self_.value,
        " with format epoch ", hello.peer_format_epoch(), ", which is now ",
        EpochOf(self_), ": if that stays so, start the daemon of node ", peer.value,
        " again");
  }
  return arrow::Status::OK();
}

arrow::Result<PeerName> UnixTransport::CheckHello(const format::Message& message) const {
  ARROW_ASSIGN_OR_RAISE(const auto* hello, format::BodyAs<format::NodeHello>(message));
  if (hello->protocol_version() != format::kMessageVersion) {
    return arrow::Status::Invalid("peer speaks version ", hello->protocol_version(),
                                  ", this daemon ", format::kMessageVersion);
  }
  if (hello->cluster_id() != config_.cluster_id) {
    return arrow::Status::Invalid("peer belongs to another cluster");
  }
  if (hello->node() >= config_.nodes || hello->node() == self_.value) {
    return arrow::Status::Invalid("peer says it is node ", hello->node());
  }
  ARROW_RETURN_NOT_OK(CheckEpochs(*hello));
  return PeerName{{hello->node()}, hello->format_epoch()};
}

void UnixTransport::Deliver(NodeId from, const format::Message& message,
                            const ReplyFn& reply) {
  if (handler_) return handler_(from, message, reply);
  reply(format::MakeOutcomeReply(message.request_id(),
                                 NodeLost(self_, "is not ready yet")));
}

arrow::Result<PeerName> UnixTransport::CheckGreeting(NodeId node,
                                                     const format::Message& reply) const {
  ARROW_RETURN_NOT_OK(format::ToStatus(reply));
  ARROW_ASSIGN_OR_RAISE(const PeerName answered, CheckHello(reply));
  if (answered.node == node) return answered;
  return arrow::Status::Invalid("node ", answered.node.value,
                                " answers at the socket of node ", node.value);
}

void UnixTransport::OnReply(NodeId node, const format::Message& reply) {
  Peer& peer = peers_[node];
  if (SpeaksOfMapped({node, peer.format_epoch})) {
    return requests_.Complete(node, reply.request_id(), &reply);
  }
  peer.connection->Close();
  Lose(node, arrow::Status::Invalid("its memory was formatted anew"));
}

void UnixTransport::OnFrame(NodeId node, const platform::Frame& frame) {
  Peer& peer = peers_[node];
  const auto reply = format::ParseMessage(frame.payload);
  if (!reply.ok() || !(*reply)->is_reply()) {
    peer.connection->Close();
    return Lose(node, reply.ok() ? arrow::Status::Invalid("a request on this side")
                                 : reply.status());
  }
  if (peer.greeted) return OnReply(node, **reply);
  const auto greeting = CheckGreeting(node, **reply);
  if (!greeting.ok()) {
    peer.connection->Close();
    return Lose(node, greeting.status());
  }
  peer.greeted = true;
  peer.format_epoch = greeting->format_epoch;
  requests_.BeginSession(node);
  SendRequests(node);
}

// What is unanswered is sent again over the next connection, until its deadline.
void UnixTransport::Lose(NodeId node, const arrow::Status& reason) {
  Log(LogLevel::kInfo, "connection to node ", node.value, " lost: ", reason.ToString());
  Peer& peer = peers_[node];
  peer.connection.reset();
  peer.greeted = false;
  ConnectAfter(node, kConnectRetryPeriod);
}

}  // namespace sheaf::daemon
