// Any bytes as a descriptor: an error, or a table that can be made, whole and column by
// column, over buffers inside of the segments; and that can be described again.
//
// Decoders: src/codec/descriptor.cc src/codec/check.cc src/codec/schema_decode.cc
// src/codec/layout.cc

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include "base/check.h"
#include "base/math.h"
#include "codec/codec.h"
#include "fuzz/input.h"
#include "sheaf/types.h"

namespace {

using sheaf::GlobalAddress;
using sheaf::GlobalRange;
using sheaf::SegmentId;
using sheaf::codec::Descriptor;

constexpr uint32_t kSegments = 8;
constexpr uint64_t kSegmentSize = uint64_t{1} << 40;
/// Where the segments lie: addresses that must not be touched, no memory is there.
constexpr uint64_t kNowhere = uint64_t{1} << 60;

std::optional<uint64_t> SegmentSize(SegmentId segment) {
  return segment.value < kSegments ? std::optional(kSegmentSize) : std::nullopt;
}

arrow::Result<std::shared_ptr<arrow::Buffer>> BufferAt(GlobalAddress address,
                                                       int64_t size_bytes) {
  SHEAF_CHECK(address.segment.value < kSegments && size_bytes >= 0);
  SHEAF_CHECK(
      sheaf::FitsWithin(address.offset, static_cast<uint64_t>(size_bytes), kSegmentSize));
  return std::make_shared<arrow::Buffer>(
      reinterpret_cast<const uint8_t*>(kNowhere + address.segment.value * kSegmentSize +
                                       address.offset),
      size_bytes);
}

arrow::Result<GlobalAddress> Locate(const uint8_t* address, int64_t /*size_bytes*/) {
  const uint64_t offset = reinterpret_cast<uint64_t>(address) - kNowhere;
  return GlobalAddress{{static_cast<uint32_t>(offset / kSegmentSize)},
                       offset % kSegmentSize};
}

/// Sorted, merged, and no more bytes than `data_bytes`.
void CheckRanges(const std::vector<GlobalRange>& ranges, int64_t data_bytes) {
  uint64_t sum = 0;
  std::optional<GlobalRange> last;
  for (const GlobalRange& range : ranges) {
    SHEAF_CHECK(range.size_bytes > 0 && range.begin.segment.value < kSegments);
    SHEAF_CHECK(sheaf::FitsWithin(range.begin.offset, range.size_bytes, kSegmentSize));
    if (last) {
      SHEAF_CHECK(last->begin.segment < range.begin.segment ||
                  (last->begin.segment == range.begin.segment &&
                   last->end_offset() < range.begin.offset));
    }
    last = range;
    sum += range.size_bytes;
  }
  SHEAF_CHECK(sum <= static_cast<uint64_t>(data_bytes));
}

void CheckTable(const Descriptor& descriptor, const arrow::Table& table) {
  SHEAF_CHECK(table.num_rows() == descriptor.num_rows());
  SHEAF_CHECK(table.num_columns() == descriptor.num_columns());
  int64_t num_chunks = 0;
  for (const auto& column : table.columns()) {
    SHEAF_CHECK(column->length() == table.num_rows());
    num_chunks += column->num_chunks();
  }
  SHEAF_CHECK(num_chunks == descriptor.num_chunks());
}

/// All of the data, in buffers inside of the segments.
void CheckBuffers(const Descriptor& descriptor) {
  int64_t bytes = 0;
  const auto visit = [&](const GlobalRange& range, std::optional<uint64_t> checksum) {
    CheckRanges({range}, descriptor.data_bytes());
    SHEAF_CHECK(checksum.has_value() == descriptor.has_checksums());
    bytes += static_cast<int64_t>(range.size_bytes);
    return arrow::Status::OK();
  };
  SHEAF_CHECK(descriptor.VisitBuffers(visit).ok());
  SHEAF_CHECK(bytes >= descriptor.data_bytes());
}

/// Its first and last column alone, the last one twice.
void CheckProjection(const Descriptor& descriptor) {
  if (descriptor.num_columns() == 0) return;
  const int last = descriptor.num_columns() - 1;
  const std::vector<int> columns = {0, last};
  CheckRanges(descriptor.Ranges({columns}), descriptor.data_bytes());
  const auto table = descriptor.ToTable(BufferAt, std::vector<int>{0, last, last});
  SHEAF_CHECK(table.ok() && (*table)->num_columns() == 3);
  SHEAF_CHECK(!descriptor.ToTable(BufferAt, std::vector<int>{last + 1}).ok());
}

/// Nulls of a chunk that the rows cut are counted, and the bytes of these are not there.
bool CutsNulls(const arrow::Table& table, int64_t begin, int64_t end) {
  for (const auto& column : table.columns()) {
    int64_t row = 0;
    for (const auto& chunk : column->chunks()) {
      const int64_t next = row + chunk->length();
      const bool is_cut = (begin > row && begin < next) || (end > row && end < next);
      if (is_cut && chunk->data()->null_count != 0) return true;
      row = next;
    }
  }
  return false;
}

/// Parts of all rows, each of which can be made alone, over no more than the ranges said.
void CheckParts(const Descriptor& descriptor, const arrow::Table& whole) {
  constexpr int64_t kPartsLookedAt = 64;
  int64_t row = 0;
  int64_t looked_at = 0;
  for (const sheaf::codec::Part& part : descriptor.parts()) {
    SHEAF_CHECK(part.segment.value < kSegments);
    SHEAF_CHECK(part.num_rows >= 0 && part.num_rows <= descriptor.num_rows() - row);
    if (looked_at++ < kPartsLookedAt) {
      const sheaf::codec::Selection rows({}, row, part.num_rows);
      CheckRanges(descriptor.Ranges(rows), descriptor.data_bytes());
      if (!CutsNulls(whole, row, row + part.num_rows)) {
        const auto table = descriptor.ToTable(BufferAt, rows);
        SHEAF_CHECK(table.ok() && (*table)->num_rows() == part.num_rows);
      }
    }
    row += part.num_rows;
  }
  SHEAF_CHECK(descriptor.parts().empty() || row == descriptor.num_rows());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes = sheaf::fuzz::Input(data, size).TakeText();
  const auto descriptor = Descriptor::Make(arrow::Buffer::FromString(bytes), SegmentSize);
  if (!descriptor.ok()) return 0;
  SHEAF_CHECK((*descriptor)->data_bytes() >= 0);
  CheckRanges((*descriptor)->Ranges(), (*descriptor)->data_bytes());
  const auto table = (*descriptor)->ToTable(BufferAt);
  SHEAF_CHECK(table.ok());
  CheckTable(**descriptor, **table);
  CheckProjection(**descriptor);
  CheckBuffers(**descriptor);
  CheckParts(**descriptor, **table);
  const auto encoded =
      sheaf::codec::Encode(**table, Locate, nullptr, (*descriptor)->parts());
  SHEAF_CHECK(encoded.ok());
  const auto again = Descriptor::Make(*encoded, SegmentSize);
  SHEAF_CHECK(again.ok());
  SHEAF_CHECK((*again)->Ranges() == (*descriptor)->Ranges());
  SHEAF_CHECK((*again)->parts() == (*descriptor)->parts());
  SHEAF_CHECK((*again)->schema()->Equals(*(*descriptor)->schema(), true));
  return 0;
}
