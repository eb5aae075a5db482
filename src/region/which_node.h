// What errors say of a node that a cluster, or this host, does not have.

#pragma once

#include <string>

#include <arrow/status.h>

#include "region/cluster_config.h"
#include "sheaf/types.h"

namespace sheaf::region {

/// \brief Invalid if `config` has no node `node`; says which there are. `where` is what
/// the error calls the cluster.
arrow::Status CheckIsNode(const ClusterConfig& config, NodeId node,
                          const std::string& where);

/// \brief "node 3 is on another host, 'alpha', than this one, 'beta' (...)". Of a node
/// that is not local.
std::string OtherHostText(const ClusterConfig& config, NodeId node);

}  // namespace sheaf::region
