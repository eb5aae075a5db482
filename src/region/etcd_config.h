// Table `[etcd]` of the cluster file: an etcd that decides what memory alone cannot
// (docs/protocol.md section 8).

#pragma once

#include <string>

#include "base/etcd_access.h"

namespace sheaf::region {

/// \brief Nodes need not agree on it, and it may change from start to start.
struct EtcdConfig {
  EtcdAccess access;              ///< No endpoints: there is no etcd.
  std::string prefix = "/sheaf";  ///< Keys are `<prefix>/<cluster>-<id>/...`.
  int time_to_live_s = 10;        ///< Silence after which a daemon is not registered.
  std::string fence_command;      ///< Path of a program; empty: none.

  bool is_used() const { return !access.endpoints.empty(); }
  bool operator==(const EtcdConfig&) const = default;
};

}  // namespace sheaf::region
