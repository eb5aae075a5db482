// What tells one run of a node's daemon from the next.

#pragma once

#include <cstdint>

namespace sheaf::daemon {

/// Beyond it a session's id would not fit into a word of the page table. After so many
/// starts the count begins anew: ids that are in use are passed.
constexpr uint64_t kDaemonStartsMax = (uint64_t{1} << 31) - 1;

struct HomeLife {
  uint64_t incarnation = 0;  ///< Of the node: one life of its caches and sessions.
  uint64_t daemon_starts =
      0;               ///< Of the segment: rises with each daemon, names sessions.
  bool is_new = true;  ///< The incarnation: on another boot than the daemon before.
};

/// Sessions of one life have ids from here on; the first is the home itself.
constexpr int kLifeShift = 32;
constexpr uint64_t HomeSession(const HomeLife& life) {
  return life.daemon_starts << kLifeShift;
}
constexpr bool IsHomeSession(uint64_t session) {
  return (session & ((uint64_t{1} << kLifeShift) - 1)) == 0;
}

}  // namespace sheaf::daemon
