// The free ranges of one segment, found by size and alignment.

#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <utility>

#include "alloc/range.h"

namespace sheaf::alloc {

/// \brief Free ranges of one segment; every operation is O(log n). Not thread-safe.
///
/// Placement keeps whole 2 MiB units together: the part of a free range that consists of
/// aligned units is told apart from the *fragments* before and behind it (a range without
/// any such unit is one fragment). Extents of 2 MiB multiples come from the best fitting
/// unit part, small extents from the best fitting fragment, and break a unit only when no
/// fragment fits.
class FreeIndex {
 public:
  /// \brief `range` must not overlap or touch one that is in.
  void Insert(const Range& range);
  void Erase(const Range& range);  ///< Exactly one that is in.

  /// \brief Place for a multiple of kExtentBytes, so aligned.
  std::optional<Range> FindExtent(uint64_t size_bytes) const;
  /// \brief Place for a multiple of kSmallExtentBytes, so aligned.
  std::optional<Range> FindSmallExtent(uint64_t size_bytes) const;

  /// \brief The largest fragment, cut to kExtentBytes; a multiple of kSmallExtentBytes.
  std::optional<Range> LargestFragment() const;

  uint64_t largest_bytes()
      const;  ///< Of any range, aligned or not; 0 when there is none.

 private:
  // (size, offset) of ranges or of their aligned parts: lower_bound is the best fit, ties
  // go to the lowest offset.
  using BySize = std::set<std::pair<uint64_t, uint64_t>>;

  // Calls `visit(set, range)` for each entry that `range` has in the four sets.
  template <typename Visit>
  void ForEachEntry(const Range& range, Visit visit);

  BySize whole_;
  BySize extents_;        // Parts made of aligned kExtentBytes.
  BySize small_extents_;  // Parts made of aligned kSmallExtentBytes.
  BySize fragments_;      // What of small_extents_ lies outside extents_.
};

}  // namespace sheaf::alloc
