#include "testing/arena_extent_source.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/extent_source.h"
#include "alloc/range.h"
#include "base/check.h"
#include "base/math.h"
#include "base/mutex.h"
#include "format/layout.h"

namespace sheaf::testing {
namespace {

constexpr int kFreedByte = 0xDD;

uint8_t* MapArena(uint64_t size_bytes, bool touch) {
  const int flags =
      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | (touch ? MAP_POPULATE : 0);
  void* const data = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  SHEAF_CHECK(data != MAP_FAILED);
  return static_cast<uint8_t*>(data);
}

}  // namespace

ArenaExtentSource::ArenaExtentSource(uint64_t size_bytes, Mode mode)
    : size_bytes_(size_bytes),
      mode_(mode),
      data_(MapArena(size_bytes, mode == Mode::kWarm)),
      ranges_(size_bytes) {}

ArenaExtentSource::~ArenaExtentSource() { ::munmap(data_, size_bytes_); }

arrow::Result<alloc::Extent> ArenaExtentSource::Acquire(uint64_t size_bytes,
                                                        uint64_t wish_bytes) {
  MutexLock lock(&mutex_);
  requests_.push_back(std::max(size_bytes, wish_bytes));
  uint32_t grant = 0;  // The lowest number that is free, as a table of grants would give.
  while (outstanding_.contains(grant)) ++grant;
  ARROW_ASSIGN_OR_RAISE(const alloc::Range range,
                        ranges_.Grant(size_bytes, grant, wish_bytes));
  const alloc::Extent extent{grant, next_generation_++, range.offset, range.size_bytes,
                             data_ + range.offset};
  outstanding_[grant] = extent;
  return extent;
}

arrow::Status ArenaExtentSource::Return(const alloc::Extent& extent) {
  MutexLock lock(&mutex_);
  const auto found = outstanding_.find(extent.grant);
  if (found == outstanding_.end() || found->second.generation != extent.generation ||
      found->second.offset != extent.offset ||
      found->second.size_bytes != extent.size_bytes) {
    return arrow::Status::Invalid("grant ", extent.grant, " is not outstanding");
  }
  outstanding_.erase(found);
  OverwriteFreed(ranges_.Return(extent.grant));
  return arrow::Status::OK();
}

arrow::Status ArenaExtentSource::AddReference(const std::vector<alloc::Range>& ranges) {
  MutexLock lock(&mutex_);
  return ranges_.AddReference(ranges);
}

void ArenaExtentSource::DropReference(const std::vector<alloc::Range>& ranges) {
  MutexLock lock(&mutex_);
  OverwriteFreed(ranges_.DropReference(ranges));
}

void ArenaExtentSource::OverwriteFreed(const std::vector<alloc::Range>& ranges) const {
  if (mode_ != Mode::kOverwriteFree) return;
  for (const alloc::Range& range : ranges) {
    std::memset(data_ + range.offset, kFreedByte, range.size_bytes);
  }
}

bool ArenaExtentSource::Contains(const void* address, uint64_t size_bytes) const {
  const auto begin = reinterpret_cast<uintptr_t>(data_);
  const auto value = reinterpret_cast<uintptr_t>(address);
  return value >= begin && FitsWithin(value - begin, size_bytes, size_bytes_);
}

alloc::Range ArenaExtentSource::GranulesOf(const void* address,
                                           uint64_t size_bytes) const {
  SHEAF_CHECK(Contains(address, size_bytes));
  const auto offset = static_cast<uint64_t>(static_cast<const uint8_t*>(address) - data_);
  const uint64_t begin = RoundDown(offset, format::kGranuleBytes);
  return {begin, RoundUp(offset + size_bytes, format::kGranuleBytes) - begin};
}

uint64_t ArenaExtentSource::free_bytes() const {
  MutexLock lock(&mutex_);
  return ranges_.free_bytes();
}

uint64_t ArenaExtentSource::num_outstanding() const {
  MutexLock lock(&mutex_);
  return outstanding_.size();
}

std::vector<uint64_t> ArenaExtentSource::TakeRequests() {
  MutexLock lock(&mutex_);
  return std::exchange(requests_, {});
}

}  // namespace sheaf::testing
