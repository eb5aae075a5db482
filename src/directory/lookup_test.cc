// Look-ups and lists of names: while the index moves, and over an index that lies.

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/test_cluster.h"
#include "directory/test_records.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/fake_segments.h"

namespace sheaf::directory {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

TEST(Lookup, SurvivesAnyIndex) {
  TestCluster cluster({.records_size_bytes = 64 << 10});
  Numbers numbers(1);
  ASSERT_OK(cluster.Claim(1));
  for (int i = 0; i < 20; ++i) ASSERT_OK(cluster.Publish(std::to_string(i)));
  const region::Segment& segment = *cluster.segments()[0];
  uint64_t* line = segment.NodeLine(format::NodeLine::kIndexHeader);
  const auto good = cluster.IndexHeader(0);
  for (int i = 0; i < 300; ++i) {
    auto header = good;
    if (numbers.Below(2) == 0) header.table_offset = numbers.Next() >> numbers.Below(64);
    header.capacity_entries = uint64_t{1} << numbers.Below(64);
    if (numbers.Below(4) == 0) header.capacity_entries += numbers.Below(3);
    region::StoreControlLine(cluster.segments()[0], line, header, region::kBusyLine,
                             region::Arrival::kSettled);
    (void)cluster.Find(std::to_string(i % 30));
  }
  region::StoreControlLine(cluster.segments()[0], line, good, region::kBusyLine,
                           region::Arrival::kSettled);
  for (int i = 0; i < 300; ++i) {
    format::IndexEntry entry{};
    entry.epoch = 1;
    entry.name_hash = format::HashName(std::to_string(i % 20));
    entry.generation = numbers.Next() >> numbers.Below(64);
    entry.home = static_cast<uint32_t>(numbers.Below(3));
    entry.slot = static_cast<uint32_t>(numbers.Next() >> numbers.Below(64));
    entry.state = static_cast<uint8_t>(numbers.Below(4));
    const uint64_t position = entry.name_hash & (good.capacity_entries - 1);
    region::StoreControlLine(
        cluster.segments()[0],
        segment.ControlLine(segment.layout().records + good.table_offset + position * 64),
        entry, region::kBusyLine, region::Arrival::kSettled);
    (void)cluster.Find(std::to_string(i % 20));
  }
}

TEST(List, ShowsEachNameOnceWithItsHighestVersion) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK(cluster.Publish("b", 0));
  ASSERT_OK(cluster.Publish("a", 1));
  ASSERT_OK(cluster.Publish("gone", 1));
  ASSERT_OK(cluster.Remove("gone"));
  cluster.Seal("only sealed");
  const ObjectId second = cluster.Seal("a", 0);
  ASSERT_OK(cluster.MakeBound(second, {1, 2}));  // The first is not yet retired.
  ASSERT_OK(cluster.home(0).Seal(MakeRecord(""), 0));
  ASSERT_OK_AND_ASSIGN(const std::vector<Listed> listed, List(cluster.segments().list()));
  ASSERT_THAT(listed, SizeIs(2));
  EXPECT_EQ(listed[0].record.name, "a");
  EXPECT_EQ(listed[0].found.object, second);
  EXPECT_EQ(listed[0].found.version, (Version{1, 2}));
  EXPECT_EQ(listed[1].record.name, "b");
  EXPECT_EQ(listed[1].record.num_rows, 1000);
}

/// A reader that has read where the index lies, and then sleeps while the index moves.
TEST(Lookup, AnOldTableDoesNotHideANameThatIsThereAllTheTime) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK(cluster.Publish("x"));
  const format::IndexHeaderLine header = cluster.IndexHeader(0);
  const region::Segment& segment = *cluster.segments()[0];
  const uint64_t position = format::HashName("x") & (header.capacity_entries - 1);
  const uint64_t* entry =
      segment.ControlLine(segment.layout().records + header.table_offset + position * 64);
  std::optional<Found> second;
  cluster.segments().OnNextLoad(entry, [&] {
    for (int i = 0; i < 40; ++i) ASSERT_OK(cluster.Publish(std::to_string(i)));
    ASSERT_OK_AND_ASSIGN(second, cluster.Publish("x", 1, /*replace=*/true));
  });
  ASSERT_OK_AND_ASSIGN(const auto found, cluster.Find("x"));
  ASSERT_TRUE(second.has_value());
  EXPECT_NE(cluster.IndexHeader(0).build, header.build);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->object, second->object);
}

