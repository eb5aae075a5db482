// Any bytes as a descriptor: an error, or a table that can be made. For libFuzzer; seeds
// are the descriptors in tests/data/.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "codec/codec.h"
#include "sheaf/types.h"

namespace {

constexpr uint64_t kSegmentSize = uint64_t{1} << 40;

/// Addresses that must not be touched: no memory is there.
arrow::Result<std::shared_ptr<arrow::Buffer>> BufferAt(sheaf::GlobalAddress address,
                                                       int64_t size_bytes) {
  constexpr uintptr_t kNowhere = uintptr_t{1} << 60;
  return std::make_shared<arrow::Buffer>(
      reinterpret_cast<const uint8_t*>(kNowhere + address.offset), size_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const auto descriptor = sheaf::codec::Descriptor::Make(
      arrow::Buffer::FromString(bytes), [](sheaf::SegmentId) { return kSegmentSize; });
  if (!descriptor.ok()) return 0;
  SHEAF_CHECK((*descriptor)->data_bytes() >= 0);
  SHEAF_CHECK((*descriptor)->ToTable(BufferAt).ok());
  const auto visit = [](const sheaf::GlobalRange& range,
                        std::optional<uint64_t> /*sum*/) {
    SHEAF_CHECK(range.end_offset() <= kSegmentSize);
    return arrow::Status::OK();
  };
  SHEAF_CHECK((*descriptor)->VisitBuffers(visit).ok());
  return 0;
}
