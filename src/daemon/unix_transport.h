// Transport between the daemons of one host: UNIX sockets.

#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "daemon/connection.h"
#include "daemon/event_loop.h"
#include "daemon/pending_requests.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief Who greeted, and the memory that its daemon speaks of.
struct PeerName {
  NodeId node;
  uint64_t format_epoch = 0;  ///< Of its segment.
};

/// \brief One connection to each peer, made when the first request needs it and again
/// when it was lost; all that is unanswered is then sent once more. Connections that
/// peers make to us come in through `Adopt`. The loop and the region outlive it.
class UnixTransport : public Transport {
 public:
  UnixTransport(EventLoop* loop, region::Region* region, uint64_t incarnation);
  ~UnixTransport() override;

  void Request(NodeId node, std::vector<uint8_t> message, ReplyCallback done) override;
  void Serve(Handler handler) override { handler_ = std::move(handler); }

  /// \brief Of this node, for the greetings from now on.
  void SetIncarnation(uint64_t incarnation) { incarnation_ = incarnation; }

  /// \brief Check a peer's greeting, which came over a connection of our own user's.
  /// Returns the peer; Invalid says what does not fit. A peer whose memory was formatted
  /// anew since it was mapped here is mapped again first.
  arrow::Result<PeerName> CheckHello(const format::Message& message) const;
  /// \brief Does it speak of the memory that is mapped here, now? True while none is.
  /// Its messages must not be used any more once it does not: the memory was formatted
  /// anew after the greeting.
  bool SpeaksOfMapped(const PeerName& peer) const;
  /// \brief The reply to a greeting that fits.
  std::vector<uint8_t> MakeHelloReply(NodeId node, uint64_t request_id) const;
  /// \brief A request that `from` sent over a connection of its own.
  void Deliver(NodeId from, const format::Message& message, const ReplyFn& reply);

 private:
  struct Peer {
    std::shared_ptr<Connection> connection;  ///< Null while there is none.
    bool greeted = false;
    uint64_t format_epoch = 0;  ///< As greeted.
    bool retry_armed = false;
  };

  void Connect(NodeId node);
  void ConnectAfter(NodeId node, std::chrono::nanoseconds delay);
  void OnFrame(NodeId node, const platform::Frame& frame);
  arrow::Result<PeerName> CheckGreeting(NodeId node, const format::Message& reply) const;
  void OnReply(NodeId node, const format::Message& reply);
  void SendRequests(NodeId node);
  void Lose(NodeId node, const arrow::Status& reason);
  arrow::Status CheckEpochs(const format::NodeHello& hello) const;
  uint64_t EpochOf(NodeId node) const;  ///< As mapped here; 0: not yet.
  flatbuffers::Offset<void> BuildHello(NodeId node,
                                       flatbuffers::FlatBufferBuilder* builder) const;

  EventLoop* loop_;
  region::Region* region_;
  const region::ClusterConfig& config_;
  NodeId self_;
  uint64_t incarnation_;
  Handler handler_;
  PendingRequests requests_;
  std::map<NodeId, Peer> peers_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sheaf::daemon
