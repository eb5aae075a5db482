#include "directory/catalog.h"

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "directory/directory.h"
#include "directory/index_writer.h"
#include "directory/test_cluster.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::directory {
namespace {

using format::LineState;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr testing::FakeOptions kTwoNodes = {.segments = 2, .slots_max = 4096};

void ExpectFound(TestCluster* cluster, const std::string& name, const ObjectId& object) {
  const auto found = cluster->Find(name);
  ASSERT_OK(found);
  ASSERT_TRUE(found->has_value()) << name << " is absent";
  EXPECT_EQ((*found)->object, object) << name;
}

void ExpectAbsent(TestCluster* cluster, const std::string& name) {
  const auto found = cluster->Find(name);
  ASSERT_OK(found);
  EXPECT_FALSE(found->has_value()) << name;
}

format::IndexHeaderLine HeaderOf(TestCluster* cluster, uint32_t k) {
  const region::Segment& segment = *cluster->segments()[k];
  return *region::ReadControlLine<format::IndexHeaderLine>(
      segment, segment.NodeLine(format::NodeLine::kIndexHeader));
}

TEST(Catalog, FindsWhatWasPublishedOnAnyNode) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ExpectAbsent(&cluster, "a");
  ASSERT_OK_AND_ASSIGN(const Found a, cluster.Publish("a", 0));
  ASSERT_OK_AND_ASSIGN(const Found b, cluster.Publish("b", 1));
  EXPECT_EQ(a.version, (Version{1, 1}));
  ExpectFound(&cluster, "a", a.object);
  ExpectFound(&cluster, "b", b.object);
  EXPECT_EQ((*cluster.Find("b"))->version, b.version);
  ExpectAbsent(&cluster, "c");
}

TEST(Catalog, WithoutALeaderNothingIsSaidToBeAbsent) {
  TestCluster cluster(kTwoNodes);
  EXPECT_TRUE(IsNodeLost(cluster.Find("a").status()));
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK(cluster.Publish("a"));
  // Node 1 has claimed, its index is not yet there: the old one may not deny a name.
  region::StoreControlWord(
      cluster.segments()[1],
      cluster.segments()[1]->NodeLine(format::NodeLine::kCatalogEpoch), 2);
  EXPECT_TRUE(IsNodeLost(cluster.Find("c").status()));
}

TEST(Catalog, ANameBelongsToOneObject) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK_AND_ASSIGN(const Found first, cluster.Publish("a", 1));
  EXPECT_RAISES(AlreadyExists, cluster.Publish("a", 0));
  ExpectFound(&cluster, "a", first.object);
}

TEST(Catalog, ANameThatIsBeingPublishedIsTakenAndInvisible) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  const ObjectId first = cluster.Seal("a", 1);
  ASSERT_OK_AND_ASSIGN(const Version version, cluster.leader().Bind({"a", first}));
  EXPECT_RAISES(AlreadyExists, cluster.Publish("a"));
  ExpectAbsent(&cluster, "a");
  ASSERT_OK(cluster.MakeBound(first, version));
  ExpectFound(&cluster, "a", first);  // Before its commit: publish() may have returned.
  // Asked again, the leader says the same.
  ASSERT_OK_AND_ASSIGN(const Version again, cluster.leader().Bind({"a", first}));
  EXPECT_EQ(again, version);
}

TEST(Catalog, ANameOfADeadPublisherIsFree) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  const ObjectId dead = cluster.Seal("a", 1);
  ASSERT_OK(cluster.leader().Bind({"a", dead}));
  ASSERT_OK(cluster.home(1).Retire(dead));  // C3: nobody told the leader.
  ASSERT_OK_AND_ASSIGN(const Found second, cluster.Publish("a"));
  EXPECT_EQ(second.version.sequence, 2U);
  ExpectFound(&cluster, "a", second.object);
  // The same when the slot holds another object by now.
  ASSERT_OK(cluster.home(0).Retire(second.object));
  cluster.Reclaim();
  ASSERT_OK(cluster.home(0).Seal(MakeRecord(""), 0));
  ExpectAbsent(&cluster, "a");
  ASSERT_OK_AND_ASSIGN(const Found third, cluster.Publish("a"));
  EXPECT_EQ(third.version.sequence, 3U);
}

