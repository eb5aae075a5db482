// Looks at a whole cluster while it works.

#pragma once

#include <string>
#include <vector>

#include <arrow/result.h>

#include "region/cluster_config.h"

namespace sheaf::daemon {

/// \brief What stays wrong in the cluster's memory, one sentence each; empty if all is
/// well: nodes that are down or not honoured, slots and records that cannot be read,
/// names that lead elsewhere, references and leases to what is gone, retired objects that
/// nobody reads, sessions without a process, bytes that are neither free nor anybody's.
/// Looks from one node of this host, several times, and says what it saw each time: what
/// is changing while it looks is not a problem. Reads only; about half a second if there
/// is something to say. The status of Region::Attach if no segment can be attached.
arrow::Result<std::vector<std::string>> CheckLiveCluster(
    const region::ClusterConfig& config);

}  // namespace sheaf::daemon
