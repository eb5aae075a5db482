#include "lease/lease.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <thread>
#include <unordered_set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/plant.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "region/control_line.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/fake_segments.h"
#include "testing/test_seed.h"

namespace sheaf::lease {
namespace {

using ::testing::ElementsAre;
using testing::FakeOptions;
using testing::FakeSegments;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr uint64_t kSession = 5;
constexpr auto kCells = static_cast<uint32_t>(format::kLeaseCellsPerPage);

ObjectId Object(uint64_t number, uint32_t home = 0) {
  return {{home},
          static_cast<uint32_t>(number % 1000),
          (uint64_t{7} << 32) + 1 + number / 1000};
}

uint64_t Packed(const ObjectId& id) {
  return format::PackLeaseCell(id.segment.value, id.slot, id.generation);
}

CellTable::MorePagesFn PagesOf(PageTable* table, uint64_t session = kSession) {
  return [table, session] { return table->Activate(session); };
}

uint64_t MarkOf(const FakeSegments& segments, uint32_t page) {
  return segments[0]->LeasePage(page)[kPageMarkWord];
}

/// L5: a page is in memory, clear, before its word; its word before its first cell.
TEST(PageTable, SettlesThePageBeforeItsWord) {
  FakeSegments segments({.recording = true});
  PageTable table(segments[0]);
  segments.TakeLog();
  ASSERT_OK_AND_ASSIGN(const uint32_t page, table.Activate(kSession));
  EXPECT_EQ(page, 0U);
  EXPECT_THAT(segments.TakeLog(),
              ElementsAre("store mark of page 0", "settle mark of page 0",
                          "store incarnation", "flush incarnation", "fence",
                          "settle incarnation", "store word of page 0",
                          "flush word of page 0", "fence", "settle word of page 0"));
}

/// D2: cells are cleared and flushed before the page is not scanned any more.
TEST(PageTable, ClearsCellsBeforeItDeactivatesThePage) {
  FakeSegments segments({.recording = true});
  PageTable table(segments[0]);
  CellTable cells(segments[0], {*table.Activate(kSession)}, PagesOf(&table));
  ASSERT_OK(cells.Write(Object(1)));
  segments.TakeLog();
  table.Release(kSession);
  EXPECT_THAT(segments.TakeLog(),
              ElementsAre("store mark of page 0", "store cells of page 0",
                          "flush mark of page 0", "fence", "store word of page 0",
                          "flush word of page 0", "fence", "settle word of page 0"));
  EXPECT_THAT(*ScanLeases(segments.list(), {0}), IsEmpty());
}

TEST(PageTable, SaysWhenPagesAreUsedUpAndUsesReleasedOnesAgain) {
  FakeSegments segments({.lease_pages_max = 3});
  PageTable table(segments[0]);
  for (const uint64_t session : {1, 2, 3}) ASSERT_OK(table.Activate(session));
  EXPECT_RAISES(CapacityError, table.Activate(4));
  table.Release(2);
  ASSERT_OK_AND_ASSIGN(const uint32_t page, table.Activate(4));
  EXPECT_EQ(page, 1U);
  EXPECT_THAT(table.Sessions(), ElementsAre(1, 3, 4));
}

TEST(PageTable, AFullFileSystemIsAnErrorAndNothingChanges) {
  FakeSegments segments;
  PageTable table(segments[0]);
  segments.leases(0).is_full = true;
  EXPECT_RAISES(OutOfMemory, table.Activate(1));
  segments.leases(0).is_full = false;
  ASSERT_OK_AND_ASSIGN(const uint32_t page, table.Activate(1));
  EXPECT_EQ(page, 0U);
}

TEST(PageTable, ARestartedDaemonKnowsWhoHoldsPages) {
  FakeSegments segments;
  {
    PageTable table(segments[0]);
    for (const uint64_t session : {8, 9, 8}) ASSERT_OK(table.Activate(session));
    table.Release(9);
  }
  PageTable table(segments[0]);
  EXPECT_THAT(table.Sessions(), ElementsAre(8));
  ASSERT_OK_AND_ASSIGN(const uint32_t page, table.Activate(10));
  EXPECT_EQ(page, 1U);
  table.Release(8);
  EXPECT_THAT(table.Sessions(), ElementsAre(10));
}

// #4: the page was handed out again, and who leased there lost the lease.
TEST(PageTable, APageOfNobodyIsLeftAlone) {
  FakeSegments segments({.lease_pages_max = 2});
  {
    PageTable table(segments[0]);
    CellTable cells(segments[0], {}, PagesOf(&table));
    ASSERT_OK(cells.Write(Object(1)));
  }
  *segments[0]->ControlLine(segments[0]->layout().page_table) = format::kLeasePageActive;
  PageTable table(segments[0]);
  EXPECT_THAT(table.Sessions(), IsEmpty());
  ASSERT_OK_AND_ASSIGN(const uint32_t page, table.Activate(5));
  EXPECT_EQ(page, 1U);
  EXPECT_RAISES(CapacityError, table.Activate(6));
  EXPECT_EQ(ScanLeases(segments.list(), {0})->size(), 1U);
}

// #4: they were kept as they are, and no scan could read the line again.
TEST(PageTable, MarksBeyondTheLimitsAreMadeRight) {
  FakeSegments segments({.lease_pages_max = 2});
  region::UpdateIncarnation(segments[0], [](format::IncarnationLine* line) {
    line->slots_used = 1 << 20;
    line->lease_pages_used = 3;
  });
  EXPECT_RAISES(IOError, region::ReadIncarnation(*segments[0]));
  PageTable table(segments[0]);
  ASSERT_OK(table.Activate(1));
  ASSERT_OK_AND_ASSIGN(const auto marks, region::ReadIncarnation(*segments[0]));
  EXPECT_EQ(marks.slots_used, segments[0]->header().slots_max);
  EXPECT_EQ(marks.lease_pages_used, 2U);
}

/// Of a home that stopped or died in the middle of it.
TEST(PageTable, CellsCountWhileTheLineWithTheMarksIsBusy) {
  FakeSegments segments({.lease_pages_max = 2});
  PageTable table(segments[0]);
  CellTable cells(segments[0], {}, PagesOf(&table));
  ASSERT_OK(cells.Write(Object(1)));
  uint64_t* line = segments[0]->NodeLine(format::NodeLine::kIncarnation);
  *line = region::kBusyLine;
  ASSERT_OK_AND_ASSIGN(const auto leases, ScanLeases(segments.list(), {0}));
  EXPECT_EQ(leases.size(), 1U);
  line[3] = 3;  // more pages than there can be
  EXPECT_RAISES(IOError, ScanLeases(segments.list(), {0}));
  *line = 1;  // damaged
  EXPECT_RAISES(IOError, ScanLeases(segments.list(), {0}));
}

/// From when a damaged line says Busy its marks are believed, also by the next life.
TEST(PageTable, ADamagedLineHasItsMarksAtTheirLimitsBeforeItIsBusy) {
  FakeSegments segments({.slots_max = 64, .lease_pages_max = 2, .recording = true});
  PageTable table(segments[0]);
  ASSERT_OK(table.Activate(1));
  segments.TakeLog();
  uint64_t* line = segments[0]->NodeLine(format::NodeLine::kIncarnation);
  line[3] = 0;  // and its checksum is wrong
  std::optional<region::HighWaterMarks> marks;
  region::UpdateIncarnation(segments[0], [&](format::IncarnationLine*) {
    *line = region::kBusyLine;  // as StoreLine begins
    marks = region::ReadMarks(*segments[0]).ValueOrDie();
  });
  ASSERT_TRUE(marks.has_value());
  EXPECT_EQ(marks->slots, 64U);
  EXPECT_EQ(marks->lease_pages, 2U);
}

TEST(PageTable, FlushesOnlyWhatIsUsed) {
  FakeSegments segments({.recording = true});
  PageTable table(segments[0]);
  ASSERT_OK(table.Activate(1));
  ASSERT_OK(table.Activate(2));
  table.Release(1);
  segments.TakeLog();
  table.FlushPages();
  EXPECT_THAT(segments.TakeLog(), ElementsAre("flush mark of page 1", "fence"));
}

/// O1 "store own cell, FLUSH, FENCE", and LEASE-1.
TEST(CellTable, RaisesTheMarkBeforeTheCellAndFencesAfterIt) {
  FakeSegments segments({.recording = true});
  PageTable table(segments[0]);
  CellTable cells(segments[0], {*table.Activate(kSession)}, PagesOf(&table),
                  platform::SettleClass::kPosted);
  segments.TakeLog();
  ASSERT_OK(cells.Write(Object(1)));
  EXPECT_THAT(segments.TakeLog(),
              ElementsAre("store mark of page 0", "flush mark of page 0", "fence",
                          "store cells of page 0", "flush cells of page 0", "fence"));
  ASSERT_OK_AND_ASSIGN(const Cell second, cells.Write(Object(2)));
  EXPECT_THAT(segments.TakeLog(),
              ElementsAre("store cells of page 0", "flush cells of page 0", "fence"));
  cells.Clear(second);  // O6: no fence.
  EXPECT_THAT(segments.TakeLog(),
              ElementsAre("store cells of page 0", "flush cells of page 0"));
}

TEST(CellTable, PlantedFaultLeavesTheFenceOut) {
  FakeSegments segments({.recording = true});
  PageTable table(segments[0]);
  CellTable cells(segments[0], {*table.Activate(kSession)}, PagesOf(&table));
  ASSERT_OK(cells.Write(Object(1)));
  segments.TakeLog();
  SetPlants("no-fence");
  ASSERT_OK(cells.Write(Object(2)));
  SetPlants("");
  EXPECT_THAT(segments.TakeLog(),
              ElementsAre("store cells of page 0", "flush cells of page 0"));
}

TEST(CellTable, SettlesInClassB) {
  FakeSegments segments({.recording = true});
  PageTable table(segments[0]);
  CellTable cells(segments[0], {*table.Activate(kSession)}, PagesOf(&table),
                  platform::SettleClass::kOrdered);
  segments.TakeLog();
  ASSERT_OK(cells.Write(Object(1)));
  EXPECT_THAT(segments.TakeLog(),
              ElementsAre("store mark of page 0", "flush mark of page 0", "fence",
                          "settle mark of page 0", "store cells of page 0",
                          "flush cells of page 0", "fence", "settle cells of page 0"));
}

TEST(CellTable, UsesTheLowestFreeCell) {
  FakeSegments segments;
  PageTable table(segments[0]);
  CellTable cells(segments[0], {}, PagesOf(&table));
  std::vector<Cell> held;
  for (uint32_t i = 0; i < kCells + 3; ++i) {
    ASSERT_OK_AND_ASSIGN(const Cell cell, cells.Write(Object(i)));
    EXPECT_EQ(cell.page, i / kCells);
    EXPECT_EQ(cell.index, i % kCells);
    EXPECT_EQ(MarkOf(segments, cell.page), cell.index / 8 * 8 + 8);
    held.push_back(cell);
  }
  for (const uint32_t i : {500U, 3U, 40U}) cells.Clear(held[i]);
  for (const uint32_t i : {3U, 40U, 500U, kCells + 3}) {
    ASSERT_OK_AND_ASSIGN(const Cell cell, cells.Write(Object(1)));
    EXPECT_EQ(cell.page * kCells + cell.index, i);
  }
  EXPECT_EQ(cells.cells_in_use(), kCells + 4);
}

TEST(CellTable, WithoutAPageThereIsNoLease) {
  FakeSegments segments({.lease_pages_max = 1});
  PageTable table(segments[0]);
  CellTable cells(segments[0], {}, PagesOf(&table));
  for (uint32_t i = 0; i < kCells; ++i) ASSERT_OK(cells.Write(Object(i)));
  EXPECT_RAISES(CapacityError, cells.Write(Object(1)));
  EXPECT_EQ(cells.cells_in_use(), kCells);
  cells.Clear({0, 17});
  EXPECT_OK(cells.Write(Object(1)));
}

/// Ids come from others: no lease may be a word that means "empty", for any home and
/// slot.
TEST(CellTable, RefusesGenerationsThatNoCellCanHold) {
  FakeSegments segments;
  PageTable table(segments[0]);
  CellTable cells(segments[0], {}, PagesOf(&table));
  for (const uint64_t generation : {uint64_t{0}, uint64_t{1} << 30, uint64_t{5} << 32}) {
    for (const uint32_t slot : {0U, 3U}) {
      EXPECT_TRUE(IsStaleGeneration(cells.Write({{0}, slot, generation}).status()));
    }
  }
  EXPECT_EQ(cells.cells_in_use(), 0U);
}

/// Every session of the node may store in the page.
TEST(CellTable, AnotherSessionsStoresDoNotEndTheProcess) {
  FakeSegments segments;
  PageTable table(segments[0]);
  CellTable cells(segments[0], {}, PagesOf(&table));
  ASSERT_OK_AND_ASSIGN(const Cell cell, cells.Write(Object(1)));
  uint64_t* word = segments[0]->LeasePage(cell.page) + kPageHeaderWords + cell.index;
  *word = 0;
  cells.Clear(cell);
  EXPECT_EQ(cells.cells_in_use(), 0U);
  *word = Packed(Object(2));
  ASSERT_OK_AND_ASSIGN(const Cell again, cells.Write(Object(3)));
  EXPECT_EQ(again.index, cell.index);
  EXPECT_EQ(*word, Packed(Object(3)));
}

TEST(CellTable, ThreadsNeverShareACell) {
  FakeSegments segments({.lease_pages_max = 64});
  PageTable table(segments[0]);
  CellTable cells(segments[0], {}, PagesOf(&table));
  std::vector<std::vector<Cell>> held(4);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < held.size(); ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 4000; ++i) {
        held[t].push_back(*cells.Write(Object(t * 10'000 + i)));
        if (i % 3 == 0) {
          cells.Clear(held[t].back());
          held[t].pop_back();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<uint32_t> numbers;
  size_t count = 0;
  for (const auto& of_thread : held) {
    for (const Cell& cell : of_thread) numbers.insert(cell.page * kCells + cell.index);
    count += of_thread.size();
  }
  EXPECT_EQ(numbers.size(), count);
  EXPECT_EQ(cells.cells_in_use(), count);
  EXPECT_EQ(ScanLeases(segments.list(), {0})->size(), count);
}

TEST(ScanLeases, SeesExactlyTheLiveCellsOfManyThousand) {
  FakeSegments segments({.segments = 2, .lease_pages_max = 256});
  PageTable table_a(segments[0]);
  PageTable table_b(segments[1]);
  CellTable cells_a(segments[0], {}, PagesOf(&table_a));
  CellTable cells_b(segments[1], {}, PagesOf(&table_b, 9));
  std::unordered_set<uint64_t> live;
  uint64_t random = testing::TestSeed();
  for (uint64_t i = 0; i < 100'000; ++i) {
    const ObjectId object = Object(i, i % 5 == 0 ? 1 : 0);
    CellTable& cells = i % 2 == 0 ? cells_a : cells_b;
    ASSERT_OK_AND_ASSIGN(const Cell cell, cells.Write(object));
    random = random * 6364136223846793005 + 1442695040888963407;
    if (random >> 62 == 0) {
      cells.Clear(cell);
    } else if (object.segment.value == 0) {
      live.insert(Packed(object));
    }
  }
  ASSERT_OK_AND_ASSIGN(const LeasedSet leased, ScanLeases(segments.list(), {0}));
  EXPECT_EQ(leased, live);
  table_b.Release(9);
  EXPECT_LT(ScanLeases(segments.list(), {0})->size(), live.size());
}

TEST(ScanLeases, SurvivesAnyMarksWordsAndCells) {
  FakeSegments segments({.segments = 2, .lease_pages_max = 4});
  PageTable table(segments[0]);
  ASSERT_OK(table.Activate(1));
  uint64_t* page = segments[0]->LeasePage(0);
  page[kPageMarkWord] = ~uint64_t{0};
  for (uint32_t i = 0; i < kCells; ++i)
    page[kPageHeaderWords + i] = Packed(Object(i, 4095));
  ASSERT_OK_AND_ASSIGN(const LeasedSet none, ScanLeases(segments.list(), {0}));
  EXPECT_THAT(none, IsEmpty());
  ASSERT_OK_AND_ASSIGN(const LeasedSet all, ScanLeases(segments.list(), {4095}));
  EXPECT_EQ(all.size(), kCells);
  // More pages than there are: the segment cannot be read, and nothing may be reclaimed.
  region::UpdateIncarnation(segments[1], [](auto* line) { line->lease_pages_used = 5; });
  EXPECT_RAISES(IOError, ScanLeases(segments.list(), {0}));
  segments[1]->NodeLine(format::NodeLine::kIncarnation)[0] ^= 1;
  EXPECT_RAISES(IOError, ScanLeases(segments.list(), {0}));
}

/// One wait for memory for all nodes' marks, one for their tables, one for their pages:
/// marks before the tables, and these before the pages that they bound.
TEST(ScanLeases, ReadsTheLinesOfAllNodesTogether) {
  FakeSegments segments({.segments = 3, .recording = true});
  for (uint32_t k = 0; k < 3; ++k) {
    ASSERT_OK(PageTable(segments[k]).Activate(kSession));
  }
  segments.TakeLog();
  ASSERT_OK(ScanLeases(segments.list(), {0}));
  EXPECT_THAT(
      segments.TakeLog(),
      ElementsAre("flush admit", "fence",  //
                  "flush incarnation", "flush incarnation", "flush incarnation", "fence",
                  "flush word of page 0", "flush word of page 0", "flush word of page 0",
                  "fence",  //
                  "flush mark of page 0", "flush mark of page 0", "flush mark of page 0",
                  "fence"));
}

TEST(ScanLeases, SkipsSegmentsThatAreNotThere) {
  FakeSegments segments;
  region::SegmentList list = segments.list();
  list.push_back(nullptr);
  EXPECT_OK(ScanLeases(list, {0}));
}

TEST(CountLeases, CountsTheCellsOfAllNodes) {
  FakeSegments segments({.segments = 2});
  PageTable table_a(segments[0]);
  PageTable table_b(segments[1]);
  CellTable cells_a(segments[0], {}, PagesOf(&table_a));
  CellTable cells_b(segments[1], {}, PagesOf(&table_b));
  for (int i = 0; i < 3; ++i) ASSERT_OK(cells_a.Write(Object(7)));
  ASSERT_OK(cells_b.Write(Object(7)));
  ASSERT_OK(cells_b.Write(Object(8)));
  EXPECT_EQ(*CountLeases(segments.list(), Object(7)), 4U);
  EXPECT_EQ(*CountLeases(segments.list(), Object(9)), 0U);
  EXPECT_EQ(*CountLeases(segments.list()),
            (LeaseCounts{{Packed(Object(7)), 4}, {Packed(Object(8)), 1}}));
}

}  // namespace
}  // namespace sheaf::lease
