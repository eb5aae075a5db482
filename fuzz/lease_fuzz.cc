// Any bytes as page table and lease pages: a scan finds the cells that are below the
// marks and no others; a daemon that starts over them knows the session of every page
// that counts, and can end them all and begin new ones.
//
// Input: the page table, the incarnation line (all zero: all pages are in use), then for
// each page its mark and session, and the cells at its beginning and at its end; last the
// incarnation that the home certified off.
//
// Decoders: src/lease/scan.cc src/lease/page_table.cc

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "base/check.h"
#include "format/layout.h"
#include "fuzz/control_lines.h"
#include "fuzz/input.h"
#include "lease/lease.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"
#include "testing/fake_segments.h"

namespace {

using sheaf::format::NodeLine;
using sheaf::fuzz::Checksums;
using sheaf::lease::LeaseCounts;
using sheaf::lease::PageTable;

constexpr sheaf::NodeId kNode{1};
constexpr uint32_t kPages = 4;
constexpr size_t kEdgeCells = 4;  ///< Cells at either end of a page that are not 0.
constexpr uint64_t kHomeShift = 52;

class LeaseFuzz {
 public:
  LeaseFuzz()
      : segments_({.segments = 2,
                   .slots_max = 8,
                   .lease_pages_max = kPages,
                   .records_size_bytes = 4096}),
        home_(segments_[0]),
        segment_(segments_[1]) {}

  void Run(sheaf::fuzz::Input input, Checksums checksums) {
    Load(input, checksums);
    CheckScan();
    Start();
  }

 private:
  uint64_t* TableWord(uint32_t page) const {
    return segment_->ControlLine(segment_->layout().page_table) + page;
  }
  uint64_t* Cells(uint32_t page) const {
    return segment_->LeasePage(page) + sheaf::lease::kPageHeaderWords;
  }

  void Load(sheaf::fuzz::Input input, Checksums checksums) {
    sheaf::fuzz::Clear(&home_->control());
    sheaf::fuzz::Clear(&segment_->control());
    sheaf::fuzz::Clear(&segment_->leases());
    sheaf::fuzz::Fill(TableWord(0), input.Take(kPages * sizeof(uint64_t)));
    uint64_t* marks = segment_->NodeLine(NodeLine::kIncarnation);
    sheaf::fuzz::Fill(marks, input.Take(64));
    if (checksums == Checksums::kMadeRight) sheaf::fuzz::MakeRight(marks);
    sheaf::fuzz::MakeTornIfBusy(marks);
    if (sheaf::fuzz::IsBlank(marks)) sheaf::fuzz::StoreMarks(segment_, 0, kPages);
    for (uint32_t page = 0; page < kPages; ++page) {
      uint64_t* words = segment_->LeasePage(page);
      words[sheaf::lease::kPageMarkWord] = input.Next<uint64_t>();
      words[sheaf::lease::kPageSessionWord] = input.Next<uint64_t>();
      sheaf::fuzz::Fill(Cells(page), input.Take(kEdgeCells * sizeof(uint64_t)));
      sheaf::fuzz::Fill(Cells(page) + sheaf::format::kLeaseCellsPerPage - kEdgeCells,
                        input.Take(kEdgeCells * sizeof(uint64_t)));
    }
    sheaf::region::StoreCertifiedOff(home_, kNode, input.Next<uint64_t>());
  }

  /// The home has admitted and withdrawn none: whatever the node's own line says.
  bool IsOff() const { return sheaf::region::LoadAdmitLine(*home_, kNode).off != 0; }

  /// What counts, looked up word by word; nothing if the marks cannot be read.
  LeaseCounts ExpectedCounts() const {
    const auto marks = sheaf::region::ReadMarks(*segment_);
    LeaseCounts counts;
    for (uint32_t page = 0; marks.ok() && page < marks->lease_pages; ++page) {
      SHEAF_CHECK(page < kPages);
      if ((*TableWord(page) & sheaf::format::kLeasePageActive) == 0) continue;
      const uint64_t mark = segment_->LeasePage(page)[sheaf::lease::kPageMarkWord];
      for (uint64_t i = 0; i < sheaf::format::kLeaseCellsPerPage && i < mark; ++i) {
        if (Cells(page)[i] != 0) ++counts[Cells(page)[i]];
      }
    }
    return counts;
  }

