#include "daemon/coverage.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "alloc/range.h"
#include "base/math.h"
#include "format/layout.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

namespace {

// To hold `range` as well, which lies behind what it holds.
void Extend(alloc::Range* extent, const alloc::Range& range) {
  if (extent->size_bytes == 0) *extent = range;
  extent->size_bytes = range.end() - extent->offset;
}

}  // namespace

// One sweep: of all pieces that begin at or before the cursor, the one that reaches
// furthest.
Coverage Cover(const std::vector<alloc::Range>& needed, std::vector<Piece> pieces) {
  std::ranges::sort(pieces, {}, [](const Piece& piece) { return piece.range.offset; });
  Coverage coverage;
  size_t next = 0;
  uint64_t reach = 0;
  ObjectId furthest;
  for (const alloc::Range& range : needed) {
    uint64_t cursor = range.offset;
    while (cursor < range.end()) {
      for (; next < pieces.size() && pieces[next].range.offset <= cursor; ++next) {
        if (pieces[next].range.end() <= reach) continue;
        reach = pieces[next].range.end();
        furthest = pieces[next].owner;
      }
      if (reach <= cursor) {
        coverage.complete = false;
        coverage.uncovered_offset = cursor;
        return coverage;
      }
      const uint64_t end = std::min(reach, range.end());
      Extend(&coverage.owners[furthest], {cursor, end - cursor});
      cursor = end;
    }
  }
  return coverage;
}

std::vector<alloc::Range> RoundToGranules(const std::vector<GlobalRange>& ranges,
                                          SegmentId segment) {
  std::vector<alloc::Range> granules;
  for (const GlobalRange& range : ranges) {
    if (range.begin.segment != segment) continue;
    const uint64_t begin = RoundDown(range.begin.offset, format::kGranuleBytes);
    const uint64_t end = RoundUp(range.end_offset(), format::kGranuleBytes);
    if (!granules.empty() && begin <= granules.back().end()) {
      alloc::Range& last = granules.back();
      last.size_bytes = std::max(last.end(), end) - last.offset;
    } else {
      granules.push_back({begin, end - begin});
    }
  }
  return granules;
}

}  // namespace sheaf::daemon
