// What a memory pool counts, as Arrow's pools count it.

#pragma once

#include <atomic>
#include <cstdint>

namespace sheaf::alloc {

/// \brief Counters of a pool: written under the pool's lock, read at any time. Each is
/// exact; two read one after the other may belong to different moments.
class PoolStatistics {
 public:
  void DidAllocate(int64_t size) {
    Add(num_allocations_, 1);
    Add(total_bytes_allocated_, size);
    Add(bytes_allocated_, size);
    if (bytes_allocated() > max_memory())
      Add(max_memory_, bytes_allocated() - max_memory());
  }
  void DidFree(int64_t size) { Add(bytes_allocated_, -size); }
  /// Growth counts as an allocation of the difference, as in
  /// arrow::internal::MemoryPoolStats.
  void DidReallocate(int64_t old_size, int64_t new_size) {
    if (new_size > old_size) {
      DidAllocate(new_size - old_size);
    } else {
      DidFree(old_size - new_size);
    }
  }

  int64_t bytes_allocated() const { return Load(bytes_allocated_); }
  int64_t max_memory() const { return Load(max_memory_); }
  int64_t total_bytes_allocated() const { return Load(total_bytes_allocated_); }
  int64_t num_allocations() const { return Load(num_allocations_); }

 private:
  using Counter = std::atomic<int64_t>;
  // Relaxed: a counter orders nothing else, and only the holder of the lock stores.
  static int64_t Load(const Counter& counter) {
    return counter.load(std::memory_order_relaxed);
  }
  static void Add(Counter& counter, int64_t value) {
    counter.store(Load(counter) + value, std::memory_order_relaxed);
  }

  Counter bytes_allocated_{0};
  Counter max_memory_{0};
  Counter total_bytes_allocated_{0};
  Counter num_allocations_{0};
};

}  // namespace sheaf::alloc
