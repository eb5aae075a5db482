// Memory for decoding a file: of the region as long as that has any.

#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>

#include <arrow/memory_pool.h>
#include <arrow/status.h>

namespace sheaf::cli {

/// \brief Allocates in another pool, the region's, until that refuses; from then on in
/// private memory, so that no decoder of Arrow meets a failed allocation (some end the
/// process). Who drives the decoder asks `CheckSpace` between its steps, and stops.
/// Thread-safe. Lives as long as any buffer from it, of which decoders that failed may
/// leave some with worker threads; the other pool must live as long as that.
class DecodePool : public arrow::MemoryPool,
                   public std::enable_shared_from_this<DecodePool> {
 public:
  static std::shared_ptr<DecodePool> Make(arrow::MemoryPool* region);

  /// \brief The region's error once an allocation there failed: OutOfMemory if it is
  /// full, Invalid if this session may only read. What was decoded since is not all in
  /// the region.
  arrow::Status CheckSpace() const;

  /// \brief The file says that its data takes about so many bytes.
  void Expect(int64_t bytes) { expected_bytes_ = bytes; }
  /// \brief What decoding takes in all: expected, or the most that it held if that is
  /// more.
  int64_t bytes_needed() const;

  using arrow::MemoryPool::Allocate;
  using arrow::MemoryPool::Free;
  using arrow::MemoryPool::Reallocate;
  arrow::Status Allocate(int64_t size, int64_t alignment, uint8_t** out) override;
  arrow::Status Reallocate(int64_t old_size, int64_t new_size, int64_t alignment,
                           uint8_t** ptr) override;
  void Free(uint8_t* buffer, int64_t size, int64_t alignment) override;
  void ReleaseUnused() override { region_->ReleaseUnused(); }
  int64_t bytes_allocated() const override { return statistics_.bytes_allocated(); }
  int64_t max_memory() const override { return statistics_.max_memory(); }
  int64_t total_bytes_allocated() const override {
    return statistics_.total_bytes_allocated();
  }
  int64_t num_allocations() const override { return statistics_.num_allocations(); }
  std::string backend_name() const override { return "sheaf-decode"; }

 private:
  explicit DecodePool(arrow::MemoryPool* region) : region_(region) {}
  arrow::Status Place(int64_t size, int64_t alignment, uint8_t** out);
  void Release(uint8_t* buffer, int64_t size, int64_t alignment);
  bool IsPrivate(const uint8_t* buffer) const;

  arrow::MemoryPool* const region_;
  std::atomic<int64_t> expected_bytes_ = 0;
  arrow::internal::MemoryPoolStats statistics_;
  mutable std::mutex mutex_;  ///< Guards what follows.
  arrow::Status refused_;     ///< Not OK once the region gave nothing.
  /// Addresses; those of empty allocations may be equal.
  std::unordered_multiset<const uint8_t*> private_;
  int64_t num_live_ = 0;
  std::shared_ptr<DecodePool> self_;  ///< While any allocation is live.
};

}  // namespace sheaf::cli
