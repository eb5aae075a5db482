// What CacheControl promises, on every backend: between two nodes of a region, the first
// of which is the home of the segment that both look at.

#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "format/layout.h"
#include "platform/shared_word.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/test_seed.h"

namespace sheaf::region {
namespace {

using platform::SharedWord;

struct Variant {
  const char* name;
  Backend backend = Backend::kSim;
  Coherence coherence = Coherence::kSoftware;
  SimOptions sim = {};
  bool on_device = false;
  friend void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }
};

class CacheConformance : public ::testing::TestWithParam<Variant> {
 protected:
  void SetUp() override { Start(GetParam().sim.seed); }

  void Start(uint64_t seed) {
    config_ = GetParam().on_device ? memory_.ConfigOnDevice() : memory_.Config();
    config_.backend = GetParam().backend;
    config_.coherence = GetParam().coherence;
    config_.sim = GetParam().sim;
    config_.sim.seed = seed;
    config_.posted_delay_us = 3'600'000'000;  // Nothing arrives unless it is settled.
    home_ = nullptr;
    reader_ = nullptr;
    ASSERT_OK(FormatSegment(config_, NodeId{0}));
    ASSERT_OK(FormatSegment(config_, NodeId{1}));
    home_ = Attach(0, Role::kDaemon);
    reader_ = Attach(1, Role::kClient);
    Part& data = home_->own_segment().data();
    ASSERT_OK(data.Allocate(0, data.size_bytes()));
    ASSERT_OK(data.SetWritable(0, data.size_bytes(), true));
  }

  std::shared_ptr<Region> Attach(uint32_t node, Role role) {
    auto region = Region::Attach(config_, {NodeId{node}, role});
    EXPECT_OK(region);
    return region.ValueOr(nullptr);
  }

  /// Segment 0 as each node sees it.
  Segment& home() { return home_->own_segment(); }
  Segment& reader() { return *reader_->segment(SegmentId{0}); }

  /// One publish and one open: a message through a slot line that says which bytes to
  /// expect. False if the reader saw others.
  bool Deliver(uint64_t round, uint64_t offset, uint64_t size_bytes, bool flush,
               bool invalidate) {
    uint8_t* const written = home().data().data() + offset;
    std::memset(written, static_cast<int>(round), size_bytes);
    if (flush) home().data().cache()->Settle(written, size_bytes);
    SharedWord(home().SlotLine(0)).StoreFenced(round);
    home().control().cache()->Settle(home().SlotLine(0), 8);

    reader().control().cache()->Invalidate(reader().SlotLine(0), 8);
    EXPECT_EQ(SharedWord(reader().SlotLine(0)).LoadAcquire(), round);
    const uint8_t* const read = reader().data().data() + offset;
    if (invalidate) reader().data().cache()->Invalidate(read, size_bytes);
    const std::vector<uint8_t> expected(size_bytes, static_cast<uint8_t>(round));
    return std::memcmp(read, expected.data(), size_bytes) == 0;
  }

  /// Rounds of Deliver that went wrong.
  int Failures(uint64_t seed, bool flush, bool invalidate) {
    std::mt19937_64 random(seed);
    int failures = 0;
    for (uint64_t round = 1; round <= 50; ++round) {
      const uint64_t offset = random() % 20000;
      const uint64_t size_bytes = 1 + random() % 5000;
      failures += Deliver(round, offset, size_bytes, flush, invalidate) ? 0 : 1;
    }
    return failures;
  }

  TestMemory memory_;
  ClusterConfig config_;
  std::shared_ptr<Region> home_;
  std::shared_ptr<Region> reader_;
};

TEST_P(CacheConformance, SaysWhatItIs) {
  const platform::CacheControl* cache = home().data().cache();
  const bool coherent = GetParam().coherence == Coherence::kCoherent;
  EXPECT_EQ(cache->coherent(), coherent);
  EXPECT_TRUE(cache->line_bytes() == 64 || cache->line_bytes() == 128);
  if (GetParam().backend == Backend::kSim) {
    EXPECT_EQ(cache->line_bytes(), GetParam().sim.line_bytes);
  }
}

TEST_P(CacheConformance, SettledBytesAreSeenAfterInvalidate) {
  const uint64_t seed = testing::TestSeed();
  EXPECT_EQ(Failures(seed, true, true), 0);
}

TEST_P(CacheConformance, CorrectProtocolPassesWithEverySeed) {
  if (!GetParam().sim.chaos) GTEST_SKIP() << "no chance events here";
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Start(seed);
    ASSERT_EQ(Failures(seed, true, true), 0) << "seed " << seed;
  }
}

TEST_P(CacheConformance, OmittedFlushOrInvalidateIsCaught) {
  if (GetParam().backend != Backend::kSim) GTEST_SKIP() << "one host is coherent";
  constexpr uint64_t kSeedsMax = 10;
  for (const bool flush : {false, true}) {
    int failures = 0;
    for (uint64_t seed = 1; seed <= kSeedsMax && failures == 0; ++seed) {
      Start(seed);
      failures = Failures(seed, flush, !flush);
    }
    EXPECT_GT(failures, 0) << (flush ? "invalidate" : "flush") << " left out";
  }
}

TEST_P(CacheConformance, AnyRangeIsAllowed) {
  platform::CacheControl* cache = home().data().cache();
  uint8_t* const data = home().data().data();
  const uint64_t limit = home().data().size_bytes();
  for (const uint64_t offset :
       {uint64_t{0}, uint64_t{1}, uint64_t{63}, limit - 1, limit}) {
    cache->Flush(data + offset, 0);
    cache->Settle(data + offset, limit - offset);
    cache->Invalidate(data + offset, limit - offset);
  }
  cache->Fence();
}