  void CheckScan() const {
    const auto counts = sheaf::lease::CountLeases(segments_.list());
    SHEAF_CHECK(counts.ok() == sheaf::region::ReadMarks(*segment_).ok());
    if (!counts.ok()) {  // Nothing may be reclaimed, unless the node is off.
      const auto leased = sheaf::lease::ScanLeases(segments_.list(), home_->id());
      SHEAF_CHECK(leased.ok() == IsOff());
      return;
    }
    SHEAF_CHECK(*counts == ExpectedCounts());
    const auto leased = sheaf::lease::ScanLeases(segments_.list(), home_->id());
    SHEAF_CHECK(leased.ok());
    for (const auto& [cell, count] : *counts) {
      const bool is_ours = cell >> kHomeShift == home_->id().value;
      SHEAF_CHECK(leased->contains(cell) == (is_ours && !IsOff()));
    }
    for (const uint64_t cell : *leased) SHEAF_CHECK(counts->contains(cell));
  }

  void Start() {
    PageTable pages(segment_);
    const std::vector<uint64_t> sessions = pages.Sessions();
    SHEAF_CHECK(std::ranges::is_sorted(sessions));
    SHEAF_CHECK(std::ranges::adjacent_find(sessions) == sessions.end());
    pages.FlushPages();
    for (const uint64_t session : sessions) {
      SHEAF_CHECK(session != 0 && (session & sheaf::format::kLeasePageActive) == 0);
      pages.Release(session);
    }
    SHEAF_CHECK(pages.Sessions().empty());
    // Nobody is left who could end a lease: only damaged words of the table hold some.
    const auto is_damaged = [this](uint32_t page) {
      return *TableWord(page) == sheaf::format::kLeasePageActive;
    };
    uint32_t damaged = 0;
    for (uint32_t page = 0; page < PagesUsed(); ++page) damaged += is_damaged(page);
    const auto left = sheaf::lease::CountLeases(segments_.list());
    if (left.ok() && damaged == 0) SHEAF_CHECK(left->empty());
    Activate(&pages, kPages - damaged);
  }

  /// Pages that a daemon looks at: all of them if it cannot read its mark.
  uint32_t PagesUsed() const {
    const auto marks = sheaf::region::ReadMarks(*segment_);
    return marks.ok() ? marks->lease_pages : kPages;
  }

  /// All pages that are left, for one session after the other: each is clear, and found
  /// by a scan.
  void Activate(PageTable* pages, uint32_t free_pages) {
    std::set<uint32_t> active;
    for (uint32_t i = 0; i < free_pages; ++i) {
      const auto page = pages->Activate(i + 1);
      SHEAF_CHECK(page.ok() && *page < kPages && active.insert(*page).second);
      SHEAF_CHECK(std::all_of(Cells(*page),
                              Cells(*page) + sheaf::format::kLeaseCellsPerPage,
                              [](uint64_t cell) { return cell == 0; }));
      segment_->LeasePage(*page)[sheaf::lease::kPageMarkWord] = 1;
      *Cells(*page) = i + 1;
    }
    SHEAF_CHECK(pages->Activate(kPages + 1).status().IsCapacityError());
    if (active.empty()) return;
    const auto counts = sheaf::lease::CountLeases(segments_.list());
    SHEAF_CHECK(counts.ok());
    for (uint32_t i = 0; i < free_pages; ++i) SHEAF_CHECK(counts->contains(i + 1));
  }

  sheaf::testing::FakeSegments segments_;
  sheaf::region::Segment* home_;
  sheaf::region::Segment* segment_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static LeaseFuzz fuzz;
  const sheaf::fuzz::Input input(data, size);
  fuzz.Run(input, Checksums::kAsTheyAre);
  fuzz.Run(input, Checksums::kMadeRight);
  return 0;
}
