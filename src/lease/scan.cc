// One-sided scan of the lease cells of all nodes (docs/protocol.md G1).

#include <algorithm>
#include <cstdint>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/layout.h"
#include "lease/lease.h"
#include "platform/cache.h"
#include "platform/shared_word.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::lease {
namespace {

constexpr uint32_t kHomeShift = 52;

/// Calls `on_cell` with each non-zero cell of a page: LOAD! of mark and cells at once,
/// since a cell that is written later belongs to a reader whose re-check fails.
template <typename CellFn>
void ScanPage(const region::Segment& segment, uint32_t page, CellFn& on_cell) {
  const uint64_t* words = segment.LeasePage(page);
  segment.leases().cache()->Invalidate(words, format::kLeasePageBytes);
  const uint64_t mark = platform::SharedWord(words + kPageMarkWord).LoadAcquire();
  const uint64_t cells = std::min<uint64_t>(mark, format::kLeaseCellsPerPage);
  for (uint64_t i = 0; i < cells; ++i) {
    const uint64_t cell =
        platform::SharedWord(words + kPageHeaderWords + i).LoadAcquire();
    if (cell != 0) on_cell(cell);
  }
}

template <typename CellFn>
arrow::Status ScanSegment(const region::Segment& segment, CellFn& on_cell) {
  ARROW_ASSIGN_OR_RAISE(const auto marks, region::ReadMarks(segment));
  const uint32_t pages = marks.lease_pages;
  if (pages == 0) return arrow::Status::OK();
  const uint64_t* table = segment.ControlLine(segment.layout().page_table);
  segment.control().cache()->Invalidate(table, pages * sizeof(uint64_t));
  for (uint32_t page = 0; page < pages; ++page) {
    const uint64_t word = platform::SharedWord(table + page).LoadAcquire();
    if ((word & format::kLeasePageActive) != 0) ScanPage(segment, page, on_cell);
  }
  return arrow::Status::OK();
}

template <typename CellFn>
arrow::Status ScanCells(const region::SegmentList& segments, CellFn on_cell,
                        const region::Segment* home = nullptr) {
  for (const region::Segment* segment : segments) {
    if (segment == nullptr) continue;
    const NodeId node{segment->id().value};
    if (home != nullptr && region::LoadAdmitLine(*home, node).is_off()) continue;  // F8
    ARROW_RETURN_NOT_OK(ScanSegment(*segment, on_cell));
  }
  return arrow::Status::OK();
}

}  // namespace

arrow::Result<LeasedSet> ScanLeases(const region::SegmentList& segments, SegmentId home) {
  LeasedSet leased;
  ARROW_RETURN_NOT_OK(ScanCells(
      segments,
      [&](uint64_t cell) {
        if (cell >> kHomeShift == home.value) leased.insert(cell);
      },
      home.value < segments.size() ? segments[home.value] : nullptr));
  return leased;
}

arrow::Result<LeasedSet> ScanLeases(const region::Region& region, SegmentId home) {
  return ScanLeases(region::SegmentsOf(region), home);
}

arrow::Result<LeaseCounts> CountLeases(const region::SegmentList& segments) {
  LeaseCounts counts;
  ARROW_RETURN_NOT_OK(ScanCells(segments, [&](uint64_t cell) { ++counts[cell]; }));
  return counts;
}

arrow::Result<LeaseCounts> CountLeases(const region::Region& region) {
  return CountLeases(region::SegmentsOf(region));
}

arrow::Result<uint32_t> CountLeases(const region::SegmentList& segments,
                                    const ObjectId& object) {
  const uint64_t wanted =
      format::PackLeaseCell(object.segment.value, object.slot, object.generation);
  uint32_t count = 0;
  ARROW_RETURN_NOT_OK(
      ScanCells(segments, [&](uint64_t cell) { count += cell == wanted; }));
  return count;
}

arrow::Result<uint32_t> CountLeases(const region::Region& region,
                                    const ObjectId& object) {
  return CountLeases(region::SegmentsOf(region), object);
}

}  // namespace sheaf::lease