TEST_P(CacheConformance, AnyProcessOfANodeFlushesForIt) {
  uint8_t* const written = home().data().data() + 100;
  std::memset(written, 9, 300);
  const auto other = Attach(0, Role::kClient);  // Another mapping of the same node.
  Part& same = other->own_segment().data();
  EXPECT_EQ(same.data()[100], 9);
  same.cache()->Settle(same.data() + 100, 300);
  const uint8_t* const read = reader().data().data() + 100;
  reader().data().cache()->Invalidate(read, 300);
  for (int i = 0; i < 300; ++i) ASSERT_EQ(read[i], 9);
}

TEST_P(CacheConformance, FlushOfCleanLinesChangesNothing) {
  ASSERT_TRUE(Deliver(1, 0, 4096, true, true));
  std::memset(home().data().data(), 2, 4096);
  home().data().cache()->Settle(home().data().data(), 4096);
  reader().data().cache()->Settle(reader().data().data(), 4096);  // Holds old copies.
  home().data().cache()->Invalidate(home().data().data(), 4096);
  EXPECT_EQ(home().data().data()[0], 2);
  EXPECT_EQ(home().data().data()[4095], 2);
}

TEST_P(CacheConformance, StoresBesideAFlushAreKept) {
  auto* word = reinterpret_cast<uint64_t*>(home().data().data());
  constexpr uint64_t kStores = 20000;
  std::thread flusher([&] {
    for (int i = 0; i < 2000; ++i) home().data().cache()->Flush(word, 64);
  });
  for (uint64_t i = 1; i <= kStores; ++i) {
    SharedWord(word + 3).StoreRelease(i);
    EXPECT_EQ(SharedWord(word + 3).LoadAcquire(), i);
  }
  flusher.join();
  home().data().cache()->Settle(word, 64);
  auto* read = reinterpret_cast<uint64_t*>(reader().data().data());
  reader().data().cache()->Invalidate(read, 64);
  EXPECT_EQ(SharedWord(read + 3).LoadAcquire(), kStores);
}

/// Two processes, one on each node, answer each other through lines that each alone
/// writes.
TEST_P(CacheConformance, TwoProcessesTalkThroughSingleWriterLines) {
  constexpr uint64_t kRounds = 200;
  const int status = ExitStatusOfChild([&] {
    auto region = Region::Attach(config_, {NodeId{1}, Role::kClient});
    if (!region.ok()) return 2;
    Segment& own = (*region)->own_segment();
    Segment& other = *(*region)->segment(SegmentId{0});
    if (!own.leases().SetWritable(0, format::kLeasePageBytes, true).ok()) return 3;
    if (::fork() == 0) {  // The process of node 0.
      auto peer = Region::Attach(config_, {NodeId{0}, Role::kDaemon});
      Segment& own0 = (*peer)->own_segment();
      Segment& other0 = *(*peer)->segment(SegmentId{1});
      for (uint64_t i = 1; i <= kRounds; ++i) {
        SharedWord(own0.SlotLine(1)).StoreFenced(i);
        own0.control().cache()->Settle(own0.SlotLine(1), 8);
        do {
          std::this_thread::yield();
          other0.leases().cache()->Invalidate(other0.LeasePage(0), 8);
        } while (SharedWord(other0.LeasePage(0)).LoadAcquire() != i);
      }
      ::_exit(0);
    }
    for (uint64_t i = 1; i <= kRounds; ++i) {
      do {
        std::this_thread::yield();
        other.control().cache()->Invalidate(other.SlotLine(1), 8);
      } while (SharedWord(other.SlotLine(1)).LoadAcquire() != i);
      SharedWord(own.LeasePage(0)).StoreFenced(i);
      own.leases().cache()->Settle(own.LeasePage(0), 8);
    }
    int peer_status = 1;
    ::wait(&peer_status);
    return peer_status;
  });
  EXPECT_EQ(status, 0);
}

constexpr SimOptions Sim(bool chaos, bool posted, uint32_t line_bytes = 64) {
  return {.chaos = chaos, .posted = posted, .seed = 1, .line_bytes = line_bytes};
}

INSTANTIATE_TEST_SUITE_P(
    Backends, CacheConformance,
    ::testing::Values(
        Variant{"ShmCoherent", Backend::kShm, Coherence::kCoherent},
        Variant{"ShmSoftware", Backend::kShm},
        Variant{"FileCoherent", Backend::kFile, Coherence::kCoherent},
        Variant{"FileSoftware", Backend::kFile},
        Variant{"WindowCoherent", Backend::kFile, Coherence::kCoherent, {}, true},
        Variant{"WindowSoftware", Backend::kFile, Coherence::kSoftware, {}, true},
        Variant{"SimStale64", Backend::kSim, Coherence::kSoftware, Sim(false, false)},
        Variant{"SimStale128", Backend::kSim, Coherence::kSoftware,
                Sim(false, false, 128)},
        Variant{"SimChaos", Backend::kSim, Coherence::kSoftware, Sim(true, false)},
        Variant{"SimPosted", Backend::kSim, Coherence::kSoftware, Sim(false, true)},
        Variant{"SimChaosPosted128", Backend::kSim, Coherence::kSoftware,
                Sim(true, true, 128)}),
    [](const auto& variant) { return std::string(variant.param.name); });

}  // namespace
}  // namespace sheaf::region