/// The entry leads to a version that is replaced before its slot is read.
TEST(Lookup, FollowsAReplaceUnderWay) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK_AND_ASSIGN(const Found first, cluster.Publish("x"));
  std::optional<Found> second;
  cluster.segments().OnNextLoad(cluster.segments()[0]->SlotLine(first.object.slot), [&] {
    ASSERT_OK_AND_ASSIGN(second, cluster.Publish("x", 1, /*replace=*/true));
    cluster.Reclaim();
  });
  ASSERT_OK_AND_ASSIGN(const auto found, cluster.Find("x"));
  ASSERT_TRUE(second.has_value() && found.has_value());
  EXPECT_EQ(found->object, second->object);
}

/// C7: why every epoch line is read, also where an index has an answer. That of a leader
/// which is paused or gone stays active, and what it leads to may be Bound while the
/// version after it is already seen by others.
TEST(Lookup, ADeposedLeadersIndexDoesNotBringAnOldVersionBack) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1, 0));
  ASSERT_OK_AND_ASSIGN(const Found first, cluster.Publish("x"));
  ASSERT_OK(cluster.Claim(2, 1));
  EXPECT_EQ(cluster.IndexHeader(0).epoch, 1U);  // Nobody told it.
  const ObjectId second = cluster.Seal("x", 1);
  ASSERT_OK_AND_ASSIGN(const Version version,
                       cluster.leader().Bind({"x", second, /*replace=*/true}));
  ASSERT_OK(cluster.MakeBound(second, version));
  ASSERT_OK_AND_ASSIGN(const auto before, cluster.Find("x"));
  EXPECT_EQ(before->object, first.object);
  ASSERT_OK(cluster.leader().Commit("x", second, version));  // Nothing is Retired yet.
  ASSERT_OK_AND_ASSIGN(const auto after, cluster.Find("x"));
  EXPECT_EQ(after->object, second);
}

/// What costs a line of each node costs one wait for memory, not one for each.
TEST(FindLeader, ReadsTheLinesOfAllNodesTogether) {
  testing::FakeSegments segments({.segments = 3, .recording = true});
  region::StoreControlWord(segments[1],
                           segments[1]->NodeLine(format::NodeLine::kCatalogEpoch), 5);
  segments.TakeLog();
  EXPECT_EQ(FindLeader(segments.list()), (LeaderView{5, {1}}));
  EXPECT_THAT(segments.TakeLog(),
              ElementsAre("flush epoch", "flush epoch", "flush epoch", "fence"));
}

/// Readers in other threads while the index grows, a name is replaced over and over,
/// others come and go, and their slots and records are used again.
TEST(Lookup, NeverMissesANameThatIsThereAllTheTime) {
  TestCluster cluster({.segments = 2, .slots_max = 8192, .records_size_bytes = 8 << 20});
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK_AND_ASSIGN(const Found fixed, cluster.Publish("fixed", 1));
  ASSERT_OK(cluster.Publish("replaced", 1));
  std::atomic<bool> done = false;
  std::atomic<int> misses = 0;
  std::atomic<int> looked_up = 0;
  std::vector<std::thread> readers;
  for (int t = 0; t < 2; ++t) {
    readers.emplace_back([&] {
      Version last;
      while (!done) {
        const auto found = cluster.Find("fixed");
        if (!found.ok() || !*found || (*found)->object != fixed.object) ++misses;
        const auto replaced = cluster.Find("replaced");
        if (!replaced.ok() || !*replaced || (*replaced)->version < last) {
          ++misses;
        } else {
          last = (*replaced)->version;
        }
        const auto absent = cluster.Find("never there");
        if (!absent.ok() || *absent) ++misses;
        if (!List(cluster.segments().list()).ok()) ++misses;
        ++looked_up;
      }
    });
  }
  for (int i = 0; i < 600 || looked_up < 20; ++i) {
    if (i < 600) {
      ASSERT_OK(cluster.Publish("n" + std::to_string(i), i % 2 == 0 ? 0 : 1));
    }
    ASSERT_OK(cluster.Publish("replaced", i % 2 == 0 ? 0 : 1, /*replace=*/true));
    if (i % 3 == 0 && i < 600) {
      ASSERT_OK(cluster.Remove("n" + std::to_string(i)));
    }
    cluster.Reclaim();
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(misses, 0);
}

}  // namespace
}  // namespace sheaf::directory
