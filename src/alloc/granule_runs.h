// How the extents of a pool are divided: runs of granules, live, free or sealed.

#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "alloc/bitmap.h"
#include "alloc/extent_source.h"
#include "alloc/interval_set.h"
#include "alloc/range.h"
#include "format/layout.h"

namespace sheaf::alloc {

using RunId = uint32_t;
constexpr RunId kNoRun = UINT32_MAX;

/// Granules of `size_bytes`.
constexpr uint64_t GranulesFor(uint64_t size_bytes) {
  return (size_bytes + format::kGranuleBytes - 1) / format::kGranuleBytes;
}

/// \brief An extent that a pool holds. Its runs tile it.
struct HeldExtent {
  explicit HeldExtent(const Extent& extent);

  Extent extent;
  uint32_t num_granules;
  uint32_t live_runs = 0;
  uint32_t sealed_granules = 0;
  // By granule; written for the first and the last one of each run and read for no other.
  std::unique_ptr<RunId[]> run_at;
  Bitmap begins;       // Where runs begin.
  IntervalSet sealed;  // Granules.

  uint64_t GranuleOf(const void* address) const {
    return static_cast<uint64_t>(static_cast<const uint8_t*>(address) - extent.data) /
           format::kGranuleBytes;
  }
  bool AnySealed(uint64_t begin, uint64_t end) const {
    return sealed_granules > 0 && sealed.Overlaps(begin, end);
  }
};

enum class GranuleState : uint8_t {
  kUnlisted,  // In the hands of a function.
  kLive,      // An allocation.
  kCached,    // Freed and kept as it is, for the next allocation of the same number of
              // granules.
  kFree,      // Joined with its free neighbours.
  kSealed,    // Belongs to an object, and to no allocation any more: never used again.
};

/// \brief Divides extents. Not thread-safe; all metadata is private memory.
///
/// Runs of up to kCachedGranulesMax granules go, when freed, to a list per size and come
/// back from it unchanged: both O(1). When no larger run is free the lists are emptied,
/// their runs joined with free neighbours. Larger runs come from the best fit, and are
/// joined at once.
class GranuleRuns {
 public:
  /// Runs up to 64 KiB are kept as they are.
  static constexpr uint32_t kCachedGranulesMax = 256;

  HeldExtent* Add(const Extent& extent);  ///< All of it is free.
  Extent Remove(HeldExtent* held);        ///< No live run may be in it.

  /// \brief A live run of `count` granules, its address a multiple of `alignment` (a
  /// power of two); kNoRun if nothing free fits.
  RunId Take(uint32_t count, uint64_t alignment);
  /// \brief The live run is free, but for granules that are sealed (POOL-2).
  void Release(RunId id);
  /// \brief Give the live run `count` granules where it is: the tail becomes free, or
  /// free granules behind it are taken. False, and nothing changed, if they are not free
  /// or any granule is sealed.
  bool Resize(RunId id, uint32_t count);

  /// \brief These bytes of the home segment belong to an object: what is free of them is
  /// taken out, what is live will not become free. Returns the extents concerned.
  std::vector<HeldExtent*> Seal(const Range& range);

  /// \brief The extent that holds [address, address + size), or null.
  HeldExtent* Find(const void* address, uint64_t size_bytes) const;
  /// \brief The live run that begins at `address`. There must be one (a wrong free
  /// otherwise).
  RunId LiveRunAt(const void* address) const;

  uint8_t* AddressOf(RunId id) const {
    const Run& run = runs_[id];
    return run.held->extent.data + run.start * format::kGranuleBytes;
  }
  uint32_t CountOf(RunId id) const { return runs_[id].count; }
  HeldExtent* ExtentOf(RunId id) const { return runs_[id].held; }

  std::vector<HeldExtent*> Extents() const;
  uint64_t held_bytes() const { return held_granules_ * format::kGranuleBytes; }
  uint64_t free_bytes() const { return free_granules_ * format::kGranuleBytes; }

 private:
  struct Run {
    HeldExtent* held = nullptr;
    uint64_t start = 0;  // In granules, as `count`.
    uint32_t count = 0;
    GranuleState state = GranuleState::kUnlisted;
    RunId previous = kNoRun;  // In the list of its size, while cached.
    RunId next = kNoRun;
  };

  RunId NewRun(HeldExtent* held, uint64_t start, uint32_t count, GranuleState state);
  void DropRun(RunId id);
  void SetCount(RunId id, uint32_t count);
  RunId SplitAt(RunId id,
                uint32_t count);  // Returns the new run behind; in no list, as `id`.

  RunId PopCached(uint32_t count);
  void PushCached(RunId id);
  void FlushCached();
  void Withdraw(RunId id);  // Take a cached or free run out of list or index.
  void MakeFree(RunId id);  // Join with free neighbours, put in the index.
  RunId FindFree(uint32_t count, uint64_t alignment) const;
  uint64_t Padding(RunId id, uint64_t alignment) const;
  bool Grow(RunId id, uint32_t count);
  void ReleaseUnsealed(RunId id);
  void TakeOut(HeldExtent* held, uint64_t begin, uint64_t end);

  std::vector<Run> runs_;
  std::vector<RunId> unused_ids_;
  std::array<RunId, kCachedGranulesMax + 1> cached_ =
      MakeEmptyLists();                        // Heads, by count.
  std::set<std::pair<uint32_t, RunId>> free_;  // By count: best fit.
  std::map<const uint8_t*, std::unique_ptr<HeldExtent>> by_address_;
  std::map<uint64_t, HeldExtent*> by_offset_;
  mutable HeldExtent* recent_ = nullptr;  // What Find returned last.
  uint64_t held_granules_ = 0;
  uint64_t free_granules_ = 0;  // Cached ones included.
  uint64_t cached_granules_ = 0;

  static constexpr std::array<RunId, kCachedGranulesMax + 1> MakeEmptyLists() {
    std::array<RunId, kCachedGranulesMax + 1> lists{};
    lists.fill(kNoRun);
    return lists;
  }
};

}  // namespace sheaf::alloc
