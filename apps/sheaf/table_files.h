// Tables in files: Parquet, Arrow IPC (file and stream) and CSV, told apart by their
// suffix.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

#include "apps/sheaf/decode_pool.h"

namespace sheaf::cli {

/// \brief Called with the share of the file that has been read, 0 to 1.
using ProgressFn = std::function<void(double)>;

/// \brief Which of a file's rows: share `index` (from 0) of `of` shares in row order, cut
/// between row groups (Parquet) or record batches (Arrow IPC file), as even as these are.
struct FileShare {
  uint32_t index = 0;
  uint32_t of = 1;
  /// Told how many there are, and what they are called; may be empty.
  std::function<void(int count, const char* what)> did_count = {};
};

/// \brief Invalid, listing the suffixes there are, if `path` has none of them.
arrow::Status CheckSuffix(const std::string& path);

/// \brief Decode `path` batch by batch into memory of `pool`, which then knows what the
/// data takes. Scratch is private, but for compressed bodies of Arrow IPC. Errors, here
/// or of a batch, name the file and say if it is missing, truncated, or not what its
/// suffix says; OutOfMemory as soon as `pool` says so. Invalid if only a share of a file
/// is asked for that cannot be cut.
arrow::Result<std::shared_ptr<arrow::RecordBatchReader>> OpenTableFile(
    const std::string& path, const std::shared_ptr<DecodePool>& pool, ProgressFn progress,
    const FileShare& share = {});

/// \brief Write `table` to `path`: to `DraftOf` it, which then takes its name.
arrow::Status WriteTableFile(const arrow::Table& table, const std::string& path);
/// \brief A file beside `path`.
std::string DraftOf(const std::string& path);

}  // namespace sheaf::cli