TEST(Catalog, ReplaceMakesTheNextVersionAndRetiresTheLast) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK_AND_ASSIGN(const Found first, cluster.Publish("a", 0));
  const ObjectId second = cluster.Seal("a", 1);
  ASSERT_OK_AND_ASSIGN(const Version version, cluster.leader().Bind({"a", second, true}));
  EXPECT_EQ(version, (Version{1, 2}));
  ExpectFound(&cluster, "a", first.object);
  ASSERT_OK(cluster.MakeBound(second, version));
  ExpectFound(&cluster, "a", first.object);
  for (int i = 0; i < 2; ++i) {  // The answer may be lost: asked again, it is the same.
    ASSERT_OK_AND_ASSIGN(const auto old, cluster.leader().Commit("a", second, version));
    EXPECT_THAT(old, ElementsAre(first.object));
    ExpectFound(&cluster, "a", second);
  }
  ASSERT_OK(cluster.home(0).Retire(first.object));
  ASSERT_OK_AND_ASSIGN(const auto old, cluster.leader().Commit("a", second, version));
  EXPECT_THAT(old, IsEmpty());
  ASSERT_OK_AND_ASSIGN(const Found third, cluster.Publish("a", 0, /*replace=*/true));
  EXPECT_EQ(third.version.sequence, 3U);
  EXPECT_THAT(cluster.AllBound(), ElementsAre(third.object));
}

TEST(Catalog, ReplacesOnlyTheExpectedVersion) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  EXPECT_TRUE(IsVersionMismatch(cluster.Publish("a", 0, true, 1).status()));
  ASSERT_OK(cluster.Publish("a"));
  EXPECT_TRUE(IsVersionMismatch(cluster.Publish("a", 0, true, 2).status()));
  ASSERT_OK(cluster.Publish("a", 0, true, 1));
  EXPECT_TRUE(IsVersionMismatch(cluster.Publish("a", 0, true, 1).status()));
}

TEST(Catalog, VersionsRiseOverRemoval) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  for (uint32_t i = 1; i <= 10; ++i) {
    ASSERT_OK_AND_ASSIGN(const Found found, cluster.Publish("a", i % 2));
    EXPECT_EQ(found.version, (Version{1, i}));
    ASSERT_OK(cluster.Remove("a"));
    ExpectAbsent(&cluster, "a");
    cluster.Reclaim();
  }
}

TEST(Catalog, ManyRemovedNamesCostNoSpaceForEver) {
  TestCluster cluster({.slots_max = 256, .records_size_bytes = 4 << 20});
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK(cluster.Publish("kept"));
  ASSERT_OK(cluster.Publish("again"));
  ASSERT_OK(cluster.Publish("again", 0, true));
  ASSERT_OK(cluster.Remove("again"));
  for (int i = 0; i < 40'000; ++i) {
    const std::string name = std::to_string(i);
    const ObjectId id = cluster.Seal(name);
    ASSERT_OK_AND_ASSIGN(const Version version, cluster.leader().Bind({name, id}));
    ASSERT_GE(version.sequence, 1U);
    ASSERT_OK(cluster.home(0).Retire(id));
    cluster.leader().Unbind(name, id);
    ASSERT_OK(cluster.home(0).Free(id));
  }
  ASSERT_OK_AND_ASSIGN(const Found again, cluster.Publish("again"));
  EXPECT_GE(again.version.sequence, 3U);
  ASSERT_OK_AND_ASSIGN(const auto kept, cluster.Find("kept"));
  EXPECT_TRUE(kept.has_value());
  EXPECT_LE(HeaderOf(&cluster, 0).capacity_entries, 32768U);
}

uint64_t SameHash(std::string_view /*name*/) { return 42; }

TEST(Catalog, NamesWithEqualHashesAreToldApart) {
  TestCluster cluster(kTwoNodes, SameHash);
  ASSERT_OK(cluster.Claim(1));
  std::vector<ObjectId> ids;
  for (int i = 0; i < 100; ++i) {
    ASSERT_OK_AND_ASSIGN(const Found found,
                         cluster.Publish("n" + std::to_string(i), i % 2 == 0 ? 0 : 1));
    ids.push_back(found.object);
    ExpectAbsent(&cluster, "n" + std::to_string(i + 1));
  }
  for (size_t i = 0; i < 100; i += 3) ASSERT_OK(cluster.Remove("n" + std::to_string(i)));
  for (size_t i = 0; i < 100; ++i) {
    const std::string name = "n" + std::to_string(i);
    if (i % 3 == 0) {
      ExpectAbsent(&cluster, name);
    } else {
      ExpectFound(&cluster, name, ids[i]);
    }
  }
  ASSERT_OK_AND_ASSIGN(const Found found, cluster.Publish("n3"));
  EXPECT_EQ(found.version.sequence, 2U);
  ASSERT_OK(cluster.Claim(2, 1));
  ExpectFound(&cluster, "n3", found.object);
  ExpectFound(&cluster, "n4", ids[4]);
  ExpectAbsent(&cluster, "n6");
}

TEST(Catalog, TooManyEqualHashesAreAnErrorNotALostName) {
  TestCluster cluster({.records_size_bytes = 4 << 20}, SameHash);
  ASSERT_OK(cluster.Claim(1));
  arrow::Status status;
  uint32_t granted = 0;
  for (; granted <= kProbeMax; ++granted) {
    status = cluster.leader().Bind({std::to_string(granted), {{0}, granted, 1}}).status();
    if (!status.ok()) break;
  }
  EXPECT_TRUE(status.IsCapacityError()) << status.ToString();
  EXPECT_EQ(granted, kProbeMax);
}

