// What a store tells of tables and nodes.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <arrow/type_fwd.h>

#include "sheaf/handle.h"

namespace sheaf {

/// \brief What is known about a table without opening it.
struct TableInfo {
  std::string name;
  Handle handle;
  uint32_t home_node = 0;
  uint32_t version = 0;
  int64_t num_rows = 0;
  int64_t num_columns = 0;
  int64_t num_chunks = 0;
  int64_t bytes = 0;
  bool has_checksums = false;  ///< `Store::Verify` can compare them with its data.
  uint32_t leases = 0;         ///< Sessions that read it now, over all nodes.
  int64_t created_unix_ns = 0;
  std::shared_ptr<arrow::Schema> schema;  ///< Of `Store::Stat`; null in `Store::List`.
  /// `bytes`, by the node in whose memory they lie. Of `Store::Stat`; else empty.
  std::map<uint32_t, int64_t> bytes_on;
};

/// \brief One node and what its memory holds, as its daemon last said.
struct NodeInfo {
  uint32_t id = 0;
  /// As the node of this store sees it: "up"; "joining"; "withdrawn" (silent for long:
  /// what it holds stays held until it is back); "off" (forgotten); "down" (ended on
  /// purpose, or never started).
  std::string state;
  bool is_leader = false;    ///< Of the catalog: names are given by it, and found in it.
  uint64_t incarnation = 0;  ///< One life of its caches and sessions.
  /// Since its heart was last seen to beat by the node of this store; nothing for that
  /// node itself.
  std::optional<uint64_t> heartbeat_age_ms;
  std::string backend;
  std::string coherence;
  uint64_t page_bytes = 0;  ///< Page size that backs its data.
  uint64_t size_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t free_bytes = 0;
  uint64_t largest_free_bytes = 0;
  uint64_t memory_free_bytes = 0;  ///< What the host can give for bytes never used yet.
  uint32_t sessions = 0;
  uint32_t objects = 0;
};

}  // namespace sheaf
