#include "client/source_check.h"

#include <cstddef>
#include <cstdint>

#include <arrow/array/array_base.h>
#include <arrow/array/array_nested.h>
#include <arrow/array/data.h>
#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/byte_size.h>
#include <arrow/util/checked_cast.h>

#include "base/math.h"
#include "codec/layout.h"
#include "platform/bus_error.h"

namespace sheaf::client {
namespace {

arrow::Status CheckPages(const uint8_t* data, uint64_t size_bytes) {
  constexpr size_t kPageBytes = 4096;
  return platform::CheckReadable({data, size_bytes}, kPageBytes);
}

// `is_index`: for the array around it, whatever it is by itself.
arrow::Status CheckIndexesOf(const arrow::ArrayData& array, bool is_index) {
  ARROW_ASSIGN_OR_RAISE(const codec::Layout layout,
                        codec::LayoutOf(codec::StorageOf(*array.type)));
  for (size_t i = 0; i < array.buffers.size(); ++i) {
    if (array.buffers[i] == nullptr) continue;
    const codec::BufferKind kind = layout.buffer(i).kind;
    if (is_index || kind == codec::BufferKind::kOffsets ||
        (kind == codec::BufferKind::kFixed && layout.child_count > 0)) {
      ARROW_RETURN_NOT_OK(CheckBuffer(*array.buffers[i]));
    }
  }
  for (size_t i = 0; i < array.child_data.size(); ++i) {
    const bool run_ends = layout.child_rule == codec::ChildRule::kRunEnds && i == 0;
    ARROW_RETURN_NOT_OK(CheckIndexesOf(*array.child_data[i], run_ends));
  }
  if (array.dictionary == nullptr) return arrow::Status::OK();
  return CheckIndexesOf(*array.dictionary, /*is_index=*/false);
}

}  // namespace

arrow::Status CheckBuffer(const arrow::Buffer& buffer) {
  return CheckPages(buffer.data(), CheckedCast<uint64_t>(buffer.size()));
}

arrow::Status CheckIndexes(const arrow::ArrayData& array) {
  return CheckIndexesOf(array, /*is_index=*/false);
}

arrow::Status CheckReferenced(const arrow::ArrayData& array) {
  ARROW_ASSIGN_OR_RAISE(const auto found, arrow::util::ReferencedRanges(array));
  const auto& ranges = arrow::internal::checked_cast<const arrow::StructArray&>(*found);
  const auto column = [&](int field) {
    return ranges.field(field)->data()->GetValues<uint64_t>(1);
  };
  const uint64_t* starts = column(0);
  const uint64_t* offsets = column(1);
  const uint64_t* sizes = column(2);
  for (int64_t i = 0; i < ranges.length(); ++i) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): Arrow gives addresses as numbers
    const auto* begin = reinterpret_cast<const uint8_t*>(starts[i] + offsets[i]);
    ARROW_RETURN_NOT_OK(CheckPages(begin, sizes[i]));
  }
  return arrow::Status::OK();
}

}  // namespace sheaf::client
