#include "testing/arena.h"

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>

#include "base/check.h"
#include "base/math.h"
#include "sheaf/types.h"

namespace sheaf::testing {

namespace {

constexpr size_t kNumSegments = std::size(Arena::kSegments);
constexpr int64_t kAlignment = 64;

}  // namespace

Arena::Arena(int64_t segment_size) : segment_size_(segment_size), used_(kNumSegments, 0) {
  void* base =
      mmap(nullptr, kNumSegments * static_cast<size_t>(segment_size),
           PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  SHEAF_CHECK(base != MAP_FAILED);
  base_ = static_cast<uint8_t*>(base);
}

Arena::~Arena() { munmap(base_, kNumSegments * static_cast<size_t>(segment_size_)); }

void Arena::Protect(bool protect) {
  SHEAF_CHECK(mprotect(base_, kNumSegments * static_cast<size_t>(segment_size_),
                       protect ? PROT_NONE : PROT_READ | PROT_WRITE) == 0);
}

void Arena::Clear() {
  copied_.clear();
  originals_.clear();
  used_.assign(kNumSegments, 0);
}

std::shared_ptr<arrow::Table> Arena::CopyIn(const arrow::Table& table) {
  arrow::ChunkedArrayVector columns;
  for (const auto& column : table.columns()) {
    arrow::ArrayVector chunks;
    for (const auto& chunk : column->chunks()) {
      chunks.push_back(arrow::MakeArray(CopyIn(*chunk->data())));
    }
    columns.push_back(std::make_shared<arrow::ChunkedArray>(chunks, column->type()));
  }
  return arrow::Table::Make(table.schema(), columns, table.num_rows());
}

std::shared_ptr<arrow::ArrayData> Arena::CopyIn(const arrow::ArrayData& array) {
  auto copy = array.Copy();
  for (auto& buffer : copy->buffers) buffer = CopyIn(buffer);
  for (auto& child : copy->child_data) child = CopyIn(*child);
  if (copy->dictionary != nullptr) copy->dictionary = CopyIn(*copy->dictionary);
  return copy;
}

std::shared_ptr<arrow::Buffer> Arena::CopyIn(
    const std::shared_ptr<arrow::Buffer>& buffer) {
  if (buffer == nullptr) return nullptr;
  auto& copy = copied_[{buffer->data(), buffer->size()}];
  if (copy != nullptr) return copy;
  originals_.push_back(buffer);
  const size_t segment = next_++ % kNumSegments;
  const int64_t offset = used_[segment];
  used_[segment] += static_cast<int64_t>(
      RoundUp(static_cast<uint64_t>(buffer->size()), static_cast<uint64_t>(kAlignment)));
  SHEAF_CHECK(used_[segment] <= segment_size_);
  uint8_t* at = base_ + static_cast<int64_t>(segment) * segment_size_ + offset;
  if (buffer->size() != 0) {
    std::memcpy(at, buffer->data(), static_cast<size_t>(buffer->size()));
  }
  copy = std::make_shared<arrow::Buffer>(at, buffer->size());
  return copy;
}

arrow::Result<GlobalAddress> Arena::Locate(const uint8_t* address,
                                           int64_t size_bytes) const {
  for (size_t i = 0; i < kNumSegments; ++i) {
    const uint8_t* begin = base_ + static_cast<int64_t>(i) * segment_size_;
    if (address >= begin && address < begin + segment_size_ &&
        size_bytes <= begin + segment_size_ - address) {
      return GlobalAddress{kSegments[i], static_cast<uint64_t>(address - begin)};
    }
  }
  return arrow::Status::Invalid(size_bytes, " bytes outside the arena");
}

std::optional<uint64_t> Arena::SegmentSize(SegmentId segment) const {
  for (const SegmentId& known : kSegments) {
    if (known == segment) return static_cast<uint64_t>(segment_size_);
  }
  return std::nullopt;
}

arrow::Result<std::shared_ptr<arrow::Buffer>> Arena::BufferAt(GlobalAddress address,
                                                              int64_t size_bytes) const {
  for (size_t i = 0; i < kNumSegments; ++i) {
    // Tables without any bytes have no home segment; here any will do.
    if (kSegments[i] != address.segment && size_bytes != 0) continue;
    SHEAF_CHECK(FitsWithin(address.offset, static_cast<uint64_t>(size_bytes),
                           static_cast<uint64_t>(segment_size_)));
    return std::make_shared<arrow::Buffer>(
        base_ + static_cast<int64_t>(i) * segment_size_ + address.offset, size_bytes);
  }
  return arrow::Status::Invalid("no segment ", address.segment.value);
}

bool Arena::Holds(const arrow::Table& table) const {
  for (const auto& column : table.columns()) {
    for (const auto& chunk : column->chunks()) {
      if (!Holds(*chunk->data())) return false;
    }
  }
  return true;
}

bool Arena::Holds(const arrow::ArrayData& array) const {
  for (const auto& buffer : array.buffers) {
    if (buffer != nullptr && !Locate(buffer->data(), buffer->size()).ok()) return false;
  }
  for (const auto& child : array.child_data) {
    if (!Holds(*child)) return false;
  }
  return array.dictionary == nullptr || Holds(*array.dictionary);
}

}  // namespace sheaf::testing