TEST(Catalog, TheIndexGrowsAndForgetsNothing) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  std::vector<ObjectId> ids;
  for (int i = 0; i < 2000; ++i) {
    ASSERT_OK_AND_ASSIGN(const Found found,
                         cluster.Publish(std::to_string(i), i % 2 == 0 ? 0 : 1));
    ids.push_back(found.object);
  }
  for (size_t i = 0; i < 2000; ++i) ExpectFound(&cluster, std::to_string(i), ids[i]);
  ExpectAbsent(&cluster, "2000");
  EXPECT_GE(HeaderOf(&cluster, 0).capacity_entries, 4000U);
}

TEST(Catalog, AFullRecordAreaRefusesTheNameAndKeepsTheOthers) {
  TestCluster cluster({.slots_max = 4096, .records_size_bytes = 64 << 10});
  ASSERT_OK(cluster.Claim(1));
  int published = 0;
  arrow::Status status;
  for (; published < 1000; ++published) {
    const std::string name = std::to_string(published);
    const auto id = cluster.home(0).Seal(MakeRecord(name, 0, 1), format::kSlotNamed);
    status = id.status();
    if (!status.ok()) break;
    const auto version = cluster.leader().Bind({name, *id});
    status = version.status();
    if (!status.ok()) break;
    ASSERT_OK(cluster.MakeBound(*id, *version));
  }
  EXPECT_TRUE(status.IsCapacityError()) << status.ToString();
  for (int i = 0; i < published; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto found, cluster.Find(std::to_string(i)));
    EXPECT_TRUE(found.has_value()) << i;
  }
}

TEST(Catalog, EntriesAreSettledBeforeTheOldVersionMayGo) {
  TestCluster cluster({.recording = true});
  ASSERT_OK(cluster.Claim(1));
  const ObjectId first = cluster.Seal("a");
  cluster.segments().TakeLog();
  ASSERT_OK_AND_ASSIGN(const Version v1, cluster.leader().Bind({"a", first}));
  EXPECT_THAT(cluster.segments().TakeLog(),
              ElementsAre("store record", "flush record", "fence"));  // C3
  ASSERT_OK(cluster.MakeBound(first, v1));
  const ObjectId second = cluster.Seal("a");
  ASSERT_OK_AND_ASSIGN(const Version v2, cluster.leader().Bind({"a", second, true}));
  ASSERT_OK(cluster.MakeBound(second, v2));
  cluster.segments().TakeLog();
  ASSERT_OK(cluster.leader().Commit("a", second, v2));
  EXPECT_THAT(cluster.segments().TakeLog(),
              ElementsAre("invalidate slot 0", "invalidate slot 1", "store record",
                          "flush record", "fence", "settle record", "invalidate slot 0"));
}

/// C1: own index inactive, own epoch in memory, and only then the first slot is read.
TEST(Catalog, ClaimsInTheOrderOfTheProtocol) {
  TestCluster cluster({.recording = true});
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK(cluster.Publish("a"));
  cluster.segments().TakeLog();
  ASSERT_OK(cluster.Claim(2));
  const std::vector<std::string> log = cluster.segments().TakeLog();
  const auto place = [&](const std::string& entry) {
    return std::ranges::find(log, entry) - log.begin();
  };
  EXPECT_LT(place("settle index header"), place("store epoch"));
  EXPECT_LT(place("settle epoch"), place("invalidate slot 0"));
  EXPECT_LT(place("invalidate slot 0"), place("settle record"));  // the table
  ASSERT_GE(log.size(), 4U);
  // The header comes last, after the table it leads to.
  std::vector<std::string> last(log.end() - 5, log.end());
  EXPECT_THAT(last, ElementsAre("settle record", "store index header",
                                "flush index header", "fence", "settle index header"));
}

TEST(Claim, FindsAllBoundNamesAndWhoIsAboutToBind) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK_AND_ASSIGN(const Found a, cluster.Publish("a", 1));
  ASSERT_OK(cluster.Publish("removed"));
  ASSERT_OK(cluster.Remove("removed"));
  const ObjectId sealed = cluster.Seal("sealed", 1);
  ASSERT_OK_AND_ASSIGN(const Version v, cluster.leader().Bind({"sealed", sealed}));
  ASSERT_OK(cluster.home(1).SetVersion(sealed, v.epoch, v.sequence));
  cluster.Seal("never granted", 1);

  ASSERT_OK(cluster.Claim(2, 1));
  ExpectFound(&cluster, "a", a.object);
  ExpectAbsent(&cluster, "removed");
  ExpectAbsent(&cluster, "sealed");
  EXPECT_RAISES(AlreadyExists, cluster.leader().Bind({"sealed", cluster.Seal("sealed")}));
  ASSERT_OK(cluster.Publish("never granted"));
  // C5: its publisher asks again, and rewrites the epoch.
  ASSERT_OK_AND_ASSIGN(const Version again, cluster.leader().Bind({"sealed", sealed}));
  EXPECT_EQ(again, (Version{2, v.sequence}));
  ASSERT_OK_AND_ASSIGN(const Found next, cluster.Publish("a", 0, true));
  EXPECT_EQ(next.version, (Version{2, 2}));
}

