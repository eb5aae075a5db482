// The daemons of a cluster as processes of this host: started, and ended.

#pragma once

#include <chrono>
#include <string>
#include <vector>

#include <arrow/status.h>
#include <arrow/util/cancel.h>

#include "platform/file.h"
#include "platform/process.h"
#include "region/cluster_config.h"
#include "sheaf/types.h"

namespace sheaf::client {

using Deadline = std::chrono::nanoseconds;  ///< In platform::BootTime.

constexpr std::chrono::milliseconds kPollPeriod{5};

inline bool Passed(Deadline deadline) { return platform::BootTime() > deadline; }

/// \brief A daemon that this process started, to be ended again if the others do not
/// start.
struct StartedDaemon {
  NodeId node;
  platform::UniqueFd pidfd;
};

/// \brief True if somebody listens at the socket of `node`.
bool Answers(const region::ClusterConfig& config, NodeId node);

/// \brief Start `daemon` (a path) for each node whose daemon does not answer, and return
/// when all do. IOError with the last line of its log if one ends; reason timeout;
/// Cancelled. `started` has those that run, also after a failure.
arrow::Status StartDaemons(const region::ClusterConfig& config, const std::string& daemon,
                           Deadline deadline, const arrow::StopToken& stop_token,
                           std::vector<StartedDaemon>* started);

/// \brief End what was started, by signals, since they may not listen yet: SIGTERM, and
/// SIGKILL for those that still run after 10 s. Returns when all have ended, or 10 s
/// after that.
void EndDaemons(const std::vector<StartedDaemon>& started);

/// \brief Ask the daemons to end, one after the other, and wait until their processes
/// have. Reason timeout if one does not; those of lower nodes have ended then.
arrow::Status StopDaemons(const region::ClusterConfig& config, Deadline deadline);

}  // namespace sheaf::client
