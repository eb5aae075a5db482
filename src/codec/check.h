// Is the flat form of a table's arrays what its schema says? Run on what others wrote
// before it is used, and on what `Encode` made before it is let out: both sides of the
// boundary.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

#include "codec/codec.h"
#include "format/descriptor_generated.h"
#include "sheaf/types.h"

namespace sheaf::codec {

/// \brief The vectors of `format::TableDescriptor` that tell of arrays. Borrowed.
struct ArrayTree {
  std::span<const uint32_t> chunk_counts;     // [num_columns]
  std::span<const format::ArrayNode> arrays;  // Preorder.
  std::span<const uint32_t> buffer_refs;      // By array; 0 absent, else 1 + index.
  std::span<const format::BufferRange> buffers;
  std::optional<std::span<const uint64_t>> checksums;  // By buffer.
  std::span<const format::TablePart> parts;            // In row order; none: one part.
};

inline GlobalRange RangeOf(const format::BufferRange& buffer) {
  return {{SegmentId{buffer.segment()}, buffer.offset()}, buffer.size_bytes()};
}

/// \brief Where the first chunk of a column begins.
struct TreePosition {
  size_t array = 0;
  size_t buffer_ref = 0;
};

/// \brief Whether chunks must say how many nulls they have (DESC-8).
enum class ChunkNulls : uint8_t { kKnown, kMayBeUnknown };

/// \brief Called with the index of a buffer in `ArrayTree::buffers` and the column that
/// refers to it.
using VisitRefFn = std::function<arrow::Status(size_t buffer, int column)>;

/// \brief Check all that can be told without reading data: counts, lengths, offsets, null
/// counts, and that each buffer is as large as type, offset and length demand. One pass
/// with a stack of its own. Returns where each column begins, and the end [num_columns +
/// 1]. Invalid names column, chunk and field. `visit`, if given, is called with every
/// reference to a buffer, in their order; an error of it gets those names too.
arrow::Result<std::vector<TreePosition>> CheckArrays(const arrow::Schema& schema,
                                                     int64_t num_rows,
                                                     const ArrayTree& tree,
                                                     ChunkNulls chunk_nulls,
                                                     const VisitRefFn& visit = nullptr);

/// \brief Check that each buffer lies in its segment.
arrow::Status CheckBuffers(std::span<const format::BufferRange> buffers,
                           const SegmentSizeFn& segment_size);

/// \brief Check that there are no checksums, or as many as buffers.
arrow::Status CheckChecksums(const ArrayTree& tree);

/// \brief Check that there are no parts, or such as have `num_rows` rows together and
/// were built in segments that exist.
arrow::Status CheckParts(std::span<const format::TablePart> parts, int64_t num_rows,
                         const SegmentSizeFn& segment_size);

}  // namespace sheaf::codec
