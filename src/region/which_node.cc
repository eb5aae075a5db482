#include "region/which_node.h"

#include <string>

#include <arrow/status.h>

#include "platform/process.h"
#include "region/cluster_config.h"
#include "sheaf/types.h"

namespace sheaf::region {

arrow::Status CheckIsNode(const ClusterConfig& config, NodeId node,
                          const std::string& where) {
  if (node.value < config.nodes) return arrow::Status::OK();
  const std::string there = config.nodes == 1
                                ? "node 0 only"
                                : "nodes 0 to " + std::to_string(config.nodes - 1);
  return arrow::Status::Invalid("there is no node ", node.value, ": ", where, " has ",
                                there);
}

std::string OtherHostText(const ClusterConfig& config, NodeId node) {
  return "node " + std::to_string(node.value) + " is on another host, '" +
         config.host_of(node) + "', than this one, '" + platform::HostName() +
         "' (uname -n, or SHEAF_HOST)";
}

}  // namespace sheaf::region
