#include "alloc/free_index.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <utility>

#include "alloc/range.h"
#include "base/check.h"
#include "base/math.h"
#include "format/layout.h"

namespace sheaf::alloc {
namespace {

// The largest part of `range` that starts and ends at multiples of `unit`; may be empty.
Range AlignedPart(const Range& range, uint64_t unit) {
  const uint64_t begin = RoundUp(range.offset, unit);
  const uint64_t end = RoundDown(range.end(), unit);
  return {begin, end > begin ? end - begin : 0};
}

std::optional<Range> BestFit(const std::set<std::pair<uint64_t, uint64_t>>& parts,
                             uint64_t size_bytes) {
  const auto found = parts.lower_bound({size_bytes, 0});
  if (found == parts.end()) return std::nullopt;
  return Range{found->second, size_bytes};
}

}  // namespace

template <typename Visit>
void FreeIndex::ForEachEntry(const Range& range, Visit visit) {
  const auto visit_part = [&](BySize& set, const Range& part) {
    if (part.size_bytes > 0) visit(set, part);
  };
  visit_part(whole_, range);
  visit_part(small_extents_, AlignedPart(range, format::kSmallExtentBytes));
  const Range units = AlignedPart(range, format::kExtentBytes);
  if (units.size_bytes == 0) {
    visit_part(fragments_, AlignedPart(range, format::kSmallExtentBytes));
    return;
  }
  visit_part(extents_, units);
  const Range head{range.offset, units.offset - range.offset};
  const Range tail{units.end(), range.end() - units.end()};
  visit_part(fragments_, AlignedPart(head, format::kSmallExtentBytes));
  visit_part(fragments_, AlignedPart(tail, format::kSmallExtentBytes));
}

void FreeIndex::Insert(const Range& range) {
  ForEachEntry(range, [](BySize& set, const Range& part) {
    SHEAF_CHECK(set.emplace(part.size_bytes, part.offset).second);
  });
}

void FreeIndex::Erase(const Range& range) {
  ForEachEntry(range, [](BySize& set, const Range& part) {
    SHEAF_CHECK(set.erase({part.size_bytes, part.offset}) == 1);
  });
}

std::optional<Range> FreeIndex::FindExtent(uint64_t size_bytes) const {
  return BestFit(extents_, size_bytes);
}

std::optional<Range> FreeIndex::FindSmallExtent(uint64_t size_bytes) const {
  const auto fragment = BestFit(fragments_, size_bytes);
  return fragment ? fragment : BestFit(small_extents_, size_bytes);
}

std::optional<Range> FreeIndex::LargestFragment() const {
  if (fragments_.empty()) return std::nullopt;
  const auto [size_bytes, offset] = *fragments_.rbegin();
  return Range{offset, std::min(size_bytes, format::kExtentBytes)};
}

uint64_t FreeIndex::largest_bytes() const {
  return whole_.empty() ? 0 : whole_.rbegin()->first;
}

}  // namespace sheaf::alloc
