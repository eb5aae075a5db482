// Do the ranges of some objects cover the ranges that a table needs? Pure.

#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include <arrow/result.h>

#include "alloc/range_map.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief Bytes of one segment that `owner` vouches for.
struct Piece {
  alloc::Range range;
  ObjectId owner;
};

/// \brief Objects, each with the range that holds all of what it is needed for.
using Owners = std::map<ObjectId, alloc::Range>;

/// \brief What `Cover` found: the owners that are needed, or the first byte that nobody
/// covers.
struct Coverage {
  Owners owners;
  bool complete = true;
  uint64_t uncovered_offset = 0;  ///< If not complete.
};

/// \brief Cover `needed` (sorted, disjoint, one segment) with `pieces` (any order, may
/// overlap) of few owners. Several pieces may cover one range together.
Coverage Cover(const std::vector<alloc::Range>& needed, std::vector<Piece> pieces);

/// \brief `ranges` of `segment` (sorted), rounded out to granules and merged.
std::vector<alloc::Range> RoundToGranules(const std::vector<GlobalRange>& ranges,
                                          SegmentId segment);

}  // namespace sheaf::daemon
