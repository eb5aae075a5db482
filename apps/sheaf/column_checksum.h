// A checksum of what a column says, however it lies in memory.

#pragma once

#include <cstdint>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

namespace sheaf::cli {

/// \brief XXH3 over the values of `column` in their order: lengths of lists and text,
/// what is null, and the bytes of what is not. Chunks, offsets, padding, and what lies
/// under a null do not matter; neither do dictionaries, run ends, views and offset
/// widths: the value they stand for counts. Equal columns have equal sums on every node
/// and after a way through a file. `column` must have passed ValidateFull.
arrow::Result<uint64_t> ColumnChecksum(const arrow::ChunkedArray& column);

}  // namespace sheaf::cli
