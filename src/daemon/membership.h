// Which nodes this home honours: the admit lines (docs/protocol.md L4, F7). The one place
// that decides it.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief Writes admit[] of the own segment. Every node of the cluster file is admitted
/// with the incarnation that it has when it is first seen up. Single-threaded.
/// TODO(#4): withdrawal, rejoin and "certified off".
class Membership {
 public:
  explicit Membership(region::Region* region);

  /// \brief Attach segments that appeared and admit nodes that were not. Called by a
  /// timer until `complete`, then whenever it is cheap.
  void Update();

  /// \brief All nodes of the cluster file are admitted.
  bool complete() const;

  uint64_t admitted(NodeId node) const { return admitted_[node.value]; }  ///< 0 none

 private:
  void Admit(NodeId node);

  region::Region* region_;
  std::vector<uint64_t> admitted_;  ///< Incarnation, by node.
  std::string last_problem_ = "OK";
};

}  // namespace sheaf::daemon
