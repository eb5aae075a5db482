// An arrow::MemoryPool over extents of the region, so that any builder, reader or kernel builds in shared memory.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/memory_pool.h>
#include <arrow/result.h>

#include "alloc/range_map.h"

namespace sheaf::alloc {

/// \brief A coarse extent that this session may write: `id` and `generation` name the grant.
struct Extent {
  uint32_t grant = 0;
  uint64_t generation = 0;
  uint64_t offset = 0;      ///< In the home segment's data part.
  uint64_t size_bytes = 0;
  uint8_t* data = nullptr;  ///< Mapped writable in this process.
};

/// \brief Where a pool gets its extents: a session with a home daemon, or a test's arena.
/// Called by the pool with its lock held, from any thread.
class ExtentSource {
 public:
  virtual ~ExtentSource() = default;
  /// \brief One extent of at least `size_bytes`, writable, invalidated (P2). OutOfMemory as RangeMap.
  virtual arrow::Result<Extent> Acquire(uint64_t size_bytes) = 0;
  /// \brief Give a grant back; none of its unsealed bytes is in use. Flushed by the source.
  virtual arrow::Status Return(const Extent& extent) = 0;
};

/// \brief Divides extents in granules. Thread-safe; outlives every buffer built from it, because
/// Arrow's pool buffers free themselves into it (the session keeps it alive until then).
/// Satisfies what Arrow expects of a pool (FACTS: shrink in place, size 0 gives a non-null aligned
/// address inside the region, Reallocate grows in place when it can).
/// Invariant POOL-1: no granule holds bytes of two allocations. POOL-2: a sealed granule is never
/// handed out again.
class RegionMemoryPool : public arrow::MemoryPool {
 public:
  struct Options {
    uint64_t retained_bytes_max = uint64_t{64} << 20;  ///< Free bytes kept for reuse.
    uint64_t growth_bytes_max = uint64_t{16} << 20;    ///< Largest extent asked for ahead of need.
  };

  explicit RegionMemoryPool(ExtentSource* source);
  RegionMemoryPool(ExtentSource* source, const Options& options);
  ~RegionMemoryPool() override;  ///< Returns all extents.

  arrow::Status Allocate(int64_t size, int64_t alignment, uint8_t** out) override;
  arrow::Status Reallocate(int64_t old_size, int64_t new_size, int64_t alignment,
                           uint8_t** ptr) override;
  void Free(uint8_t* buffer, int64_t size, int64_t alignment) override;
  int64_t bytes_allocated() const override;
  int64_t max_memory() const override;
  int64_t total_bytes_allocated() const override;
  int64_t num_allocations() const override;
  std::string backend_name() const override { return "sheaf"; }

  /// \brief The extent (grant) that holds `[address, address + size)`, if an open one of this pool
  /// does and the bytes are not sealed yet.
  std::optional<Extent> FindOpen(const void* address, uint64_t size_bytes) const;

  /// \brief These granule-aligned ranges (offsets in the home segment) now belong to a sealed
  /// object: Free will not reuse them, Reallocate of them copies.
  void MarkSealed(const std::vector<Range>& ranges);

  /// An extent out of which something was sealed is given back as soon as no live allocation is in it
  /// (what its source sealed stays with the objects); one never sealed is kept for reuse.

  /// \brief Give back every extent that holds no live allocation, beyond what is retained when
  /// `keep_retained`. Returns bytes given back.
  uint64_t ReturnUnused(bool keep_retained);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf::alloc
