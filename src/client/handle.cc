#include "sheaf/handle.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/checksum.h"

namespace sheaf {
namespace {

constexpr uint32_t kHandleMagic = 0x31484853;  // "SHH1"
constexpr uint32_t kAllColumns = 0xFFFFFFFF;

// Offset of a slice of rows that its parent does not name: no Open takes it.
constexpr int64_t kOutsideRows = -1;

// Layout of a serialised handle; the column indices and the checksum follow.
struct HandleHead {
  uint32_t magic;
  uint32_t column_count;
  uint64_t cluster_id;
  uint32_t segment;
  uint32_t slot;
  uint64_t generation;
  int64_t row_offset;
  int64_t num_rows;
};
static_assert(sizeof(HandleHead) == 48);

uint64_t ChecksumOf(std::string_view bytes) {
  return format::Checksum({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

}  // namespace

Handle Handle::Slice(int64_t offset, int64_t length) const {
  Handle slice = *this;
  // Of a handle without an end only the object knows which rows there are. One that came
  // from elsewhere may name more than can be counted.
  const bool bounded = num_rows >= 0;
  const int64_t countable =
      std::numeric_limits<int64_t>::max() - std::max<int64_t>(row_offset, 0);
  const int64_t rows_max = bounded ? std::min(num_rows, countable) : countable;
  if (row_offset < 0 || offset < 0 || offset > rows_max || length < -1 ||
      length > rows_max - offset) {
    slice.row_offset = kOutsideRows;
    return slice;
  }
  slice.row_offset = row_offset + offset;
  slice.num_rows = length < 0 && bounded ? rows_max - offset : length;
  return slice;
}

arrow::Result<Handle> Handle::Select(const std::vector<uint32_t>& positions) const {
  Handle selected = *this;
  selected.columns = positions;
  if (!columns) return selected;
  for (uint32_t& position : *selected.columns) {
    if (position >= columns->size()) {
      return arrow::Status::Invalid("column ", position, " of a handle that selects ",
                                    columns->size(), " columns");
    }
    position = (*columns)[position];
  }
  return selected;
}

std::string Handle::Serialize() const {
  const auto count = columns ? static_cast<uint32_t>(columns->size()) : kAllColumns;
  const HandleHead head{kHandleMagic,         count,       cluster_id,
                        object.segment.value, object.slot, object.generation,
                        row_offset,           num_rows};
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof(head));
  if (columns) {
    bytes.append(reinterpret_cast<const char*>(columns->data()),
                 columns->size() * sizeof(uint32_t));
  }
  const uint64_t checksum = ChecksumOf(bytes);
  bytes.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  return bytes;
}

arrow::Result<Handle> Handle::Deserialize(std::string_view bytes) {
  HandleHead head{};
  uint64_t checksum = 0;
  if (bytes.size() < sizeof(head) + sizeof(checksum)) {
    return arrow::Status::Invalid("a handle has at least 56 bytes, got ", bytes.size());
  }
  std::memcpy(&head, bytes.data(), sizeof(head));
  if (head.magic != kHandleMagic) {
    return arrow::Status::Invalid("not a handle: wrong first four bytes");
  }
  const uint64_t count = head.column_count == kAllColumns ? 0 : head.column_count;
  const uint64_t body_size = sizeof(head) + count * sizeof(uint32_t);
  if (bytes.size() != body_size + sizeof(checksum)) {
    return arrow::Status::Invalid("a handle of ", count, " columns has ",
                                  body_size + sizeof(checksum), " bytes, got ",
                                  bytes.size());
  }
  std::memcpy(&checksum, bytes.data() + body_size, sizeof(checksum));
  if (checksum != ChecksumOf(bytes.substr(0, body_size))) {
    return arrow::Status::Invalid("handle with a wrong checksum");
  }
  if (head.row_offset < kOutsideRows || head.num_rows < -1) {
    return arrow::Status::Invalid("handle with row_offset ", head.row_offset,
                                  " and num_rows ", head.num_rows);
  }
  Handle handle{head.cluster_id,
                {{head.segment}, head.slot, head.generation},
                head.row_offset,
                head.num_rows,
                std::nullopt};
  if (head.column_count != kAllColumns) {
    handle.columns.emplace(count);
    if (count > 0)
      std::memcpy(handle.columns->data(), bytes.data() + sizeof(head),
                  count * sizeof(uint32_t));
  }
  return handle;
}

}  // namespace sheaf
