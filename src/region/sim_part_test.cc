#include "region/sim_part.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <arrow/status.h>
#include <gtest/gtest.h>

#include "base/plant.h"
#include "platform/file.h"
#include "platform/process.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "region/sim_state.h"
#include "region/test_cluster.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/test_seed.h"

namespace sheaf::region {
namespace {

constexpr uint64_t kPartBytes = uint64_t{1} << 20;
/// Longer than any test: nothing arrives by time.
constexpr int64_t kForEverUs = 3'600'000'000;

/// One simulated part that two nodes may write, which the region itself never allows.
class SimPartTest : public ::testing::Test {
 protected:
  void Make(const SimOptions& sim, int64_t posted_delay_us = kForEverUs) {
    config_ = memory_.Config();
    config_.backend = Backend::kSim;
    config_.sim = sim;
    config_.posted_delay_us = posted_delay_us;
    config_.ApplyDefaults();
    path_ = config_.segment_folder(SegmentId{0}) + "/data";
    ASSERT_OK(platform::RemoveAll(config_.segment_folder(SegmentId{0})));
    ASSERT_OK(platform::MakePrivateFolder(config_.segment_folder(SegmentId{0})));
    ASSERT_OK(platform::CreateFile(path_, kPartBytes));
    ASSERT_OK(CreateSimFiles({config_, SegmentId{0}, path_}, kPartBytes));
    a_ = Open(0);
    b_ = Open(1);
  }

  std::unique_ptr<Part> Open(uint32_t node) {
    auto part = OpenSimPart({config_, SegmentId{0}, path_}, NodeId{node}, kPartBytes,
                            {.open_writable = true, .map_writable = true});
    EXPECT_OK(part);
    return part.ok() ? std::move(*part) : nullptr;
  }

  static volatile uint64_t* Word(const std::unique_ptr<Part>& part, uint64_t index) {
    return reinterpret_cast<uint64_t*>(part->data()) + index;
  }
  static void Flush(const std::unique_ptr<Part>& part, uint64_t word,
                    uint64_t count = 1) {
    part->cache()->Flush(part->data() + word * 8, count * 8);
  }
  static uint64_t LoadFromMemory(const std::unique_ptr<Part>& part, uint64_t word) {
    part->cache()->Invalidate(part->data() + word * 8, 8);
    return *Word(part, word);
  }

