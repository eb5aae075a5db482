#include "alloc/region_memory_pool.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/extent_source.h"
#include "alloc/granule_runs.h"
#include "alloc/pool_statistics.h"
#include "alloc/range.h"
#include "base/check.h"
#include "base/math.h"
#include "base/mutex.h"
#include "format/layout.h"

namespace sheaf::alloc {
namespace {

arrow::Status CheckArguments(int64_t size, int64_t alignment) {
  if (size < 0) return arrow::Status::Invalid("negative allocation size ", size);
  if (alignment <= 0 || alignment > RegionMemoryPool::kAlignmentMax ||
      !std::has_single_bit(static_cast<uint64_t>(alignment))) {
    return arrow::Status::Invalid("alignment ", alignment,
                                  " is not a power of two up to ",
                                  RegionMemoryPool::kAlignmentMax);
  }
  if (GranulesFor(static_cast<uint64_t>(size)) > UINT32_MAX) {
    return arrow::Status::OutOfMemory("an allocation of ", size,
                                      " bytes exceeds what an extent can have");
  }
  return arrow::Status::OK();
}

arrow::Status InForkedChild() {
  return arrow::Status::Invalid(
      "this memory pool belongs to the process that forked this one: connect again here, "
      "and use the new store's pool");
}

uint32_t CountFor(int64_t size) {
  return static_cast<uint32_t>(GranulesFor(static_cast<uint64_t>(size)));
}

}  // namespace

class RegionMemoryPool::Impl {
 public:
  Impl(ExtentSource* source, const Options& options)
      : source_(source), options_(options) {}
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  arrow::Status Allocate(int64_t size, int64_t alignment, uint8_t** out)
      SHEAF_EXCLUDES(mutex_);
  arrow::Status Reallocate(int64_t old_size, int64_t new_size, int64_t alignment,
                           uint8_t** ptr) SHEAF_EXCLUDES(mutex_);
  void Free(uint8_t* buffer, int64_t size) SHEAF_EXCLUDES(mutex_);
  const PoolStatistics& statistics() const { return statistics_; }

  std::optional<Extent> FindOpen(const void* address, uint64_t size_bytes)
      SHEAF_EXCLUDES(mutex_);
  bool Owns(const void* address, uint64_t size_bytes) SHEAF_EXCLUDES(mutex_);
  void MarkSealed(const std::vector<Range>& ranges) SHEAF_EXCLUDES(mutex_);
  uint64_t ReturnUnused(bool keep_retained) SHEAF_EXCLUDES(mutex_);
  void StopRetaining() SHEAF_EXCLUDES(mutex_);
  bool is_empty() SHEAF_EXCLUDES(mutex_);
  uint64_t held_bytes() SHEAF_EXCLUDES(mutex_);

 private:
  arrow::Status Place(int64_t size, int64_t alignment, uint8_t** out)
      SHEAF_REQUIRES(mutex_);
  arrow::Status PlaceEmpty(uint8_t** out) SHEAF_REQUIRES(mutex_);
  bool ResizeInPlace(int64_t old_size, int64_t new_size, int64_t alignment,
                     uint8_t* address) SHEAF_EXCLUDES(mutex_);
  RunId FindRun(const uint8_t* address, int64_t size) const SHEAF_REQUIRES(mutex_);
  void Remove(const uint8_t* address, int64_t size) SHEAF_REQUIRES(mutex_);
  void Release(RunId id) SHEAF_REQUIRES(mutex_);

  arrow::Status AddExtentFor(int64_t size, int64_t alignment) SHEAF_REQUIRES(mutex_);
  arrow::Result<Extent> Acquire(uint64_t need_bytes) SHEAF_REQUIRES(mutex_);
  uint64_t ReturnExtent(HeldExtent* held) SHEAF_REQUIRES(mutex_);
  uint64_t ReturnEmpty(uint64_t retained_bytes) SHEAF_REQUIRES(mutex_);

