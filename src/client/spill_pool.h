// Memory of one node, and of others where that is full.

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <arrow/memory_pool.h>
#include <arrow/status.h>

#include "alloc/region_memory_pool.h"

namespace sheaf::client {

/// \brief Allocates in one home's pool; what does not fit there, in that of another home,
/// the first of those it is offered that has room. Who is over a quota gets nothing
/// elsewhere. Thread-safe, lives as long as those pools.
class SpillPool final : public arrow::MemoryPool {
 public:
  /// Other homes' pools, in the order in which to try them; those that exist.
  using OthersFn = std::function<std::vector<alloc::RegionMemoryPool*>()>;
  /// The pool that has these bytes.
  using PoolAtFn = std::function<alloc::RegionMemoryPool*(const void*)>;

  SpillPool(alloc::RegionMemoryPool* home, OthersFn others, PoolAtFn pool_at);

  using arrow::MemoryPool::Allocate;
  using arrow::MemoryPool::Free;
  using arrow::MemoryPool::Reallocate;
  /// \brief The home's error if no pool has room.
  arrow::Status Allocate(int64_t size, int64_t alignment, uint8_t** out) override;
  arrow::Status Reallocate(int64_t old_size, int64_t new_size, int64_t alignment,
                           uint8_t** ptr) override;
  void Free(uint8_t* buffer, int64_t size, int64_t alignment) override;
  void ReleaseUnused() override;
  int64_t bytes_allocated() const override { return statistics_.bytes_allocated(); }
  int64_t max_memory() const override { return statistics_.max_memory(); }
  int64_t total_bytes_allocated() const override {
    return statistics_.total_bytes_allocated();
  }
  int64_t num_allocations() const override { return statistics_.num_allocations(); }
  std::string backend_name() const override { return "sheaf-spill"; }

 private:
  arrow::Status Place(int64_t size, int64_t alignment, uint8_t** out);

  alloc::RegionMemoryPool* const home_;
  OthersFn others_;
  PoolAtFn pool_at_;
  arrow::internal::MemoryPoolStats statistics_;
};

}  // namespace sheaf::client
