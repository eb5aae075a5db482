// On which memory a kill matrix runs, and what sessions hold of a cluster at one moment.

#pragma once

#include <cstdint>
#include <filesystem>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <fmt/format.h>

#include "lease/lease.h"
#include "region/region.h"
#include "sheaf/store.h"

namespace sheaf::testing {

constexpr uint32_t kNodes = 2;

struct Setting {
  const char* name;
  bool coherent;
  const char* config;
  uint32_t nodes = kNodes;        ///< Sessions that look are on the first two.
  bool others_may_enter = false;  ///< Users of a group that `config` names.
};

inline void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.name; }

constexpr const char* kSmall =
    "segment_size = \"16MiB\"\nslots_max = 4096\nlease_pages_max = 64\n"
    "records_size = \"16MiB\"\n";
/// Everything that a session may hold.
struct Holdings {
  struct Node {
    uint64_t free_bytes = 0;
    uint64_t used_bytes = 0;
    uint64_t largest_free_bytes = 0;
    uint32_t sessions = 0;
    uint32_t objects = 0;
    bool operator==(const Node&) const = default;
  };
  std::vector<Node> nodes;
  uint64_t leases = 0;
  std::set<std::string> files;  ///< Sockets, locks, logs.
  bool operator==(const Holdings&) const = default;

  std::string ToString() const {
    std::string text = fmt::format("{} leases, {} files", leases, files.size());
    for (const Node& node : nodes) {
      text += fmt::format("; {} bytes free, {} used, {} largest, {} sessions, {} objects",
                          node.free_bytes, node.used_bytes, node.largest_free_bytes,
                          node.sessions, node.objects);
    }
    return text;
  }
};

/// \brief What all sessions hold now.
inline arrow::Result<Holdings> LookAtHoldings(Store* store,
                                              const region::Region& region) {
  Holdings now;
  ARROW_ASSIGN_OR_RAISE(const auto nodes, store->Nodes());
  for (const NodeInfo& node : nodes) {
    now.nodes.push_back({node.free_bytes, node.used_bytes, node.largest_free_bytes,
                         node.sessions, node.objects});
  }
  ARROW_ASSIGN_OR_RAISE(const auto leases, lease::CountLeases(region));
  for (const auto& [cell, count] : leases) now.leases += count;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(region.config().runtime_folder)) {
    now.files.insert(entry.path().string());
  }
  return now;
}

}  // namespace sheaf::testing
