// Extents out of private memory: what a session and its home daemon are to a pool, for
// tests of pools.

#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/extent_source.h"
#include "alloc/range.h"
#include "alloc/range_map.h"
#include "base/mutex.h"

namespace sheaf::testing {

/// \brief Grants extents of an arena as a home would. Must outlive the pools that use it.
/// Thread-safe. What becomes free is overwritten, so that who still reads it notices (not
/// in benchmarks).
class ArenaExtentSource : public alloc::ExtentSource {
 public:
  enum class Mode : uint8_t {
    kOverwriteFree,
    kWarm,  ///< All pages are touched once, at the start; what is freed stays as it is.
  };

  explicit ArenaExtentSource(uint64_t size_bytes, Mode mode = Mode::kOverwriteFree);
  ~ArenaExtentSource() override;
  ArenaExtentSource(const ArenaExtentSource&) = delete;
  ArenaExtentSource& operator=(const ArenaExtentSource&) = delete;

  arrow::Result<alloc::Extent> Acquire(uint64_t size_bytes, uint64_t wish_bytes) override
      SHEAF_EXCLUDES(mutex_);
  /// \brief Invalid unless exactly this extent is outstanding.
  arrow::Status Return(const alloc::Extent& extent) override SHEAF_EXCLUDES(mutex_);

  /// \brief One object more, or less, has these ranges; as the home's.
  arrow::Status AddReference(const std::vector<alloc::Range>& ranges)
      SHEAF_EXCLUDES(mutex_);
  void DropReference(const std::vector<alloc::Range>& ranges) SHEAF_EXCLUDES(mutex_);

  /// \brief True if all of [address, address + size) lies in the arena.
  bool Contains(const void* address, uint64_t size_bytes) const;
  /// \brief The granules that hold these bytes.
  alloc::Range GranulesOf(const void* address, uint64_t size_bytes) const;
  const uint8_t* data() const { return data_; }

  uint64_t free_bytes() const SHEAF_EXCLUDES(mutex_);
  uint64_t num_outstanding() const SHEAF_EXCLUDES(mutex_);  ///< Grants.
  /// \brief The sizes that were asked for, also in vain, since the last call.
  std::vector<uint64_t> TakeRequests() SHEAF_EXCLUDES(mutex_);

 private:
  void OverwriteFreed(const std::vector<alloc::Range>& ranges) const;

  const uint64_t size_bytes_;
  const Mode mode_;
  uint8_t* data_;
  mutable Mutex mutex_;
  alloc::RangeMap ranges_ SHEAF_GUARDED_BY(mutex_);
  std::map<uint32_t, alloc::Extent> outstanding_ SHEAF_GUARDED_BY(mutex_);
  std::vector<uint64_t> requests_ SHEAF_GUARDED_BY(mutex_);
  uint64_t next_generation_ SHEAF_GUARDED_BY(mutex_) = 1;
};

}  // namespace sheaf::testing
