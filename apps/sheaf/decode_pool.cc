#include "apps/sheaf/decode_pool.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>

#include <arrow/memory_pool.h>
#include <arrow/status.h>

namespace sheaf::cli {

std::shared_ptr<DecodePool> DecodePool::Make(arrow::MemoryPool* region) {
  return std::shared_ptr<DecodePool>(new DecodePool(region));
}

arrow::Status DecodePool::CheckSpace() const {
  std::lock_guard lock(mutex_);
  return refused_;
}

int64_t DecodePool::bytes_needed() const {
  return std::max(expected_bytes_.load(), max_memory());
}

arrow::Status DecodePool::Allocate(int64_t size, int64_t alignment, uint8_t** out) {
  ARROW_RETURN_NOT_OK(Place(size, alignment, out));
  statistics_.DidAllocateBytes(size);
  std::lock_guard lock(mutex_);
  if (num_live_++ == 0) self_ = shared_from_this();
  return arrow::Status::OK();
}

arrow::Status DecodePool::Reallocate(int64_t old_size, int64_t new_size,
                                     int64_t alignment, uint8_t** ptr) {
  if (!IsPrivate(*ptr) && CheckSpace().ok()) {
    const arrow::Status grown = region_->Reallocate(old_size, new_size, alignment, ptr);
    if (grown.ok()) statistics_.DidReallocateBytes(old_size, new_size);
    if (grown.ok()) return grown;
  }
  uint8_t* fresh = nullptr;
  ARROW_RETURN_NOT_OK(Place(new_size, alignment, &fresh));
  statistics_.DidAllocateBytes(new_size);
  const int64_t kept = std::min(old_size, new_size);
  if (kept > 0) std::memcpy(fresh, *ptr, static_cast<size_t>(kept));
  Release(*ptr, old_size, alignment);
  statistics_.DidFreeBytes(old_size);
  *ptr = fresh;
  return arrow::Status::OK();
}

void DecodePool::Free(uint8_t* buffer, int64_t size, int64_t alignment) {
  Release(buffer, size, alignment);
  statistics_.DidFreeBytes(size);
  std::shared_ptr<DecodePool> last;  // goes after the lock
  std::lock_guard lock(mutex_);
  if (--num_live_ == 0) last = std::move(self_);
}

arrow::Status DecodePool::Place(int64_t size, int64_t alignment, uint8_t** out) {
  if (CheckSpace().ok()) {
    arrow::Status placed = region_->Allocate(size, alignment, out);
    if (placed.ok()) return placed;
    std::lock_guard lock(mutex_);
    refused_ = std::move(placed);
  }
  ARROW_RETURN_NOT_OK(arrow::default_memory_pool()->Allocate(size, alignment, out));
  std::lock_guard lock(mutex_);
  private_.insert(*out);
  return arrow::Status::OK();
}

void DecodePool::Release(uint8_t* buffer, int64_t size, int64_t alignment) {
  arrow::MemoryPool* owner = region_;
  {
    std::lock_guard lock(mutex_);
    if (const auto found = private_.find(buffer); found != private_.end()) {
      private_.erase(found);
      owner = arrow::default_memory_pool();
    }
  }
  owner->Free(buffer, size, alignment);
}

bool DecodePool::IsPrivate(const uint8_t* buffer) const {
  std::lock_guard lock(mutex_);
  return private_.contains(buffer);
}

}  // namespace sheaf::cli
