// Who holds which bytes of a segment: the home's allocator state. Pure; rebuilt from
// grants and records at any time.

#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/free_index.h"
#include "alloc/range.h"

namespace sheaf::alloc {

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
  /// Open: whose; sealed: the grant it came from, while outstanding.
  std::optional<uint32_t> grant;
  uint32_t references = 0;  ///< Sealed: how many objects.
  auto operator<=>(const Run&) const = default;
};

/// \brief State of every granule of one segment: free, open (in a grant, not yet sealed)
/// or sealed with a reference count (docs/protocol.md L10). Not thread-safe; the home
/// daemon owns it. A sealed granule remembers the grant it came from while that grant is
/// outstanding: its writer may still read it as memory of its own, so at count 0 it goes
/// back to *open in that grant*, and becomes free only when the grant is returned.
/// Operations take O(k log n) for the k runs that they touch, of n in the segment.
/// Invariant ALLOC-1: free, open and sealed ranges are disjoint and cover [0, size).
/// Invariant ALLOC-2: neighbours differ in state, grant or count (maximal runs).
class RangeMap {
 public:
  explicit RangeMap(uint64_t size_bytes);  ///< All free. A multiple of the granule.

  /// \brief Take a free range for `grant`, all of it open: at least `size_bytes` (> 0),
  /// and `wish_bytes` where there is so much in one piece; rounded up to `kExtentBytes`,
  /// or to `kSmallExtentBytes` where no such range is free or when the request asks for
  /// less than kExtentBytes and memory is low; aligned accordingly. Who needs less
  /// than it wishes, and wishes no more than kExtentBytes, gets the largest fragment if
  /// that is a useful one: small tables that stay must not lie in a unit each. Placement:
  /// see FreeIndex. OutOfMemory names what is needed, free, and the largest free range;
  /// Invalid if `grant` is outstanding. Nothing changes then.
  arrow::Result<Range> Grant(uint64_t size_bytes, uint32_t grant,
                             uint64_t wish_bytes = 0);

  /// \brief The grant is no longer outstanding: its open ranges become free (and are
  /// returned), its sealed ranges forget it and become free at count 0. Does nothing if
  /// it is not outstanding.
  std::vector<Range> Return(uint32_t grant);

  /// \brief Open ranges of `grant`, in order: what a dead writer may have dirtied.
  std::vector<Range> OpenRanges(uint32_t grant) const;

  /// \brief The runs that overlap `range`, cut to it, in order. Invalid if it exceeds the
  /// segment.
  arrow::Result<std::vector<Run>> Runs(const Range& range) const;

  /// \brief One reference more on each range: what is open becomes sealed with count 1,
  /// what is sealed gets one more. Ranges are granule-aligned, sorted, disjoint and not
  /// empty; Invalid, and nothing changed, if they are not or a byte is free. Whether the
  /// requester may do that is the caller's check (Runs).
  arrow::Status AddReference(const std::vector<Range>& ranges);

  /// \brief One reference less on each range, all of which must be sealed (our own bug
  /// otherwise). At count 0: open again if its grant is outstanding, else free. Returns
  /// the ranges that became free.
  std::vector<Range> DropReference(const std::vector<Range>& ranges);

  uint64_t size_bytes() const { return size_bytes_; }
  uint64_t free_bytes() const { return free_bytes_; }
  uint64_t open_bytes() const { return open_bytes_; }
  uint64_t largest_free_bytes() const { return free_index_.largest_bytes(); }

  /// \brief Rebuild (R3): mark a grant's whole extent open, before any AddReference of
  /// objects over it; objects whose grant is gone: `AdoptSealed` for free bytes. Invalid,
  /// and nothing changed, if the extent is malformed or not free, or the grant is
  /// outstanding.
  arrow::Status Adopt(const Range& extent, uint32_t grant);
  /// \brief Rebuild (R3): one reference on each range; what is free becomes sealed with
  /// count 1. Ranges as for AddReference.
  arrow::Status AdoptSealed(const std::vector<Range>& ranges);

 private:
  struct Content {
    RunState state = RunState::kFree;
    std::optional<uint32_t> grant;
    uint32_t references = 0;
    bool operator==(const Content&) const = default;
  };
  struct Piece {
    uint64_t size_bytes = 0;
    Content content;
  };
  using Pieces = std::map<uint64_t, Piece>;  // By offset.

  arrow::Status CheckRange(const Range& range) const;
  arrow::Status CheckRanges(const std::vector<Range>& ranges) const;
  bool memory_is_low() const;
  std::optional<Range> Place(uint64_t size_bytes, uint64_t wish_bytes) const;
  arrow::Status OutOfMemory(uint64_t size_bytes) const;

  // The piece that holds the byte at `offset`, which must be in the segment.
  Pieces::const_iterator PieceAt(uint64_t offset) const;
  // Calls `visit(range, content)` for the pieces that overlap `range`, cut to it, in
  // order.
  template <typename Visit>
  void ForEachPiece(const Range& range, Visit visit) const;
  // Gives each piece of `range` the content `change(range of the piece, content)`.
  template <typename Change>
  void Update(const Range& range, Change change);
  void AddReferenceUnchecked(const Range& range);

  // The only writers of `pieces_`: they keep counters and index in step.
  Pieces::iterator Insert(Pieces::iterator hint, uint64_t offset, const Piece& piece);
  Pieces::iterator Erase(Pieces::iterator piece);
  Pieces::iterator SplitAt(uint64_t offset);
  void MergeEqual(Pieces::iterator first, Pieces::iterator last);

  uint64_t size_bytes_;
  uint64_t free_bytes_ = 0;
  uint64_t open_bytes_ = 0;
  Pieces pieces_;
  FreeIndex free_index_;
  std::unordered_map<uint32_t, Range> grants_;  // Outstanding, with their extents.
};

}  // namespace sheaf::alloc