  TestMemory memory_;
  ClusterConfig config_;
  std::string path_;
  std::unique_ptr<Part> a_;  ///< As node 0 sees it,
  std::unique_ptr<Part> b_;  ///< and node 1.
};

TEST_F(SimPartTest, NothingIsSeenWithoutFlushAndInvalidate) {
  Make({});
  *Word(a_, 0) = 1;
  EXPECT_EQ(LoadFromMemory(b_, 0), 0) << "not flushed";
  Flush(a_, 0);
  EXPECT_EQ(*Word(b_, 0), 0) << "not invalidated";
  EXPECT_EQ(LoadFromMemory(b_, 0), 1);
  *Word(a_, 0) = 2;
  Flush(a_, 0);
  EXPECT_EQ(*Word(b_, 0), 1) << "still the old copy";
}

TEST_F(SimPartTest, InvalidatingWhatIsGoneIsAnErrorAndHoldsNoLock) {
  for (const std::string file : {"", ".image0", ".shadow0"}) {
    Make({});
    EXPECT_OK(a_->cache()->InvalidateGuarded(a_->data(), kPartBytes));
    std::filesystem::resize_file(path_ + file, kPartBytes / 2);
    EXPECT_OK(a_->cache()->InvalidateGuarded(a_->data(), kPartBytes / 2));
    const arrow::Status all = a_->cache()->InvalidateGuarded(a_->data(), kPartBytes);
    ASSERT_RAISES(IOError, all);
    EXPECT_TRUE(IsDamaged(all)) << all;
    *Word(b_, 0) = 1;
    Flush(b_, 0);
    EXPECT_EQ(LoadFromMemory(a_, 0), 1);
  }
}

TEST_F(SimPartTest, ProcessesOfOneNodeAreCoherent) {
  Make({});
  const auto second = Open(0);
  *Word(a_, 3) = 7;
  EXPECT_EQ(*Word(second, 3), 7);
  Flush(second, 3);  // As a daemon flushes for a dead client (HW2).
  EXPECT_EQ(LoadFromMemory(b_, 3), 7);
}

TEST_F(SimPartTest, OnlyTheLinesOfTheRangeMove) {
  for (const uint32_t line_bytes : {64U, 128U}) {
    Make({.line_bytes = line_bytes});
    const uint64_t words = line_bytes / 8;
    for (uint64_t i = 0; i < 4 * words; ++i) *Word(a_, i) = i + 1;
    // The last byte of line 1 and the first of line 2.
    a_->cache()->Flush(a_->data() + 2 * line_bytes - 1, 2);
    for (uint64_t i = 0; i < 4 * words; ++i) {
      const bool moved = i >= words && i < 3 * words;
      EXPECT_EQ(LoadFromMemory(b_, i), moved ? i + 1 : 0) << i;
    }
  }
}

TEST_F(SimPartTest, FalseSharingLosesData) {
  Make({});
  *Word(a_, 0) = 1;
  *Word(b_, 1) = 2;
  Flush(a_, 0);
  Flush(b_, 1);  // The whole line, with the old word 0.
  EXPECT_EQ(LoadFromMemory(a_, 0), 0);
  EXPECT_EQ(LoadFromMemory(a_, 1), 2);
}

TEST_F(SimPartTest, CleanLinesAreNeverWrittenBack) {
  Make({});
  EXPECT_EQ(LoadFromMemory(b_, 0), 0);
  *Word(a_, 0) = 1;
  Flush(a_, 0);
  Flush(b_, 0);
  EXPECT_EQ(LoadFromMemory(a_, 0), 1);
}

TEST_F(SimPartTest, ReloadLeavesStoresOfOtherThreadsAlone) {
  Make({});
  constexpr uint64_t kStoresMin = 20000;
  constexpr uint64_t kReloadsMin = 100;
  ASSERT_OK_AND_ASSIGN(const auto fd,
                       platform::OpenFile(path_, platform::Access::kReadWrite));
  ASSERT_OK_AND_ASSIGN(
      const auto truth,
      platform::Mapping::Map(fd.get(), kPartBytes, platform::Access::kReadWrite));
  std::atomic<bool> done = false;
  std::atomic<uint64_t> reloads = 0;
  std::thread invalidator([&] {
    auto* first = reinterpret_cast<volatile uint64_t*>(truth.data());
    for (uint64_t value = 1; !done.load(); ++value) {
      *first = value;  // Only this word: no node could, but the line has to be reloaded.
      b_->cache()->Invalidate(b_->data(), 64);
      if (*Word(b_, 0) == value) reloads.fetch_add(1);
    }
  });
  uint64_t lost = 0;
  uint64_t stored = 0;
  // A dirty line is not reloaded: so pause after each store until it may be clean again.
  while (stored < kStoresMin || reloads.load() < kReloadsMin) {
    *Word(b_, 5) = ++stored;
    for (uint64_t i = 0; i < stored % 512; ++i) lost += *Word(b_, 5) != stored ? 1 : 0;
  }
  done.store(true);
  invalidator.join();
  EXPECT_EQ(lost, 0);
  EXPECT_EQ(LoadFromMemory(b_, 5), stored);
}

TEST_F(SimPartTest, LinesAreWrittenBackAsAUnit) {
  Make({});
  std::atomic<bool> done = false;
  // Another thread of node 0 stores words 1 to 7, then word 0, always in this order.
  std::thread writer([&] {
    for (uint64_t value = 1; !done.load(); ++value) {
      std::atomic_ref<uint64_t> first(*reinterpret_cast<uint64_t*>(a_->data()));
      first.store(0);
      for (uint64_t i = 1; i < 8; ++i) *Word(a_, i) = value;
      first.store(value, std::memory_order_release);
    }
  });
  for (int i = 0; i < 20000; ++i) {
    Flush(a_, 0);
    const uint64_t value = LoadFromMemory(b_, 0);
    if (value == 0) continue;  // Being changed.
    for (uint64_t word = 1; word < 8; ++word) {
      ASSERT_EQ(*Word(b_, word), value) << "torn at word " << word;
    }
  }
  done.store(true);
  writer.join();
}

TEST_F(SimPartTest, PostedStoresArriveWhenSettled) {
  Make({.posted = true});
  *Word(a_, 0) = 1;
  *Word(a_, 100) = 2;
  Flush(a_, 0);
  a_->cache()->Fence();
  EXPECT_EQ(LoadFromMemory(b_, 0), 0);
  EXPECT_EQ(LoadFromMemory(a_, 0), 1) << "a node sees what it posted";
  a_->cache()->Settle(a_->data() + 800, 8);  // Waits D: everything posted arrives.
  EXPECT_EQ(LoadFromMemory(b_, 0), 1);
  EXPECT_EQ(LoadFromMemory(b_, 100), 2);
}

TEST_F(SimPartTest, PostedStoresArriveWithinDelay) {
  constexpr int64_t kDelayUs = 2000;
  Make({.posted = true}, kDelayUs);
  *Word(a_, 0) = 1;
  const auto before = platform::BootTime();
  Flush(a_, 0);
  const uint64_t seen = LoadFromMemory(b_, 0);
  if (platform::BootTime() - before < std::chrono::microseconds(kDelayUs)) {
    EXPECT_EQ(seen, 0);
  }
  platform::SleepFor(std::chrono::microseconds(kDelayUs));  // What a class C node may do.
  EXPECT_EQ(LoadFromMemory(b_, 0), 1);
}

TEST_F(SimPartTest, PostedStoresToOneLineKeepTheirOrder) {
  Make({.posted = true});
  for (uint64_t value = 1; value <= 10; ++value) {
    *Word(a_, 0) = value;
    Flush(a_, 0);
    EXPECT_EQ(LoadFromMemory(a_, 0), value);
  }
  a_->cache()->Settle(a_->data(), 8);
  EXPECT_EQ(LoadFromMemory(b_, 0), 10);
}

TEST_F(SimPartTest, TheOldestPostedLineArrivesEarlyWhenThereAreTooMany) {
  Make({.posted = true});
  for (uint64_t i = 0; i <= kSimPostedMax; ++i) {
    *Word(a_, i * 8) = 1;
    Flush(a_, i * 8);
  }
  EXPECT_EQ(LoadFromMemory(b_, 0), 1);
  EXPECT_EQ(LoadFromMemory(b_, 8), 0);
}

TEST_F(SimPartTest, ChaosMovesLinesThatNobodyFlushed) {
  int seen = 0;
  int refreshed = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Make({.chaos = true, .seed = seed});
    *Word(a_, 1) = 1;
    *Word(a_, 100) = 1;
    Flush(a_, 1);
    for (int i = 0; i < 20; ++i) a_->cache()->Flush(a_->data() + 3000, 8);
    for (int i = 0; i < 20; ++i) b_->cache()->Flush(b_->data() + 3000, 8);
    refreshed += *Word(b_, 1) == 1 ? 1 : 0;
    seen += LoadFromMemory(b_, 100) == 1 ? 1 : 0;
  }
  EXPECT_GT(seen, 0);
  EXPECT_GT(refreshed, 0);
}

TEST_F(SimPartTest, ChaosFollowsFromTheSeed) {
  std::vector<std::string> runs;
  for (int run = 0; run < 2; ++run) {
    Make({.chaos = true, .seed = 5});
    std::string trace;
    for (uint64_t i = 0; i < 500; ++i) {
      *Word(a_, i % 512) = i;
      a_->cache()->Flush(a_->data() + i % 7 * 512, 8);
      b_->cache()->Flush(b_->data() + i % 5 * 512, 8);
      trace += std::to_string(*Word(b_, i % 256)) + ",";
    }
    runs.push_back(trace);
  }
  EXPECT_EQ(runs[0], runs[1]);
}

/// Stores the same number to all words of a line, flushes it, and so on, until killed.
[[noreturn]] void ChurnForEver(Part* part) {
  auto* words = reinterpret_cast<volatile uint64_t*>(part->data());
  for (uint64_t value = words[0] + 1;; ++value) {
    for (int i = 0; i < 8; ++i) words[i] = value;
    part->cache()->Flush(part->data(), 64);
    part->cache()->Invalidate(part->data() + 4096, 4096);
  }
}

TEST_F(SimPartTest, ALineThatADeadProcessMovedIsNoStoreOfItsNode) {
  for (const bool is_fetch : {true, false}) {
    Make({});
    if (is_fetch) {
      *Word(b_, 0) = 1;
      Flush(b_, 0);
    }
    const pid_t child = ::fork();
    if (child == 0) {
      SetPlants(is_fetch ? "die-in-fetch" : "die-in-write-back");
      const auto part = Open(0);
      if (!is_fetch) *Word(part, 0) = 1;
      Flush(part, 0);
      ::_exit(1);  // Did not die.
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    ASSERT_EQ(LoadFromMemory(b_, 0), 1);
    *Word(b_, 0) = 2;  // Before anyone of the dead one's node looks.
    Flush(b_, 0);
    EXPECT_EQ(LoadFromMemory(a_, 0), 2);
    Flush(a_, 0);
    EXPECT_EQ(LoadFromMemory(b_, 0), 2);
  }
}

TEST_F(SimPartTest, DeathAnywhereLeavesLocksFreeAndLinesWhole) {
  for (const bool posted : {false, true}) {
    Make({.posted = posted}, 1);
    std::mt19937_64 random(testing::TestSeed());
    for (int round = 0; round < 30; ++round) {
      const pid_t child = ::fork();
      if (child == 0) ChurnForEver(Open(0).get());
      const uint64_t begin = *Word(a_, 0);
      const uint64_t stores = 1 + random() % 50;
      for (uint64_t i = 0; *Word(a_, 0) < begin + stores; ++i) {
        *Word(b_, 512 + i % 8) = i;  // The other node changes what the child reloads.
        Flush(b_, 512);
      }
      ASSERT_EQ(::kill(child, SIGKILL), 0);
      ASSERT_EQ(::waitpid(child, nullptr, 0), child);
      b_->cache()->Invalidate(b_->data(), 64);
      for (int i = 1; i < 8; ++i) ASSERT_EQ(*Word(b_, i), *Word(b_, 0)) << "torn line";
      // What the dead one stored is flushed by another process of its node, as it was.
      const uint64_t last = *Word(a_, 0);
      a_->cache()->Settle(a_->data(), 64);
      ASSERT_EQ(LoadFromMemory(b_, 0), last);
      for (int i = 0; i < 8; ++i) *Word(a_, i) = last;
      a_->cache()->Settle(a_->data(), 64);
    }
  }
}

}  // namespace
}  // namespace sheaf::region
