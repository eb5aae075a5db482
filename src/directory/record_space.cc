#include "directory/record_space.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/math.h"
#include "format/layout.h"

namespace sheaf::directory {
namespace {

/// Step in which memory is really allocated: a system call for some thousand records.
constexpr uint64_t kGrowBytes = uint64_t{1} << 20;

}  // namespace

RecordSpace::RecordSpace(uint64_t size_bytes, AllocateFn allocate)
    : size_bytes_(RoundDown(size_bytes, format::kGranuleBytes)),
      allocate_(std::move(allocate)) {}

arrow::Result<uint64_t> RecordSpace::Allocate(uint64_t size_bytes) {
  SHEAF_CHECK(size_bytes > 0);
  if (size_bytes > size_bytes_) {
    return arrow::Status::CapacityError(
        "a record of ", size_bytes, " bytes exceeds the record area of ", size_bytes_);
  }
  const uint64_t size = RoundUp(size_bytes, format::kGranuleBytes);
  auto best = by_size_.lower_bound({size, 0});
  if (best == by_size_.end()) {
    ARROW_RETURN_NOT_OK(Grow(size));
    best = by_size_.lower_bound({size, 0});
  }
  const auto [block_size, offset] = *best;
  Erase(free_.find(offset));
  if (block_size > size) Insert(offset + size, block_size - size);
  return offset;
}

void RecordSpace::Free(uint64_t offset, uint64_t size_bytes) {
  const uint64_t size = RoundUp(size_bytes, format::kGranuleBytes);
  SHEAF_CHECK(size > 0 && IsAligned(offset, format::kGranuleBytes));
  SHEAF_CHECK(FitsWithin(offset, size, frontier_));
  Insert(offset, size);
}

arrow::Status RecordSpace::Reserve(uint64_t offset, uint64_t size_bytes) {
  if (size_bytes == 0 || !IsAligned(offset, format::kGranuleBytes) ||
      !FitsWithin(offset, size_bytes, size_bytes_)) {
    return arrow::Status::Invalid("record at ", offset, "+", size_bytes,
                                  " is not inside the record area of ", size_bytes_,
                                  " bytes");
  }
  const uint64_t size = RoundUp(size_bytes, format::kGranuleBytes);
  if (offset + size > frontier_) {
    // A former life allocated whole steps: what follows is there, too.
    const uint64_t frontier = std::min(RoundUp(offset + size, kGrowBytes), size_bytes_);
    const uint64_t old_frontier = std::exchange(frontier_, frontier);
    Insert(old_frontier, frontier_ - old_frontier);
  }
  Block block = free_.upper_bound(offset);
  if (block != free_.begin()) --block;
  if (block == free_.end() || block->first > offset ||
      !FitsWithin(offset - block->first, size, block->second)) {
    return arrow::Status::Invalid("record at ", offset, "+", size_bytes,
                                  " overlaps another one");
  }
  const auto [begin, old_size] = *block;
  Erase(block);
  if (offset > begin) Insert(begin, offset - begin);
  const uint64_t end = offset + size;
  if (begin + old_size > end) Insert(end, begin + old_size - end);
  return arrow::Status::OK();
}

uint64_t RecordSpace::free_bytes() const {
  uint64_t sum = size_bytes_ - frontier_;
  for (const auto& [offset, size] : free_) sum += size;
  return sum;
}

/// Moves the frontier so that its last free block has at least `size_bytes`.
arrow::Status RecordSpace::Grow(uint64_t size_bytes) {
  uint64_t tail = 0;
  if (!free_.empty()) {
    const auto& [offset, size] = *free_.rbegin();
    if (offset + size == frontier_) tail = size;
  }
  const uint64_t missing = size_bytes - tail;  // No block was large enough.
  if (missing > size_bytes_ - frontier_) {
    return arrow::Status::CapacityError("record area of ", size_bytes_,
                                        " bytes has no free range of ", size_bytes);
  }
  const uint64_t frontier =
      std::min(RoundUp(frontier_ + missing, kGrowBytes), size_bytes_);
  ARROW_RETURN_NOT_OK(allocate_(frontier_, frontier - frontier_));
  const uint64_t old_frontier = std::exchange(frontier_, frontier);
  Insert(old_frontier, frontier - old_frontier);
  return arrow::Status::OK();
}

void RecordSpace::Insert(uint64_t offset, uint64_t size_bytes) {
  Block next = free_.lower_bound(offset);
  SHEAF_CHECK(next == free_.end() || offset + size_bytes <= next->first);  // RECORD-1
  if (next != free_.end() && offset + size_bytes == next->first) {
    size_bytes += next->second;
    Erase(next);
    next = free_.lower_bound(offset);
  }
  if (next != free_.begin()) {
    const Block previous = std::prev(next);
    const uint64_t end = previous->first + previous->second;
    SHEAF_CHECK(end <= offset);
    if (end == offset) {
      offset = previous->first;
      size_bytes += previous->second;
      Erase(previous);
    }
  }
  free_.emplace(offset, size_bytes);
  by_size_.emplace(size_bytes, offset);
}

void RecordSpace::Erase(Block block) {
  by_size_.erase({block->second, block->first});
  free_.erase(block);
}

}  // namespace sheaf::directory
