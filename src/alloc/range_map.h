// Who holds which bytes of a segment: the home's allocator state. Pure; rebuilt from grants and records at any time.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

namespace sheaf::alloc {

/// \brief A byte range of one segment's data part.
struct Range {
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
  uint64_t end() const { return offset + size_bytes; }
  auto operator<=>(const Range&) const = default;
};

/// \brief State of every granule of one segment: free, open (in a grant, not yet sealed) or sealed with a reference
/// count (PROTOCOL.md L10). Not thread-safe; the home daemon owns it.
/// Invariant ALLOC-1: free, open and sealed ranges are disjoint and cover [0, size).
/// Invariant ALLOC-2: neighbours differ in state, owner or count (maximal runs).
class RangeMap {
 public:
  explicit RangeMap(uint64_t size_bytes);  ///< All free. A multiple of the granule.

  /// \brief Take a free range for `grant`, all of it open. `size_bytes` is rounded up to
  /// `kExtentBytes`, or to `kSmallExtentBytes` where no such range is free or when the request asks
  /// for less than kExtentBytes and memory is low; aligned accordingly.
  /// OutOfMemory names what is needed, free, and the largest free range; nothing changes then.
  arrow::Result<Range> Grant(uint64_t size_bytes, uint32_t grant);

  /// \brief Open ranges of `grant` become free. What was sealed out of it stays.
  /// Returns the ranges freed.
  std::vector<Range> Return(uint32_t grant);

  /// \brief Open ranges of `grant`, in order: what a dead writer may have dirtied.
  std::vector<Range> OpenRanges(uint32_t grant) const;

  /// \brief Seal: each range must lie in open ranges of one of `grants` (or already be sealed by an
  /// object that is alive, see Share). Count becomes 1. Invalid, and nothing changed, otherwise.
  /// Ranges are granule-aligned.
  arrow::Status Seal(const std::vector<Range>& ranges, const std::vector<uint32_t>& grants);

  /// \brief One more reference on each range, all of which must be sealed. Invalid, and nothing
  /// changed, otherwise.
  arrow::Status Share(const std::vector<Range>& ranges);

  /// \brief One reference less on each range; what reaches 0 becomes free and is returned.
  /// All ranges must be sealed: our own bug otherwise.
  std::vector<Range> Release(const std::vector<Range>& ranges);

  /// \brief True if every byte of `range` is open in `grant`.
  bool IsOpen(const Range& range, uint32_t grant) const;
  bool IsSealed(const Range& range) const;

  uint64_t size_bytes() const { return size_bytes_; }
  uint64_t free_bytes() const { return free_bytes_; }
  uint64_t open_bytes() const { return open_bytes_; }
  uint64_t largest_free_bytes() const;

  /// \brief Rebuild (R3): mark a grant's whole extent open, before any Seal of objects over it.
  arrow::Status Adopt(const Range& extent, uint32_t grant);

 private:
  uint64_t size_bytes_;
  uint64_t free_bytes_;
  uint64_t open_bytes_ = 0;
};

}  // namespace sheaf::alloc
