// One-sided scan of the lease cells of all nodes (docs/protocol.md G1).

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/checksum.h"
#include "format/layout.h"
#include "lease/lease.h"
#include "platform/shared_word.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/line_batch.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::lease {
namespace {

constexpr uint32_t kHomeShift = 52;

/// Pages that are dropped with one fence: 256 KiB, which a second-level cache holds.
constexpr size_t kPagesPerBatch = 64;

struct PageOf {
  const region::Segment* segment = nullptr;
  uint32_t page = 0;
};

/// The segments whose leases count for `home`, or for anybody.
std::vector<const region::Segment*> SegmentsThatCount(const region::SegmentList& segments,
                                                      const region::Segment* home) {
  if (home != nullptr) {
    region::LineBatch admitted;
    admitted.Drop(home->control(), home->ControlLine(home->layout().admit),
                  segments.size() * format::kLineBytes);
    admitted.Fence();
  }
  std::vector<const region::Segment*> counted;
  for (const region::Segment* segment : segments) {
    if (segment == nullptr) continue;
    const NodeId node{segment->id().value};
    const bool is_off = home != nullptr && region::DroppedAdmitLine(*home, node).is_off();
    if (is_off) continue;  // F8
    counted.push_back(segment);
  }
  return counted;
}

/// How many lease pages each of `segments` may have in use.
arrow::Result<std::vector<uint32_t>> PagesUsed(
    const std::vector<const region::Segment*>& segments) {
  constexpr auto kLine = format::NodeLine::kIncarnation;
  region::LineBatch lines;
  for (const region::Segment* segment : segments) {
    lines.Drop(segment->control(), segment->NodeLine(kLine), format::kLineBytes);
  }
  lines.Fence();
  std::vector<uint32_t> used;
  used.reserve(segments.size());
  for (const region::Segment* segment : segments) {
    const auto line = format::OpenLine<format::IncarnationLine>(
        platform::LoadLine(segment->NodeLine(kLine)));
    if (line && region::IsPlausible(*segment, *line)) {
      used.push_back(static_cast<uint32_t>(line->lease_pages_used));
      continue;
    }
    ARROW_ASSIGN_OR_RAISE(const auto marks, region::ReadMarks(*segment));
    used.push_back(marks.lease_pages);
  }
  return used;
}

arrow::Result<std::vector<PageOf>> ActivePages(
    const std::vector<const region::Segment*>& segments) {
  ARROW_ASSIGN_OR_RAISE(const std::vector<uint32_t> used, PagesUsed(segments));
  region::LineBatch tables;
  for (size_t i = 0; i < segments.size(); ++i) {
    if (used[i] == 0) continue;
    tables.Drop(segments[i]->control(),
                segments[i]->ControlLine(segments[i]->layout().page_table),
                used[i] * sizeof(uint64_t));
  }
  tables.Fence();
  std::vector<PageOf> active;
  for (size_t i = 0; i < segments.size(); ++i) {
    const uint64_t* table = segments[i]->ControlLine(segments[i]->layout().page_table);
    for (uint32_t page = 0; page < used[i]; ++page) {
      const uint64_t word = platform::SharedWord(table + page).LoadAcquire();
      if ((word & format::kLeasePageActive) != 0) active.push_back({segments[i], page});
    }
  }
  return active;
}

/// Calls `on_cell` with each non-zero cell of a page that was dropped: mark and cells at
/// once, since a cell that is written later belongs to a reader whose re-check fails.
template <typename CellFn>
void ScanPage(const PageOf& of, CellFn& on_cell) {
  const uint64_t* words = of.segment->LeasePage(of.page);
  const uint64_t mark = platform::SharedWord(words + kPageMarkWord).LoadAcquire();
  const uint64_t cells = std::min<uint64_t>(mark, format::kLeaseCellsPerPage);
  for (uint64_t i = 0; i < cells; ++i) {
    const uint64_t cell =
        platform::SharedWord(words + kPageHeaderWords + i).LoadAcquire();
    if (cell != 0) on_cell(cell);
  }
}

template <typename CellFn>
arrow::Status ScanCells(const region::SegmentList& segments, CellFn on_cell,
                        const region::Segment* home = nullptr) {
  ARROW_ASSIGN_OR_RAISE(const std::vector<PageOf> pages,
                        ActivePages(SegmentsThatCount(segments, home)));
  for (size_t begin = 0; begin < pages.size(); begin += kPagesPerBatch) {
    const size_t end = std::min(begin + kPagesPerBatch, pages.size());
    region::LineBatch batch;
    for (size_t i = begin; i < end; ++i) {
      batch.Drop(pages[i].segment->leases(), pages[i].segment->LeasePage(pages[i].page),
                 format::kLeasePageBytes);
    }
    batch.Fence();
    for (size_t i = begin; i < end; ++i) ScanPage(pages[i], on_cell);
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
