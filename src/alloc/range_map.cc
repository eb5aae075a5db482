#include "alloc/range_map.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range.h"
#include "base/check.h"
#include "base/math.h"
#include "format/layout.h"

namespace sheaf::alloc {
namespace {

// Memory is low when less than this part of the segment is free: a request for a few KiB
// then should not take one of the last 2 MiB units.
constexpr uint64_t kLowMemoryDivisor = 8;

// A smaller fragment would be used up, and the home asked again, too soon.
constexpr uint64_t kFragmentBytesMin = uint64_t{256} << 10;

// Adds `range` behind the others, as one with the last where they touch.
void Append(std::vector<Range>& ranges, const Range& range) {
  if (!ranges.empty() && ranges.back().end() == range.offset) {
    ranges.back().size_bytes += range.size_bytes;
  } else {
    ranges.push_back(range);
  }
}

}  // namespace

RangeMap::RangeMap(uint64_t size_bytes) : size_bytes_(size_bytes) {
  SHEAF_CHECK(IsAligned(size_bytes, format::kGranuleBytes));
  if (size_bytes > 0) Insert(pieces_.end(), 0, {size_bytes, Content{}});
}

// Where a request goes; nothing if it does not fit anywhere.
std::optional<Range> RangeMap::Place(uint64_t size_bytes, uint64_t wish_bytes) const {
  if (size_bytes > free_bytes_) return std::nullopt;  // So no rounding below overflows.
  const uint64_t small_bytes = RoundUp(size_bytes, format::kSmallExtentBytes);
  const bool is_small = size_bytes < format::kExtentBytes;
  std::optional<Range> extent;
  if (is_small && wish_bytes > size_bytes && wish_bytes <= format::kExtentBytes) {
    extent = free_index_.LargestFragment();
    if (extent && extent->size_bytes >= std::max(small_bytes, kFragmentBytesMin)) {
      return extent;
    }
    extent.reset();
  }
  if (!is_small || !memory_is_low()) {
    if (wish_bytes > size_bytes && wish_bytes <= free_bytes_) {
      extent = free_index_.FindExtent(RoundUp(wish_bytes, format::kExtentBytes));
    }
    if (!extent) {
      extent = free_index_.FindExtent(RoundUp(size_bytes, format::kExtentBytes));
    }
  }
  return extent ? extent : free_index_.FindSmallExtent(small_bytes);
}

arrow::Result<Range> RangeMap::Grant(uint64_t size_bytes, uint32_t grant,
                                     uint64_t wish_bytes) {
  if (size_bytes == 0) return arrow::Status::Invalid("a grant of 0 bytes was asked for");
  if (grants_.contains(grant)) {
    return arrow::Status::Invalid("grant ", grant, " is outstanding already");
  }
  const std::optional<Range> extent = Place(size_bytes, wish_bytes);
  if (!extent) return OutOfMemory(size_bytes);
  ARROW_RETURN_NOT_OK(Adopt(*extent, grant));
  return *extent;
}

std::vector<Range> RangeMap::Return(uint32_t grant) {
  std::vector<Range> freed;
  const auto found = grants_.find(grant);
  if (found == grants_.end()) return freed;
  const Range extent = found->second;
  grants_.erase(found);
  Update(extent, [&](const Range& range, Content content) {
    SHEAF_CHECK(content.grant == grant);
    content.grant.reset();
    if (content.state == RunState::kOpen) {
      content.state = RunState::kFree;
      Append(freed, range);
    }
    return content;
  });
  return freed;
}

std::vector<Range> RangeMap::OpenRanges(uint32_t grant) const {
  std::vector<Range> open;
  const auto found = grants_.find(grant);
  if (found == grants_.end()) return open;
  ForEachPiece(found->second, [&](const Range& range, const Content& content) {
    if (content.state == RunState::kOpen) open.push_back(range);
  });
  return open;
}

arrow::Result<std::vector<Run>> RangeMap::Runs(const Range& range) const {
  if (!FitsWithin(range.offset, range.size_bytes, size_bytes_)) return CheckRange(range);
  std::vector<Run> runs;
  ForEachPiece(range, [&](const Range& cut, const Content& content) {
    runs.push_back({cut, content.state, content.grant, content.references});
  });
  return runs;
}

arrow::Status RangeMap::AddReference(const std::vector<Range>& ranges) {
  ARROW_RETURN_NOT_OK(CheckRanges(ranges));
  std::optional<Range> free;
  for (const Range& range : ranges) {
    ForEachPiece(range, [&](const Range& cut, const Content& content) {
      if (content.state == RunState::kFree) free = cut;
    });
  }
  if (free) {
    return arrow::Status::Invalid("range ", free->offset, "+", free->size_bytes,
                                  " is free: nothing there to refer to");
  }
  for (const Range& range : ranges) AddReferenceUnchecked(range);
  return arrow::Status::OK();
}

std::vector<Range> RangeMap::DropReference(const std::vector<Range>& ranges) {
  SHEAF_CHECK(CheckRanges(ranges).ok());
  std::vector<Range> freed;
  for (const Range& range : ranges) {
    Update(range, [&](const Range& cut, Content content) {
      SHEAF_CHECK(content.state == RunState::kSealed && content.references > 0);
      if (--content.references > 0) return content;
      content.state = content.grant ? RunState::kOpen : RunState::kFree;
      if (!content.grant) Append(freed, cut);
      return content;
    });
  }
  return freed;
}

arrow::Status RangeMap::Adopt(const Range& extent, uint32_t grant) {
  ARROW_RETURN_NOT_OK(CheckRange(extent));
  if (grants_.contains(grant)) {
    return arrow::Status::Invalid("grant ", grant, " is outstanding already");
  }
  const auto piece = PieceAt(extent.offset);
  if (piece->second.content.state != RunState::kFree ||
      piece->first + piece->second.size_bytes < extent.end()) {
    return arrow::Status::Invalid("extent ", extent.offset, "+", extent.size_bytes,
                                  " of grant ", grant, " is not free");
  }
  Update(extent, [&](const Range&, const Content&) {
    return Content{RunState::kOpen, grant, 0};
  });
  grants_.emplace(grant, extent);
  return arrow::Status::OK();
}

arrow::Status RangeMap::AdoptSealed(const std::vector<Range>& ranges) {
  ARROW_RETURN_NOT_OK(CheckRanges(ranges));
  for (const Range& range : ranges) AddReferenceUnchecked(range);
  return arrow::Status::OK();
}

void RangeMap::AddReferenceUnchecked(const Range& range) {
  Update(range, [](const Range&, Content content) {
    SHEAF_CHECK(content.references < std::numeric_limits<uint32_t>::max());
    content.state = RunState::kSealed;
    ++content.references;
    return content;
  });
}

arrow::Status RangeMap::CheckRange(const Range& range) const {
  if (!FitsWithin(range.offset, range.size_bytes, size_bytes_)) {
    return arrow::Status::Invalid("range ", range.offset, "+", range.size_bytes,
                                  " ends past segment of ", size_bytes_, " bytes");
  }
  if (range.size_bytes == 0 || !IsAligned(range.offset, format::kGranuleBytes) ||
      !IsAligned(range.size_bytes, format::kGranuleBytes)) {
    return arrow::Status::Invalid("range ", range.offset, "+", range.size_bytes,
                                  " is empty or not a multiple of ",
                                  format::kGranuleBytes, " bytes");
  }
  return arrow::Status::OK();
}

arrow::Status RangeMap::CheckRanges(const std::vector<Range>& ranges) const {
  uint64_t end = 0;
  for (const Range& range : ranges) {
    ARROW_RETURN_NOT_OK(CheckRange(range));
    if (range.offset < end) {
      return arrow::Status::Invalid("range ", range.offset, "+", range.size_bytes,
                                    " overlaps or precedes one that ends at ", end);
    }
    end = range.end();
  }
  return arrow::Status::OK();
}

bool RangeMap::memory_is_low() const {
  return free_bytes_ < size_bytes_ / kLowMemoryDivisor;
}

arrow::Status RangeMap::OutOfMemory(uint64_t size_bytes) const {
  return arrow::Status::OutOfMemory("no free range for a grant of ", size_bytes,
                                    " bytes: ", free_bytes_, " of ", size_bytes_,
                                    " bytes are free, the largest free range has ",
                                    largest_free_bytes(), " bytes");
}

RangeMap::Pieces::const_iterator RangeMap::PieceAt(uint64_t offset) const {
  return std::prev(pieces_.upper_bound(offset));
}

template <typename Visit>
void RangeMap::ForEachPiece(const Range& range, Visit visit) const {
  if (range.size_bytes == 0) return;
  for (auto it = PieceAt(range.offset); it != pieces_.end() && it->first < range.end();
       ++it) {
    const uint64_t begin = std::max(it->first, range.offset);
    const uint64_t end = std::min(it->first + it->second.size_bytes, range.end());
    visit(Range{begin, end - begin}, it->second.content);
  }
}

template <typename Change>
void RangeMap::Update(const Range& range, Change change) {
  const auto last = SplitAt(range.end());
  const auto first = SplitAt(range.offset);
  auto it = first;
  auto changed_first = last;
  while (it != last) {
    const uint64_t offset = it->first;
    const uint64_t size_bytes = it->second.size_bytes;
    const Content content = change(Range{offset, size_bytes}, it->second.content);
    const auto changed = Insert(Erase(it), offset, {size_bytes, content});
    if (offset == range.offset) changed_first = changed;
    it = std::next(changed);
  }
  MergeEqual(changed_first, last);
}

RangeMap::Pieces::iterator RangeMap::Insert(Pieces::iterator hint, uint64_t offset,
                                            const Piece& piece) {
  if (piece.content.state == RunState::kFree) {
    free_bytes_ += piece.size_bytes;
    free_index_.Insert({offset, piece.size_bytes});
  } else if (piece.content.state == RunState::kOpen) {
    open_bytes_ += piece.size_bytes;
  }
  return pieces_.emplace_hint(hint, offset, piece);
}

RangeMap::Pieces::iterator RangeMap::Erase(Pieces::iterator piece) {
  const auto& [size_bytes, content] = piece->second;
  if (content.state == RunState::kFree) {
    free_bytes_ -= size_bytes;
    free_index_.Erase({piece->first, size_bytes});
  } else if (content.state == RunState::kOpen) {
    open_bytes_ -= size_bytes;
  }
  return pieces_.erase(piece);
}

// Makes a piece start at `offset`; returns it, or the end for the segment's end.
RangeMap::Pieces::iterator RangeMap::SplitAt(uint64_t offset) {
  const auto next = pieces_.lower_bound(offset);
  if (next == pieces_.end() ? offset == size_bytes_ : next->first == offset) return next;
  const auto found = std::prev(next);
  const uint64_t begin = found->first;
  const Piece whole = found->second;
  const uint64_t head_bytes = offset - begin;
  const auto behind = Erase(found);
  Insert(behind, begin, {head_bytes, whole.content});
  return Insert(behind, offset, {whole.size_bytes - head_bytes, whole.content});
}

// Joins equal neighbours from the piece before `first` up to and with `last` (ALLOC-2).
void RangeMap::MergeEqual(Pieces::iterator first, Pieces::iterator last) {
  const uint64_t end = last == pieces_.end() ? size_bytes_ : last->first;
  auto it = first == pieces_.begin() ? first : std::prev(first);
  while (it != pieces_.end() && it->first < end) {
    const auto next = std::next(it);
    if (next == pieces_.end()) return;
    if (it->second.content != next->second.content) {
      it = next;
      continue;
    }
    const uint64_t offset = it->first;
    const Piece joined{it->second.size_bytes + next->second.size_bytes,
                       it->second.content};
    Erase(it);
    it = Insert(Erase(next), offset, joined);
  }
}

}  // namespace sheaf::alloc