  ExtentSource* const source_;
  Mutex mutex_;
  Options options_ SHEAF_GUARDED_BY(mutex_);
  GranuleRuns runs_ SHEAF_GUARDED_BY(mutex_);
  PoolStatistics statistics_;  // Written with mutex_ held.
  // All allocations of size 0 share one granule, which is live while there are any.
  RunId empty_run_ SHEAF_GUARDED_BY(mutex_) = kNoRun;
  uint64_t num_empty_ SHEAF_GUARDED_BY(mutex_) = 0;
};

RegionMemoryPool::Impl::~Impl() {
  MutexLock lock(&mutex_);
  ReturnEmpty(0);
}

arrow::Status RegionMemoryPool::Impl::Allocate(int64_t size, int64_t alignment,
                                               uint8_t** out) {
  ARROW_RETURN_NOT_OK(CheckArguments(size, alignment));
  MutexLock lock(&mutex_);
  ARROW_RETURN_NOT_OK(Place(size, alignment, out));
  statistics_.DidAllocate(size);
  return arrow::Status::OK();
}

arrow::Status RegionMemoryPool::Impl::Reallocate(int64_t old_size, int64_t new_size,
                                                 int64_t alignment, uint8_t** ptr) {
  ARROW_RETURN_NOT_OK(CheckArguments(new_size, alignment));
  if (ResizeInPlace(old_size, new_size, alignment, *ptr)) return arrow::Status::OK();
  uint8_t* fresh = nullptr;
  {
    MutexLock lock(&mutex_);
    ARROW_RETURN_NOT_OK(Place(new_size, alignment, &fresh));
  }
  const int64_t kept = std::min(old_size, new_size);
  if (kept > 0) std::memcpy(fresh, *ptr, static_cast<size_t>(kept));  // Without the lock.
  MutexLock lock(&mutex_);
  Remove(*ptr, old_size);
  statistics_.DidReallocate(old_size, new_size);
  *ptr = fresh;
  return arrow::Status::OK();
}

bool RegionMemoryPool::Impl::ResizeInPlace(int64_t old_size, int64_t new_size,
                                           int64_t alignment, uint8_t* address) {
  if (old_size == 0 || new_size == 0) return false;
  if (!IsAligned(reinterpret_cast<uintptr_t>(address),
                 static_cast<uint64_t>(alignment))) {
    return false;
  }
  MutexLock lock(&mutex_);
  if (!runs_.Resize(FindRun(address, old_size), CountFor(new_size))) return false;
  statistics_.DidReallocate(old_size, new_size);
  return true;
}

void RegionMemoryPool::Impl::Free(uint8_t* buffer, int64_t size) {
  MutexLock lock(&mutex_);
  Remove(buffer, size);
  statistics_.DidFree(size);
}

arrow::Status RegionMemoryPool::Impl::Place(int64_t size, int64_t alignment,
                                            uint8_t** out) {
  if (size == 0) return PlaceEmpty(out);
  RunId id = runs_.Take(CountFor(size), static_cast<uint64_t>(alignment));
  if (id == kNoRun) {
    ARROW_RETURN_NOT_OK(AddExtentFor(size, alignment));
    id = runs_.Take(CountFor(size), static_cast<uint64_t>(alignment));
    SHEAF_CHECK(id != kNoRun);
  }
  *out = runs_.AddressOf(id);
  return arrow::Status::OK();
}

arrow::Status RegionMemoryPool::Impl::PlaceEmpty(uint8_t** out) {
  if (empty_run_ == kNoRun) {
    uint8_t* address = nullptr;
    ARROW_RETURN_NOT_OK(Place(1, kAlignmentMax, &address));
    empty_run_ = runs_.LiveRunAt(address);
  }
  ++num_empty_;
  *out = runs_.AddressOf(empty_run_);
  return arrow::Status::OK();
}

RunId RegionMemoryPool::Impl::FindRun(const uint8_t* address, int64_t size) const {
  const RunId id = runs_.LiveRunAt(address);
  SHEAF_CHECK(id != empty_run_ && runs_.CountOf(id) == CountFor(size));
  return id;
}

void RegionMemoryPool::Impl::Remove(const uint8_t* address, int64_t size) {
  if (size > 0) {
    Release(FindRun(address, size));
    return;
  }
  SHEAF_CHECK(size == 0 && num_empty_ > 0 && address == runs_.AddressOf(empty_run_));
  if (--num_empty_ > 0) return;
  Release(empty_run_);
  empty_run_ = kNoRun;
}

void RegionMemoryPool::Impl::Release(RunId id) {
  HeldExtent* const held = runs_.ExtentOf(id);
  runs_.Release(id);
  if (held->live_runs > 0) return;
  if (held->sealed_granules > 0 || runs_.free_bytes() > options_.retained_bytes_max) {
    ReturnExtent(held);
  }
}

arrow::Status RegionMemoryPool::Impl::AddExtentFor(int64_t size, int64_t alignment) {
  const uint64_t size_bytes = RoundUp(static_cast<uint64_t>(size), format::kGranuleBytes);
  // Extents begin at pages, where every alignment is met; a spare one costs less than a
  // promise.
  const bool needs_padding = static_cast<uint64_t>(alignment) > format::kGranuleBytes;
  const uint64_t need_bytes = size_bytes + (needs_padding ? kAlignmentMax : 0);
  auto extent = Acquire(need_bytes);
  if (!extent.ok()) {
    // Of anything else the size is not the cause.
    if (!extent.status().IsOutOfMemory()) return extent.status();
    return extent.status().WithMessage("no extent for an allocation of ", size,
                                       " bytes: ", extent.status().message());
  }
  SHEAF_CHECK(extent->size_bytes >= need_bytes);
  runs_.Add(*extent);
  return arrow::Status::OK();
}

// As much as is held already, within limits; else giving back what is free here, of which
// the source may make a larger range.
arrow::Result<Extent> RegionMemoryPool::Impl::Acquire(uint64_t need_bytes) {
  const uint64_t growth_max = std::max(options_.growth_bytes_max, format::kExtentBytes);
  const uint64_t growth =
      std::clamp(runs_.held_bytes(), format::kExtentBytes, growth_max);
  const uint64_t wish_bytes = RoundDown(growth, format::kExtentBytes);
  auto extent = source_->Acquire(need_bytes, wish_bytes);
  if (extent.status().IsOutOfMemory() && ReturnEmpty(0) > 0) {
    extent = source_->Acquire(need_bytes, need_bytes);
  }
  return extent;
}

uint64_t RegionMemoryPool::Impl::ReturnExtent(HeldExtent* held) {
  const Extent extent = runs_.Remove(held);
  const arrow::Status status = source_->Return(extent);
  if (!status.ok()) status.Warn("an extent could not be returned");
  return extent.size_bytes;
}

// Returns extents without live allocations until at most `retained_bytes` are free.
uint64_t RegionMemoryPool::Impl::ReturnEmpty(uint64_t retained_bytes) {
  uint64_t returned_bytes = 0;
  for (HeldExtent* const held : runs_.Extents()) {
    if (held->live_runs > 0) continue;
    if (runs_.free_bytes() <= retained_bytes) break;
    returned_bytes += ReturnExtent(held);
  }
  return returned_bytes;
}

std::optional<Extent> RegionMemoryPool::Impl::FindOpen(const void* address,
                                                       uint64_t size_bytes) {
  MutexLock lock(&mutex_);
  const HeldExtent* const held = runs_.Find(address, size_bytes);
  if (held == nullptr) return std::nullopt;
  if (size_bytes > 0) {
    const uint64_t begin = held->GranuleOf(address);
    const uint64_t last =
        held->GranuleOf(static_cast<const uint8_t*>(address) + size_bytes - 1);
    if (held->AnySealed(begin, last + 1)) return std::nullopt;
  }
  return held->extent;
}

bool RegionMemoryPool::Impl::Owns(const void* address, uint64_t size_bytes) {
  MutexLock lock(&mutex_);
  return runs_.Find(address, size_bytes) != nullptr;
}

void RegionMemoryPool::Impl::MarkSealed(const std::vector<Range>& ranges) {
  MutexLock lock(&mutex_);
  for (const Range& range : ranges) {
    for (HeldExtent* const held : runs_.Seal(range)) {
      if (held->live_runs == 0) ReturnExtent(held);
    }
  }
}

uint64_t RegionMemoryPool::Impl::ReturnUnused(bool keep_retained) {
  MutexLock lock(&mutex_);
  return ReturnEmpty(keep_retained ? options_.retained_bytes_max : 0);
}

void RegionMemoryPool::Impl::StopRetaining() {
  MutexLock lock(&mutex_);
  options_.retained_bytes_max = 0;
  ReturnEmpty(0);
}

// With the lock: whoever frees the last allocation is done with this object then.
bool RegionMemoryPool::Impl::is_empty() {
  MutexLock lock(&mutex_);
  const auto extents = runs_.Extents();
  return std::all_of(extents.begin(), extents.end(),
                     [](const HeldExtent* held) { return held->live_runs == 0; });
}

uint64_t RegionMemoryPool::Impl::held_bytes() {
  MutexLock lock(&mutex_);
  return runs_.held_bytes();
}

RegionMemoryPool::RegionMemoryPool(ExtentSource* source)
    : RegionMemoryPool(source, Options{}) {}

RegionMemoryPool::RegionMemoryPool(ExtentSource* source, const Options& options)
    : impl_(std::make_unique<Impl>(source, options)) {}

RegionMemoryPool::~RegionMemoryPool() {
  // Another thread may have been in the middle of a change when a child was forked.
  if (owner_.IsThisOne()) return;
  [[maybe_unused]] const Impl* const left_alone = impl_.release();
}

arrow::Status RegionMemoryPool::Allocate(int64_t size, int64_t alignment, uint8_t** out) {
  if (!owner_.IsThisOne()) return InForkedChild();
  return impl_->Allocate(size, alignment, out);
}

arrow::Status RegionMemoryPool::Reallocate(int64_t old_size, int64_t new_size,
                                           int64_t alignment, uint8_t** ptr) {
  if (!owner_.IsThisOne()) return InForkedChild();
  return impl_->Reallocate(old_size, new_size, alignment, ptr);
}

void RegionMemoryPool::Free(uint8_t* buffer, int64_t size, int64_t /*alignment*/) {
  if (!owner_.IsThisOne()) return;
  impl_->Free(buffer, size);
}

int64_t RegionMemoryPool::bytes_allocated() const {
  return impl_->statistics().bytes_allocated();
}
int64_t RegionMemoryPool::max_memory() const { return impl_->statistics().max_memory(); }
int64_t RegionMemoryPool::total_bytes_allocated() const {
  return impl_->statistics().total_bytes_allocated();
}
int64_t RegionMemoryPool::num_allocations() const {
  return impl_->statistics().num_allocations();
}

std::optional<Extent> RegionMemoryPool::FindOpen(const void* address,
                                                 uint64_t size_bytes) const {
  return impl_->FindOpen(address, size_bytes);
}

bool RegionMemoryPool::Owns(const void* address, uint64_t size_bytes) const {
  return impl_->Owns(address, size_bytes);
}

void RegionMemoryPool::MarkSealed(const std::vector<Range>& ranges) {
  impl_->MarkSealed(ranges);
}

uint64_t RegionMemoryPool::ReturnUnused(bool keep_retained) {
  if (!owner_.IsThisOne()) return 0;
  return impl_->ReturnUnused(keep_retained);
}

void RegionMemoryPool::StopRetaining() { impl_->StopRetaining(); }

bool RegionMemoryPool::is_empty() const { return impl_->is_empty(); }

uint64_t RegionMemoryPool::held_bytes() const { return impl_->held_bytes(); }

}  // namespace sheaf::alloc
