#include "alloc/granule_runs.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "alloc/bitmap.h"
#include "alloc/extent_source.h"
#include "alloc/range.h"
#include "base/check.h"
#include "base/math.h"
#include "format/layout.h"

namespace sheaf::alloc {
namespace {

using format::kGranuleBytes;

// Cached runs are joined with their neighbours when they make up more than this (4 MiB),
// and more than a quarter of what is held: bounds fragmentation, and makes the cost of
// joining O(1) a free.
constexpr uint64_t kCachedTotalGranules = 16384;
constexpr uint64_t kCachedPartOfHeld = 4;

}  // namespace

HeldExtent::HeldExtent(const Extent& held)
    : extent(held),
      num_granules(CheckedCast<uint32_t>(held.size_bytes / kGranuleBytes)),
      run_at(std::make_unique_for_overwrite<RunId[]>(num_granules)),
      begins(num_granules) {}

HeldExtent* GranuleRuns::Add(const Extent& extent) {
  SHEAF_CHECK(extent.size_bytes > 0 && IsAligned(extent.size_bytes, kGranuleBytes));
  SHEAF_CHECK(IsAligned(extent.offset, kGranuleBytes));
  SHEAF_CHECK(IsAligned(reinterpret_cast<uintptr_t>(extent.data), kGranuleBytes));
  auto owned = std::make_unique<HeldExtent>(extent);
  HeldExtent* const held = owned.get();
  SHEAF_CHECK(by_address_.emplace(extent.data, std::move(owned)).second);
  SHEAF_CHECK(by_offset_.emplace(extent.offset, held).second);
  held_granules_ += held->num_granules;
  free_granules_ += held->num_granules;
  MakeFree(NewRun(held, 0, held->num_granules, GranuleState::kUnlisted));
  return held;
}

Extent GranuleRuns::Remove(HeldExtent* held) {
  SHEAF_CHECK(held->live_runs == 0);
  for (uint64_t granule = 0; granule < held->num_granules;) {
    const RunId id = held->run_at[granule];
    const Run run = runs_[id];
    granule += run.count;
    if (run.state != GranuleState::kSealed) {
      free_granules_ -= run.count;
      Withdraw(id);
    }
    DropRun(id);
  }
  held_granules_ -= held->num_granules;
  if (recent_ == held) recent_ = nullptr;
  const Extent extent = held->extent;
  by_offset_.erase(extent.offset);
  by_address_.erase(extent.data);
  return extent;
}

RunId GranuleRuns::Take(uint32_t count, uint64_t alignment) {
  RunId id = kNoRun;
  if (count <= kCachedGranulesMax && alignment <= kGranuleBytes) id = PopCached(count);
  if (id == kNoRun) {
    id = FindFree(count, alignment);
    if (id == kNoRun && cached_granules_ > 0) {
      FlushCached();
      id = FindFree(count, alignment);
    }
    if (id == kNoRun) return kNoRun;
    Withdraw(id);
    if (const uint64_t padding = Padding(id, alignment); padding > 0) {
      const RunId front = id;
      id = SplitAt(front, static_cast<uint32_t>(padding));
      MakeFree(front);
    }
    if (runs_[id].count > count) MakeFree(SplitAt(id, count));
  }
  Run& run = runs_[id];
  run.state = GranuleState::kLive;
  ++run.held->live_runs;
  free_granules_ -= count;
  return id;
}

void GranuleRuns::Release(RunId id) {
  const Run& run = runs_[id];
  --run.held->live_runs;
  if (run.held->AnySealed(run.start, run.start + run.count)) {
    ReleaseUnsealed(id);
    return;
  }
  free_granules_ += run.count;
  if (run.count > kCachedGranulesMax) {
    MakeFree(id);
    return;
  }
  PushCached(id);
  if (cached_granules_ > kCachedTotalGranules &&
      cached_granules_ > held_granules_ / kCachedPartOfHeld) {
    FlushCached();
  }
}

// Divides the run in sealed and other granules.
void GranuleRuns::ReleaseUnsealed(RunId id) {
  const HeldExtent& held = *runs_[id].held;
  const uint64_t end = runs_[id].start + runs_[id].count;
  RunId rest = id;
  while (rest != kNoRun) {
    const uint64_t start = runs_[rest].start;
    const bool sealed = held.sealed.Contains(start);
    const uint64_t same_until = held.sealed.FirstDifference(start, end);
    const RunId piece = rest;
    rest = same_until < end ? SplitAt(piece, static_cast<uint32_t>(same_until - start))
                            : kNoRun;
    if (sealed) {
      runs_[piece].state = GranuleState::kSealed;
    } else {
      free_granules_ += runs_[piece].count;
      MakeFree(piece);
    }
  }
}

bool GranuleRuns::Resize(RunId id, uint32_t count) {
  const Run& run = runs_[id];
  if (run.held->AnySealed(run.start, run.start + run.count)) return false;
  if (count == run.count) return true;
  if (count > run.count) return Grow(id, count);
  free_granules_ += run.count - count;
  MakeFree(SplitAt(id, count));
  return true;
}

bool GranuleRuns::Grow(RunId id, uint32_t count) {
  HeldExtent* const held = runs_[id].held;
  const uint64_t old_end = runs_[id].start + runs_[id].count;
  const uint64_t new_end = runs_[id].start + count;
  if (new_end > held->num_granules) return false;
  // At most as many steps as granules are asked for, each cheaper than copying a granule.
  for (uint64_t at = old_end; at < new_end; at += runs_[held->run_at[at]].count) {
    const GranuleState state = runs_[held->run_at[at]].state;
    if (state != GranuleState::kFree && state != GranuleState::kCached) return false;
  }
  for (uint64_t at = old_end; at < new_end;) {
    const RunId next = held->run_at[at];
    Withdraw(next);
    at += runs_[next].count;
    if (at > new_end)
      MakeFree(SplitAt(next, runs_[next].count - static_cast<uint32_t>(at - new_end)));
    DropRun(next);
  }
  free_granules_ -= count - runs_[id].count;
  SetCount(id, count);
  return true;
}

std::vector<HeldExtent*> GranuleRuns::Seal(const Range& range) {
  SHEAF_CHECK(IsAligned(range.offset, kGranuleBytes) &&
              IsAligned(range.size_bytes, kGranuleBytes));
  std::vector<HeldExtent*> concerned;
  auto it = by_offset_.upper_bound(range.offset);
  if (it != by_offset_.begin()) --it;
  for (; it != by_offset_.end() && it->first < range.end(); ++it) {
    HeldExtent* const held = it->second;
    const uint64_t extent_end = held->extent.offset + held->extent.size_bytes;
    const uint64_t begin = std::max(range.offset, held->extent.offset);
    const uint64_t end = std::min(range.end(), extent_end);
    if (begin >= end) continue;
    TakeOut(held, (begin - held->extent.offset) / kGranuleBytes,
            (end - held->extent.offset) / kGranuleBytes);
    concerned.push_back(held);
  }
  return concerned;
}

// Marks granules [begin, end) sealed; what is free there becomes runs of its own, in no
// index.
void GranuleRuns::TakeOut(HeldExtent* held, uint64_t begin, uint64_t end) {
  held->sealed_granules += static_cast<uint32_t>(held->sealed.Insert(begin, end));
  for (uint64_t at = held->begins.FindLastSet(begin); at < end;) {
    RunId id = held->run_at[at];
    at += runs_[id].count;
    if (runs_[id].state != GranuleState::kFree &&
        runs_[id].state != GranuleState::kCached)
      continue;
    Withdraw(id);
    if (runs_[id].start < begin) {
      const RunId front = id;
      id = SplitAt(front, static_cast<uint32_t>(begin - runs_[front].start));
      MakeFree(front);
    }
    if (at > end) MakeFree(SplitAt(id, static_cast<uint32_t>(end - runs_[id].start)));
    runs_[id].state = GranuleState::kSealed;
    free_granules_ -= runs_[id].count;
  }
}

HeldExtent* GranuleRuns::Find(const void* address, uint64_t size_bytes) const {
  const auto* const bytes = static_cast<const uint8_t*>(address);
  const auto holds = [&](const HeldExtent& held) {
    const auto offset = reinterpret_cast<uintptr_t>(bytes) -
                        reinterpret_cast<uintptr_t>(held.extent.data);
    return bytes >= held.extent.data &&
           FitsWithin(offset, size_bytes, held.extent.size_bytes);
  };
  if (recent_ != nullptr && holds(*recent_)) return recent_;
  const auto next = by_address_.upper_bound(bytes);
  if (next == by_address_.begin()) return nullptr;
  HeldExtent* const held = std::prev(next)->second.get();
  if (!holds(*held)) return nullptr;
  recent_ = held;
  return held;
}

RunId GranuleRuns::LiveRunAt(const void* address) const {
  const HeldExtent* const held = Find(address, 1);
  SHEAF_CHECK(held != nullptr);
  const uint64_t granule = held->GranuleOf(address);
  SHEAF_CHECK(held->begins.Test(granule));
  const RunId id = held->run_at[granule];
  SHEAF_CHECK(runs_[id].state == GranuleState::kLive && AddressOf(id) == address);
  return id;
}

std::vector<HeldExtent*> GranuleRuns::Extents() const {
  std::vector<HeldExtent*> extents;
  extents.reserve(by_address_.size());
  for (const auto& [address, held] : by_address_) extents.push_back(held.get());
  return extents;
}

}  // namespace sheaf::alloc
