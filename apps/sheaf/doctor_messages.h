// What `sheaf doctor` says of messages between daemons.

#pragma once

#include <string>
#include <utility>
#include <vector>

#include "apps/sheaf/output.h"
#include "region/cluster_config.h"
#include "sheaf/types.h"

namespace sheaf::cli {

using Problems = std::vector<std::string>;

/// What there is, a line each.
using Facts = std::vector<std::pair<std::string, std::string>>;

struct MessagesReport {
  Facts facts;
  Json json;
  Problems problems;
};

/// \brief What carries messages between the daemons of `config`; with rings, what wakes
/// each daemon, and whether those of this host can ring it.
MessagesReport LookAtMessages(const region::ClusterConfig& config);

/// \brief What is wrong with the doorbell of a node whose daemon runs here; empty if
/// nothing, or it needs none.
std::string DoorbellProblem(const region::ClusterConfig& config, NodeId node);

}  // namespace sheaf::cli
