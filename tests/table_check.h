// Whether all tables are right, as one node sees them in memory.

#pragma once

#include <cstdint>
#include <memory>

#include <arrow/result.h>
#include <arrow/status.h>

#include "directory/catalog.h"
#include "directory/directory.h"
#include "platform/cache.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/sheaf.h"
#include "tests/seeded_table.h"
#include "tests/victim_session.h"

namespace sheaf::testing {

/// The memory as node `node` sees it.
inline arrow::Result<std::shared_ptr<region::Region>> AttachAs(
    const region::ClusterConfig& config, uint32_t node) {
  return region::Region::Attach(
      config, {.node = {node}, .role = region::Role::kClient, .relocate = true});
}

/// Drops what the caches of this node hold of any named table.
inline arrow::Status Refresh(const region::Region& region) {
  ARROW_ASSIGN_OR_RAISE(const auto listed, directory::List(region));
  for (const auto& [found, record] : listed) {
    platform::CacheControl& cache = *region.segment(found.object.segment)->data().cache();
    for (const GlobalRange& range : record.own_ranges) {
      cache.Invalidate(region.Resolve(range), range.size_bytes);
    }
  }
  return arrow::Status::OK();
}

/// OK if every table holds what it should. `region` and `store` are of one node.
inline arrow::Status CheckTablesFrom(const region::Region& region, Store* store) {
  ARROW_RETURN_NOT_OK(Refresh(region));
  ARROW_ASSIGN_OR_RAISE(const auto infos, store->List());
  for (const TableInfo& info : infos) {
    ARROW_ASSIGN_OR_RAISE(const Handle handle, HandleOf(info));
    const auto table = store->Open(handle);
    // Who paused may be removing it.
    if (IsStaleGeneration(table.status())) continue;
    ARROW_RETURN_NOT_OK(table.status());
    ARROW_RETURN_NOT_OK(CheckSeededTable(**table));
  }
  return arrow::Status::OK();
}

}  // namespace sheaf::testing