TEST(Claim, TheHighestVersionWinsAndTheOthersAreToBeRetired) {
  TestCluster cluster(kTwoNodes);
  std::vector<ObjectId> ids;
  for (const Version version : {Version{1, 5}, Version{2, 1}, Version{1, 7}}) {
    ids.push_back(cluster.Seal("a", ids.size() % 2 == 0 ? 0 : 1));
    ASSERT_OK(cluster.MakeBound(ids.back(), version));
  }
  ASSERT_OK(cluster.Claim(3));
  ExpectFound(&cluster, "a", ids[1]);
  EXPECT_THAT(cluster.leader().losers(), ElementsAre(ids[2], ids[0]));
  ASSERT_OK_AND_ASSIGN(const Found next, cluster.Publish("a", 0, true));
  EXPECT_EQ(next.version, (Version{3, 8}));
  EXPECT_THAT(cluster.AllBound(), ElementsAre(next.object));
}

TEST(Claim, AReplaceUnderWayDoesNotHideTheBoundVersion) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK_AND_ASSIGN(const Found first, cluster.Publish("a"));
  const ObjectId second = cluster.Seal("a", 1);
  ASSERT_OK_AND_ASSIGN(const Version version, cluster.leader().Bind({"a", second, true}));
  ASSERT_OK(cluster.home(1).SetVersion(second, version.epoch, version.sequence));
  ASSERT_OK(cluster.Claim(2));
  ExpectFound(&cluster, "a", first.object);
  // Its publisher had passed its check before the claim.
  ASSERT_OK(cluster.home(1).Bind(second));
  ASSERT_OK_AND_ASSIGN(const auto old, cluster.leader().Commit("a", second, version));
  EXPECT_THAT(old, ElementsAre(first.object));
  ExpectFound(&cluster, "a", second);
}

TEST(Claim, NeedsANewEpoch) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(2, 1));
  EXPECT_RAISES(Invalid, cluster.Claim(1));
  EXPECT_RAISES(Invalid, cluster.Claim(2));
  EXPECT_OK(cluster.Claim(3));
}

TEST(Claim, ASlotThatCannotBeReadBlocksIt) {
  TestCluster cluster(kTwoNodes);
  const ObjectId id = cluster.Seal("a", 1);
  uint64_t* line = cluster.segments()[1]->SlotLine(id.slot);
  const uint64_t good = line[0];
  line[0] = format::kBusyWord;
  EXPECT_RAISES(IOError, cluster.Claim(1));
  line[0] = good;
  EXPECT_OK(cluster.Claim(2));
}

TEST(Claim, AfterARestartTheIndexOfTheLastLifeStaysUntilTheNext) {
  TestCluster cluster({.slots_max = 1024});
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK_AND_ASSIGN(const Found a, cluster.Publish("a"));
  for (uint32_t epoch = 2; epoch < 30; ++epoch) {
    cluster.RestartHome(0);
    for (int i = 0; i < 10; ++i)
      ASSERT_OK(cluster.home(0).Seal(MakeRecord("", 0, 500), 0));
    ExpectFound(&cluster, "a", a.object);
    ExpectAbsent(&cluster, "b");
    ASSERT_OK(cluster.Claim(epoch));
    ExpectFound(&cluster, "a", a.object);
  }
}

TEST(Lookup, SurvivesAnyIndex) {
  TestCluster cluster({.records_size_bytes = 64 << 10});
  Numbers numbers(1);
  ASSERT_OK(cluster.Claim(1));
  for (int i = 0; i < 20; ++i) ASSERT_OK(cluster.Publish(std::to_string(i)));
  const region::Segment& segment = *cluster.segments()[0];
  uint64_t* line = segment.NodeLine(format::NodeLine::kIndexHeader);
  const auto good = HeaderOf(&cluster, 0);
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
  const format::IndexHeaderLine header = HeaderOf(&cluster, 0);
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
  EXPECT_NE(HeaderOf(&cluster, 0).build, header.build);
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

/// Readers in other threads while the index grows, a name is replaced over and over,
/// others come and go, and their slots and records are used again.
TEST(Catalog, ReadersNeverMissANameThatIsThereAllTheTime) {
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
