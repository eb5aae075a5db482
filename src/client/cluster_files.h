// The files that tell processes of this host what a cluster is, and who may change them.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/cancel.h>

#include "client/daemon_processes.h"
#include "platform/file.h"
#include "region/cluster_config.h"

namespace sheaf::client {

/// \brief IOError, with the reason, if it cannot be read.
arrow::Result<std::string> ReadFile(const std::string& path);

/// \brief The cluster file where this host's processes look for it, and one beside the
/// memory, which is found when the runtime folder is lost. Each appears whole or not at
/// all.
arrow::Status WriteClusterFiles(const region::ClusterConfig& config);

/// \brief The number of a cluster that several hosts start from one file: what the file
/// says, else one that follows from the name.
uint64_t SharedClusterId(const region::ClusterConfig& config);

/// \brief One starter or stopper of a cluster at a time. Leaves no file behind.
class ControlLock {
 public:
  /// \brief AlreadyExists if another one has it until `deadline`; Cancelled.
  static arrow::Result<std::unique_ptr<ControlLock>> Acquire(
      const std::string& name, Deadline deadline, const arrow::StopToken& stop_token);
  explicit ControlLock(platform::FileLock lock) : lock_(std::move(lock)) {}
  ~ControlLock() { static_cast<void>(lock_.Remove()); }
  ControlLock(const ControlLock&) = delete;
  ControlLock& operator=(const ControlLock&) = delete;

 private:
  platform::FileLock lock_;
};

/// \brief Start a daemon of the cluster that `path` describes, other daemons of which may
/// run, here or on other hosts: prepare the memory folder, write the cluster files, and
/// call `start` with the complete configuration, while nobody else on this host starts or
/// stops the cluster. Invalid, saying what to do, if the cluster runs here, or its memory
/// was made, with another file or one that lists more nodes; IOError if there is no such
/// file; AlreadyExists if another starter or stopper is not done by `deadline`; what
/// `start` returns. After a failure the files are as they were, and the memory goes if
/// there was none before.
arrow::Status JoinCluster(
    const std::string& path, Deadline deadline,
    const std::function<arrow::Status(const region::ClusterConfig&)>& start);

/// \brief Make the segment of a node in the device that the cluster file `path` names; if
/// `force`, whatever is in it. Invalid if there is a segment or somebody else's bytes, or
/// the file names no device; AlreadyExists if the node's daemon runs, here or elsewhere.
arrow::Status FormatNode(const std::string& path, NodeId node, bool force);

}  // namespace sheaf::client
