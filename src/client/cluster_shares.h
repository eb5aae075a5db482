// Who else may use a cluster of this host, and how much of it each may hold.

#pragma once

#include <arrow/status.h>

#include "region/cluster_config.h"
#include "sheaf/cluster.h"

namespace sheaf::client {

/// \brief What `options` say of groups and quotas, in `config`. These, unlike its memory,
/// may change from one run of a cluster to the next.
void SetShares(const ClusterOptions& options, region::ClusterConfig* config);
void CopyShares(const region::ClusterConfig& from, region::ClusterConfig* to);

/// \brief Let the group of `config`, if it has one, come to the cluster: find it by its
/// name, read the cluster file, and connect. All else in its runtime folder stays its
/// user's alone. IOError, saying what to do, if the group cannot come so far; KeyError if
/// there is no such group.
arrow::Status ShareFolders(const region::ClusterConfig& config);

}  // namespace sheaf::client
