// How a table is put, and what a put did.

#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "sheaf/handle.h"

namespace sheaf {

struct PutOptions {
  /// If the name exists make a new version; readers keep the old one.
  bool replace = false;
  /// Replace only this version (compare and swap).
  std::optional<uint32_t> expected_version = std::nullopt;
  /// Store checksums of the data, for `Verify` and `Validation::kFull`: reads it once.
  bool checksum = false;
  /// The node whose memory the table is to lie in, and who is its home; else the store's
  /// own.
  std::optional<uint32_t> on = std::nullopt;
  /// Where that node's memory is full, use that of others: of those with most free bytes
  /// first. The receipt says how much lies where. Not of a user who is over a quota.
  bool spill = false;
};

/// \brief What a put did. Nothing is ever copied silently.
struct PutReceipt {
  std::string name;
  Handle handle;         ///< Of the new object.
  uint32_t version = 0;  ///< Rises with each put of this name; 0 when unnamed.
  int64_t num_rows = 0;
  int64_t bytes = 0;          ///< Distinct data bytes that the table refers to.
  int64_t bytes_shared = 0;   ///< Of these: were in the region already.
  int64_t bytes_copied = 0;   ///< Of these: copied into the region by this call.
  int64_t bytes_flushed = 0;  ///< Written back from caches (0 on coherent memory).
  std::map<uint32_t, int64_t>
      bytes_on;  ///< `bytes`, by the node in whose memory they lie.
  std::chrono::nanoseconds duration{0};
};

struct ShareOptions {
  bool keep = false;      ///< Outlives this session; ends with `Drop`.
  bool checksum = false;  ///< As for `PutOptions`.
  std::optional<uint32_t> on = std::nullopt;  ///< As for `PutOptions`.
  bool spill = false;                         ///< As for `PutOptions`.
};

}  // namespace sheaf
