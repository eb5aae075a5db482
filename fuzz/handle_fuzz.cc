// Any bytes as a handle: an error, or a handle with just these bytes. Slices of it lie
// inside of it, selections take its columns.
//
// Decoders: src/client/handle.cc

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "format/checksum.h"
#include "fuzz/input.h"
#include "sheaf/handle.h"

namespace {

using sheaf::Handle;

constexpr size_t kChecksumBytes = sizeof(uint64_t);

void CheckSlice(const Handle& whole, int64_t offset, int64_t length) {
  const Handle slice = whole.Slice(offset, length);
  SHEAF_CHECK(slice.object == whole.object && slice.columns == whole.columns);
  if (slice.row_offset < 0) {  // Refused: no Open takes it, nor a slice of it.
    SHEAF_CHECK(slice.Slice(0).row_offset < 0);
    return;
  }
  SHEAF_CHECK(offset >= 0 && whole.row_offset >= 0);
  SHEAF_CHECK(slice.row_offset >= whole.row_offset && slice.num_rows >= -1);
  if (whole.num_rows < 0) return;
  SHEAF_CHECK(slice.num_rows >= 0 && slice.num_rows <= whole.num_rows);
  SHEAF_CHECK(slice.row_offset - whole.row_offset <= whole.num_rows - slice.num_rows);
}

void CheckSelection(const Handle& whole, const std::vector<uint32_t>& positions) {
  const auto selected = whole.Select(positions);
  const bool fits = !whole.columns || std::ranges::all_of(positions, [&](uint32_t i) {
    return i < whole.columns->size();
  });
  SHEAF_CHECK(selected.ok() == fits);
  if (selected.ok()) SHEAF_CHECK(selected->columns->size() == positions.size());
}

void Try(std::string bytes) {
  const auto handle = Handle::Deserialize(bytes);
  if (!handle.ok()) return;
  SHEAF_CHECK(handle->Serialize() == bytes);
  SHEAF_CHECK(handle->num_rows >= -1 && handle->row_offset >= -1);
  // What to ask of it is as arbitrary as it is itself.
  const auto offset = static_cast<int64_t>(handle->object.generation);
  const auto length = static_cast<int64_t>(handle->cluster_id);
  CheckSlice(*handle, offset, length);
  CheckSlice(*handle, offset, -1);
  CheckSlice(*handle, length & 0xFF, offset & 0xFF);
  CheckSelection(*handle, {});
  CheckSelection(*handle, {handle->object.slot, 0});
  CheckSelection(*handle, {handle->object.slot & 3, handle->object.segment.value & 3});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes = sheaf::fuzz::Input(data, size).TakeText();
  Try(bytes);
  if (size <= kChecksumBytes) return 0;
  // As somebody who knows the format would send it.
  const uint64_t checksum = sheaf::format::Checksum({data, size - kChecksumBytes});
  std::memcpy(bytes.data() + size - kChecksumBytes, &checksum, kChecksumBytes);
  Try(bytes);
  return 0;
}
