#include "client/spill_pool.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include <arrow/status.h>

#include "alloc/region_memory_pool.h"
#include "sheaf/status.h"

namespace sheaf::client {
namespace {

bool IsFull(const arrow::Status& status) {
  return status.IsOutOfMemory() && !IsOverQuota(status);
}

}  // namespace

SpillPool::SpillPool(alloc::RegionMemoryPool* home, OthersFn others, PoolAtFn pool_at)
    : home_(home), others_(std::move(others)), pool_at_(std::move(pool_at)) {}

arrow::Status SpillPool::Place(int64_t size, int64_t alignment, uint8_t** out) {
  arrow::Status at_home = home_->Allocate(size, alignment, out);
  if (!IsFull(at_home)) return at_home;
  for (alloc::RegionMemoryPool* const other : others_()) {
    const arrow::Status placed = other->Allocate(size, alignment, out);
    if (placed.ok() || IsOverQuota(placed)) return placed;
  }
  return at_home;
}

arrow::Status SpillPool::Allocate(int64_t size, int64_t alignment, uint8_t** out) {
  ARROW_RETURN_NOT_OK(Place(size, alignment, out));
  statistics_.DidAllocateBytes(size);
  return arrow::Status::OK();
}

arrow::Status SpillPool::Reallocate(int64_t old_size, int64_t new_size, int64_t alignment,
                                    uint8_t** ptr) {
  arrow::Status grown = pool_at_(*ptr)->Reallocate(old_size, new_size, alignment, ptr);
  if (grown.ok()) statistics_.DidReallocateBytes(old_size, new_size);
  if (!IsFull(grown)) return grown;
  uint8_t* fresh = nullptr;
  ARROW_RETURN_NOT_OK(Place(new_size, alignment, &fresh));
  statistics_.DidAllocateBytes(new_size);
  const int64_t kept = std::min(old_size, new_size);
  if (kept > 0) std::memcpy(fresh, *ptr, static_cast<size_t>(kept));
  Free(*ptr, old_size, alignment);
  *ptr = fresh;
  return arrow::Status::OK();
}

void SpillPool::Free(uint8_t* buffer, int64_t size, int64_t alignment) {
  pool_at_(buffer)->Free(buffer, size, alignment);
  statistics_.DidFreeBytes(size);
}

void SpillPool::ReleaseUnused() {
  home_->ReleaseUnused();
  for (alloc::RegionMemoryPool* const other : others_()) other->ReleaseUnused();
}

}  // namespace sheaf::client
