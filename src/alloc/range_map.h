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

/// \brief What one run of granules is.
enum class RunState : uint8_t {
  kFree,
  kOpen,    ///< In a grant, not sealed: its session may write it.
  kSealed,  ///< Objects refer to it; nobody writes.
};

/// \brief A maximal run of granules in the same state.
struct Run {
  Range range;
  RunState state = RunState::kFree;
  std::optional<uint32_t> grant;  ///< Open: whose; sealed: the grant it came from, while outstanding.
  uint32_t references = 0;        ///< Sealed: how many objects.
  auto operator<=>(const Run&) const = default;
};

/// \brief State of every granule of one segment: free, open (in a grant, not yet sealed) or sealed
/// with a reference count (PROTOCOL.md L10). Not thread-safe; the home daemon owns it.
/// A sealed granule remembers the grant it came from while that grant is outstanding: its writer may
/// still read it as memory of its own, so at count 0 it goes back to *open in that grant*, and becomes
/// free only when the grant is returned.
/// Invariant ALLOC-1: free, open and sealed ranges are disjoint and cover [0, size).
/// Invariant ALLOC-2: neighbours differ in state, grant or count (maximal runs).
class RangeMap {
 public:
  explicit RangeMap(uint64_t size_bytes);  ///< All free. A multiple of the granule.

  /// \brief Take a free range for `grant`, all of it open. `size_bytes` is rounded up to
  /// `kExtentBytes`, or to `kSmallExtentBytes` where no such range is free or when the request asks
  /// for less than kExtentBytes and memory is low; aligned accordingly.
  /// OutOfMemory names what is needed, free, and the largest free range; nothing changes then.
  arrow::Result<Range> Grant(uint64_t size_bytes, uint32_t grant);

  /// \brief The grant is no longer outstanding: its open ranges become free (and are returned),
  /// its sealed ranges forget it and become free at count 0.
  std::vector<Range> Return(uint32_t grant);

  /// \brief Open ranges of `grant`, in order: what a dead writer may have dirtied.
  std::vector<Range> OpenRanges(uint32_t grant) const;

  /// \brief The runs that overlap `range`, cut to it, in order. Invalid if it exceeds the segment.
  arrow::Result<std::vector<Run>> Runs(const Range& range) const;

  /// \brief One reference more on each range: what is open becomes sealed with count 1, what is
  /// sealed gets one more. Ranges are granule-aligned, sorted and disjoint; Invalid, and nothing
  /// changed, if a byte is free. Whether the requester may do that is the caller's check (Runs).
  arrow::Status AddReference(const std::vector<Range>& ranges);

  /// \brief One reference less on each range, all of which must be sealed (our own bug otherwise).
  /// At count 0: open again if its grant is outstanding, else free. Returns the ranges that became free.
  std::vector<Range> DropReference(const std::vector<Range>& ranges);

  uint64_t size_bytes() const { return size_bytes_; }
  uint64_t free_bytes() const { return free_bytes_; }
  uint64_t open_bytes() const { return open_bytes_; }
  uint64_t largest_free_bytes() const;

  /// \brief Rebuild (R3): mark a grant's whole extent open, before any AddReference of objects over
  /// it; objects whose grant is gone: `AdoptSealed` for free bytes.
  arrow::Status Adopt(const Range& extent, uint32_t grant);
  /// \brief Rebuild (R3): one reference on each range; what is free becomes sealed with count 1.
  arrow::Status AdoptSealed(const std::vector<Range>& ranges);

 private:
  uint64_t size_bytes_;
  uint64_t free_bytes_;
  uint64_t open_bytes_ = 0;
};

}  // namespace sheaf::alloc
