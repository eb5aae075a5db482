// One node's daemon, put together.

#pragma once

#include <memory>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "region/cluster_config.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

struct ServerOptions {
  region::ClusterConfig config;
  NodeId node;
  bool relocate = false;  ///< Do not map at the cluster's base address (tests).
  std::string file = "the cluster file";  ///< What errors call the configuration.
};

/// \brief Owns the node's segment, socket and lock from Start until Run returns.
/// Single-threaded; several of different nodes may live in one process (tests).
class Server {
 public:
  /// \brief Lock the node, format and attach its segment, and listen: clients may connect
  /// from now on; they are served by Run. AlreadyExists, naming the process, if a daemon
  /// of this node runs. What a crash left behind is taken over. On failure nothing of
  /// ours stays.
  static arrow::Result<std::unique_ptr<Server>> Start(const ServerOptions& options);
  ~Server();

  /// \brief SIGTERM and SIGINT, and SIGHUP if `hang_up` is set, end Run.
  void StopOnSignals(bool hang_up);

  /// \brief Serve until Stop, a signal or a client's request; then remove socket, segment
  /// and lock. Tables that clients still map stay readable for them. Once.
  arrow::Status Run();

  void Stop();  ///< Any thread.

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf::daemon
