// An arrow::MemoryPool over extents of the region, so that any builder, reader or kernel
// builds in shared memory.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/memory_pool.h>
#include <arrow/status.h>

#include "alloc/extent_source.h"
#include "alloc/range.h"
#include "platform/owner_process.h"

namespace sheaf::alloc {

/// \brief Divides extents in granules. Thread-safe; outlives every buffer built from it,
/// because Arrow's pool buffers free themselves into it (the session keeps it alive until
/// then). Satisfies what Arrow expects of a pool: shrinks in place, grows in place when
/// it can, size 0 gives a non-null aligned address inside the region, statistics count as
/// Arrow's own pools do.
///
/// An extent out of which something was sealed is given back as soon as no live
/// allocation is in it (what its source sealed stays with the objects; until then its
/// writer may read those bytes as its own); one never sealed is kept for reuse. Nothing
/// about the pool is stored in the extents. How they are divided: GranuleRuns. Invariant
/// POOL-1: no granule holds bytes of two allocations. POOL-2: a sealed granule is never
/// handed out again.
///
/// In a forked child it still is its parent's: what allocates is Invalid, to free or to
/// return does nothing, and no lock is taken, which another thread may have held.
class RegionMemoryPool : public arrow::MemoryPool {
 public:
  struct Options {
    uint64_t retained_bytes_max = uint64_t{64} << 20;  ///< Free bytes kept for reuse.
    /// Largest extent asked for ahead of need. Extents grow with what is held, so that it
    /// doubles.
    uint64_t growth_bytes_max = uint64_t{16} << 20;
  };

  /// Addresses are multiples of 64 at least, and of any power of two up to this if asked
  /// for.
  static constexpr int64_t kAlignmentMax = 4096;

  explicit RegionMemoryPool(ExtentSource* source);
  RegionMemoryPool(ExtentSource* source, const Options& options);
  /// \brief Returns all extents, but for those that hold live allocations: their bytes
  /// may still be written, so they go with the session.
  ~RegionMemoryPool() override;

  using arrow::MemoryPool::Allocate;
  using arrow::MemoryPool::Free;
  using arrow::MemoryPool::Reallocate;

  /// \brief Invalid for a negative size or an alignment that is no power of two or too
  /// large; OutOfMemory with the source's reason. Nothing changes then; the same holds
  /// for Reallocate.
  arrow::Status Allocate(int64_t size, int64_t alignment, uint8_t** out) override;
  arrow::Status Reallocate(int64_t old_size, int64_t new_size, int64_t alignment,
                           uint8_t** ptr) override;
  /// \brief `buffer` and `size` must be those of a live allocation: the process ends
  /// otherwise.
  void Free(uint8_t* buffer, int64_t size, int64_t alignment) override;
  void ReleaseUnused() override { ReturnUnused(false); }
  int64_t bytes_allocated() const override;
  int64_t max_memory() const override;
  int64_t total_bytes_allocated() const override;
  int64_t num_allocations() const override;
  std::string backend_name() const override { return "sheaf"; }

  /// \brief The extent (grant) that holds `[address, address + size)`, if an open one of
  /// this pool does and the bytes are not sealed yet.
  std::optional<Extent> FindOpen(const void* address, uint64_t size_bytes) const;

  /// \brief True if the bytes lie in an extent of this pool, sealed or not. While an
  /// allocation there is live this stays so.
  bool Owns(const void* address, uint64_t size_bytes) const;

  /// \brief These granule-aligned ranges (offsets in the home segment) now belong to a
  /// sealed object: Free will not reuse them, Reallocate of them copies. What lies in no
  /// extent of this pool is ignored.
  void MarkSealed(const std::vector<Range>& ranges);

  /// \brief Give back every extent that holds no live allocation, beyond what is retained
  /// when `keep_retained`. Returns bytes given back.
  uint64_t ReturnUnused(bool keep_retained);

  /// \brief From now on nothing is kept for reuse: an extent goes back as soon as it
  /// holds no live allocation, those that hold none at once.
  void StopRetaining();

  /// \brief True if no allocation is live, of size 0 either (`bytes_allocated` does not
  /// count those): the pool may be destroyed once nobody allocates any more.
  bool is_empty() const;

  uint64_t held_bytes() const;  ///< Of all extents: a snapshot.

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
  platform::OwnerProcess owner_;
};

}  // namespace sheaf::alloc
