// Reader and home on coherent memory (docs/protocol.md section 1): of "store cell, load
// slot" and "store Retired, load cells" at least one sees the other's store.

#include <array>
#include <atomic>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/plant.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "lease/lease.h"
#include "platform/sanitizer.h"
#include "platform/shared_word.h"
#include "region/control_line.h"
#include "sheaf/types.h"
#include "testing/fake_segments.h"

namespace sheaf::lease {
namespace {

using format::LineState;

/// Objects of one round; as many cells, in pages 0 to 7.
constexpr uint32_t kObjects = 4000;

/// Waits for the other thread, which may need this processor.
template <typename ConditionFn>
void SpinUntil(ConditionFn condition) {
  for (int spins = 0; !condition();) {
    if (++spins % (1 << 12) == 0) std::this_thread::yield();
  }
}

/// Waits for up to some 300 ns, another time in each call. One thread.
class Dawdler {
 public:
  void Dawdle() {
    const uint64_t turns = random_() % kTurns;
    for (uint64_t i = 0; i < turns; ++i) {
      clock_.store(i, std::memory_order_relaxed);
      clock_.load(std::memory_order_relaxed);
    }
  }

 private:
  static constexpr uint64_t kTurns = 256;
  std::minstd_rand random_;
  std::atomic<uint64_t> clock_ = 0;
};

/// In each round one thread leases all objects and the other retires them. They meet at
/// each object, and change it at about the same time: the window is some 50 ns wide.
class Race {
 public:
  Race()
      : table_(segments_[1]),
        cells_(segments_[1], {}, [this] { return table_.Activate(1); }) {}

  /// \brief Objects that both missed the other at, at most of one round.
  int Run(uint64_t rounds) {
    std::thread reader([this] { Read(); });
    int misses = 0;
    for (uint64_t round = 1; round <= rounds && misses == 0; ++round) {
      for (uint32_t i = 0; i < kObjects; ++i) SetSlot(LineState::kBound, i, round);
      prepare_.store(round);
      SpinUntil([&] { return reader_ready_.load() == round; });
      // The home's caches hold the cells and the reader's the slots: stores arrive late,
      // loads are served at once.
      EXPECT_TRUE(ScanLeases(segments_.list(), {0})->empty());
      for (uint32_t i = 0; i < kObjects; ++i) {
        const uint64_t meeting = round * kObjects + i;
        home_at_.store(meeting);
        SpinUntil([&] { return reader_at_.load() >= meeting; });
        home_dawdler_.Dawdle();
        SetSlot(LineState::kRetired, i, round);
        sees_cell_[i] = SeesCell(i, round);  // The scan's load of the cell, at once.
      }
      SpinUntil([&] { return reader_done_.load() == round; });
      for (uint32_t i = 0; i < kObjects; ++i) misses += !sees_cell_[i] && has_lease_[i];
      EXPECT_EQ(ScanLeases(segments_.list(), {0})->size(), kObjects);
    }
    prepare_.store(kOver);
    reader.join();
    return misses;
  }

 private:
  static constexpr uint64_t kOver = ~uint64_t{0};

  void Read() {
    std::vector<Cell> held;
    for (uint64_t round = 1;; ++round) {
      SpinUntil([&] { return prepare_.load() == round || prepare_.load() == kOver; });
      if (prepare_.load() == kOver) return;
      for (const Cell& cell : held) cells_.Clear(cell);
      held.clear();
      for (uint32_t i = 0; i < kObjects; ++i) EXPECT_TRUE(IsBound({{0}, i, round}));
      reader_ready_.store(round);
      for (uint32_t i = 0; i < kObjects; ++i) {
        const ObjectId object{{0}, i, round};
        const uint64_t meeting = round * kObjects + i;
        reader_at_.store(meeting);
        SpinUntil([&] { return home_at_.load() >= meeting; });
        reader_dawdler_.Dawdle();
        const Cell cell = *cells_.Write(object);
        has_lease_[i] = IsBound(object);  // The re-check, at once.
        held.push_back(cell);
      }
      reader_done_.store(round);
    }
  }

  void SetSlot(LineState state, uint32_t index, uint64_t generation) {
    format::Slot slot{};
    slot.state = static_cast<uint8_t>(state);
    slot.generation = generation;
    region::StoreControlLine(segments_[0], segments_[0]->SlotLine(index), slot,
                             format::kBusyWord, region::Arrival::kSettled);
  }

  bool IsBound(const ObjectId& object) const {
    const auto slot = region::ReadControlLine<format::Slot>(
        *segments_[0], segments_[0]->SlotLine(object.slot));
    return slot && slot->state == static_cast<uint8_t>(LineState::kBound) &&
           slot->generation == object.generation;
  }

  bool SeesCell(uint32_t index, uint64_t generation) const {
    return platform::SharedWord(CellWord(index)).LoadAcquire() ==
           format::PackLeaseCell(0, index, generation);
  }

  /// Cells are filled lowest first.
  uint64_t* CellWord(uint32_t index) const {
    return segments_[1]->LeasePage(index / format::kLeaseCellsPerPage) +
           kPageHeaderWords + index % format::kLeaseCellsPerPage;
  }

  alignas(format::kWriterSpacing) Dawdler home_dawdler_;
  alignas(format::kWriterSpacing) Dawdler reader_dawdler_;
  testing::FakeSegments segments_{{.segments = 2, .slots_max = kObjects}};
  PageTable table_;
  CellTable cells_;
  std::atomic<uint64_t> prepare_ = 0;
  std::atomic<uint64_t> reader_ready_ = 0;
  alignas(format::kWriterSpacing) std::atomic<uint64_t> home_at_ = 0;
  alignas(format::kWriterSpacing) std::atomic<uint64_t> reader_at_ = 0;
  std::atomic<uint64_t> reader_done_ = 0;
  std::array<bool, kObjects> sees_cell_{};
  std::array<bool, kObjects> has_lease_{};  ///< Published by `reader_done_`.
};

TEST(LeaseRace, ReaderAndHomeNeverMissEachOther) { EXPECT_EQ(Race().Run(20), 0); }

/// A processor keeps a store back for a short while; code that is not optimised needs
/// longer for the load that should overtake it.
/// CellTable.PlantedFaultLeavesTheFenceOut runs everywhere.
TEST(LeaseRace, WithoutTheFenceTheyDo) {
#ifndef NDEBUG
  GTEST_SKIP() << "needs optimised code";
#endif
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "needs two processors";
  if (SHEAF_THREAD_SANITIZER != 0) {
    GTEST_SKIP() << "thread sanitizer's own work between two accesses leaves no race";
  }
  SetPlants("no-fence");
  const int misses = Race().Run(20'000);
  SetPlants("");
  EXPECT_GT(misses, 0);
}

}  // namespace
}  // namespace sheaf::lease
