// What wakes a daemon that sleeps while messages for it lie in memory.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include <arrow/result.h>

#include "daemon/event_loop.h"
#include "platform/datagram.h"
#include "platform/file.h"
#include "region/cluster_config.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief What rings the doorbell of a node for those of this host.
enum class BellKind : uint8_t {
  kUnix,  ///< A UNIX socket: it is on this host.
  kUdp,   ///< UDP to its `address`.
  kNone,  ///< Nothing: it looks for messages all the time.
};
BellKind BellKindOf(const region::ClusterConfig& config, NodeId node);

/// \brief Datagrams that say who rings, and nothing else: over a UNIX socket beside the
/// others to nodes of this host, by UDP to those of other hosts that have an `address`.
/// A hint: one may be lost, late or forged, so whoever is rung looks, and looks from time
/// to time without it. Loop thread only; the loop outlives it.
class Doorbell {
 public:
  /// \brief Hear what rings for `self`. IOError if its address is not this host's or in
  /// use. Blocks while a name server is asked for the addresses of others; those that it
  /// does not know are not rung.
  static arrow::Result<std::unique_ptr<Doorbell>> Open(
      EventLoop* loop, const region::ClusterConfig& config, NodeId self);
  ~Doorbell();
  Doorbell(const Doorbell&) = delete;
  Doorbell& operator=(const Doorbell&) = delete;

  /// \brief Hear and ring no more. The lock of the node is held until then.
  void Close();

  /// \brief Whoever rings from now on, at least once for each time; not inside any call.
  void OnRing(std::function<void(NodeId)> on_ring);

  /// \brief Let `node` look. Never blocks, never fails.
  void Ring(NodeId node);

  /// \brief Can `node` ring here? Else we must look without.
  bool Hears(NodeId node) const;

 private:
  struct Line {
    platform::UniqueFd fd;
    std::unique_ptr<FdWatch> watch;
  };
  Doorbell(EventLoop* loop, const region::ClusterConfig& config, NodeId self)
      : loop_(loop), config_(config), self_(self) {}
  void Hear(Line* line);
  void Await(Line* line);

  EventLoop* loop_;
  region::ClusterConfig config_;
  NodeId self_;
  std::function<void(NodeId)> on_ring_;
  Line local_;
  Line remote_;                   ///< None without an address.
  platform::UniqueFd to_remote_;  ///< Where we have none, to ring others.
  std::map<NodeId, platform::DatagramAddress> addresses_;  ///< Of those of other hosts.
};

}  // namespace sheaf::daemon
