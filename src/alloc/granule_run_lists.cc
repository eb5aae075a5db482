// GranuleRuns: making, splitting and joining runs; the lists and the index of free ones.

#include <cstdint>

#include "alloc/granule_runs.h"
#include "base/check.h"
#include "base/math.h"
#include "format/layout.h"

namespace sheaf::alloc {
namespace {

// How many runs that are large enough are tried for an alignment before only a run that
// is so large that it fits in any case will do.
constexpr int kAlignedTries = 8;

}  // namespace

RunId GranuleRuns::NewRun(HeldExtent* held, uint64_t start, uint32_t count,
                          GranuleState state) {
  RunId id = kNoRun;
  if (unused_ids_.empty()) {
    id = CheckedCast<RunId>(runs_.size());
    SHEAF_CHECK(id != kNoRun);
    runs_.emplace_back();
  } else {
    id = unused_ids_.back();
    unused_ids_.pop_back();
  }
  runs_[id] = {held, start, count, state, kNoRun, kNoRun};
  held->run_at[start] = id;
  held->run_at[start + count - 1] = id;
  held->begins.Set(start);
  return id;
}

void GranuleRuns::DropRun(RunId id) {
  runs_[id].held->begins.Clear(runs_[id].start);
  unused_ids_.push_back(id);
}

void GranuleRuns::SetCount(RunId id, uint32_t count) {
  Run& run = runs_[id];
  run.count = count;
  run.held->run_at[run.start + count - 1] = id;
}

RunId GranuleRuns::SplitAt(RunId id, uint32_t count) {
  const Run whole = runs_[id];
  SHEAF_DCHECK(count > 0 && count < whole.count);
  SetCount(id, count);
  return NewRun(whole.held, whole.start + count, whole.count - count, whole.state);
}

RunId GranuleRuns::PopCached(uint32_t count) {
  const RunId id = cached_[count];
  if (id != kNoRun) Withdraw(id);
  return id;
}

void GranuleRuns::PushCached(RunId id) {
  Run& run = runs_[id];
  RunId& head = cached_[run.count];
  run.state = GranuleState::kCached;
  run.previous = kNoRun;
  run.next = head;
  if (head != kNoRun) runs_[head].previous = id;
  head = id;
  cached_granules_ += run.count;
}

void GranuleRuns::FlushCached() {
  for (RunId& head : cached_) {
    while (head != kNoRun) {
      const RunId id = head;
      Withdraw(id);
      MakeFree(id);
    }
  }
}

void GranuleRuns::Withdraw(RunId id) {
  Run& run = runs_[id];
  const GranuleState state = run.state;
  run.state = GranuleState::kUnlisted;
  if (state == GranuleState::kFree) {
    SHEAF_CHECK(free_.erase({run.count, id}) == 1);
    return;
  }
  SHEAF_CHECK(state == GranuleState::kCached);
  (run.previous == kNoRun ? cached_[run.count] : runs_[run.previous].next) = run.next;
  if (run.next != kNoRun) runs_[run.next].previous = run.previous;
  cached_granules_ -= run.count;
}

void GranuleRuns::MakeFree(RunId id) {
  const Run run = runs_[id];
  const HeldExtent& held = *run.held;
  uint64_t count = run.count;
  RunId first = id;
  if (const uint64_t end = run.start + run.count; end < held.num_granules) {
    const RunId behind = held.run_at[end];
    if (runs_[behind].state == GranuleState::kFree) {
      Withdraw(behind);
      count += runs_[behind].count;
      DropRun(behind);
    }
  }
  if (run.start > 0) {
    const RunId before = held.run_at[run.start - 1];
    if (runs_[before].state == GranuleState::kFree) {
      Withdraw(before);
      count += runs_[before].count;
      DropRun(id);
      first = before;
    }
  }
  runs_[first].state = GranuleState::kFree;
  SetCount(first, static_cast<uint32_t>(count));
  free_.emplace(runs_[first].count, first);
}

// Granules between the begin of the run and its first address that is a multiple of
// `alignment`.
uint64_t GranuleRuns::Padding(RunId id, uint64_t alignment) const {
  if (alignment <= format::kGranuleBytes) return 0;
  const auto address = reinterpret_cast<uintptr_t>(AddressOf(id));
  return (RoundUp(address, alignment) - address) / format::kGranuleBytes;
}

RunId GranuleRuns::FindFree(uint32_t count, uint64_t alignment) const {
  auto it = free_.lower_bound({count, 0});
  for (int tries = 0; tries < kAlignedTries && it != free_.end(); ++tries, ++it) {
    if (Padding(it->second, alignment) + count <= it->first) return it->second;
  }
  const uint64_t fits_anywhere = count + alignment / format::kGranuleBytes;
  if (fits_anywhere > UINT32_MAX) return kNoRun;
  it = free_.lower_bound({static_cast<uint32_t>(fits_anywhere), 0});
  return it == free_.end() ? kNoRun : it->second;
}

}  // namespace sheaf::alloc
