// What tells one run of a node's daemon from the next.

#pragma once

#include <cstdint>

namespace sheaf::daemon {

struct HomeLife {
  uint64_t incarnation = 0;  ///< Of the node: one life of its caches and sessions.
  uint64_t daemon_starts =
      0;  ///< Of the segment: rises with each daemon, names sessions.
};

}  // namespace sheaf::daemon
