#include "directory/catalog.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "directory/directory.h"
#include "directory/index_writer.h"
#include "directory/test_cluster.h"
#include "directory/test_records.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "platform/shared_word.h"
#include "region/control_line.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/fake_segments.h"

namespace sheaf::directory {
namespace {

using format::LineState;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

void ExpectAbsent(TestCluster* cluster, const std::string& name) {
  const auto found = cluster->Find(name);
  ASSERT_OK(found);
  EXPECT_FALSE(found->has_value()) << name;
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

// #4: such an object held its name, and nobody could look it up.
TEST(Catalog, AClaimLeavesOutWhatNobodyCanFind) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK_AND_ASSIGN(const Found lost, cluster.Publish("a", 1));
  uint64_t* line = cluster.segments()[1]->SlotLine(lost.object.slot);
  auto slot = std::bit_cast<format::Slot>(platform::LoadLine(line));
  slot.name_hash ^= 1;
  platform::StoreLine(line, format::SealLine(slot), format::kBusyWord);
  ASSERT_OK(cluster.Claim(2));
  EXPECT_THAT(cluster.leader().problems(), SizeIs(1));
  ExpectAbsent(&cluster, "a");
  ASSERT_OK_AND_ASSIGN(const Found a, cluster.Publish("a", 0));
  ExpectFound(&cluster, "a", a.object);
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

TEST(Catalog, AReplaceThatUnbindCouldNotReadIsFoundByTheNextBind) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK(cluster.Publish("a", 0));
  const ObjectId second = cluster.Seal("a", 1);
  ASSERT_OK_AND_ASSIGN(const Version version, cluster.leader().Bind({"a", second, true}));
  uint64_t* line = cluster.segments()[1]->SlotLine(second.slot);
  const uint64_t good = line[0];
  line[0] = format::kBusyWord;
  ASSERT_OK(cluster.Remove("a"));
  line[0] = good;
  EXPECT_RAISES(AlreadyExists, cluster.leader().Bind({"a", cluster.Seal("a", 0)}));
  ASSERT_OK(cluster.MakeBound(second, version));
  ExpectFound(&cluster, "a", second);
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
  EXPECT_LE(cluster.IndexHeader(0).capacity_entries, 32768U);
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

/// A reservation for nothing would hold the name for ever: no home ever retires it.
TEST(Catalog, OnlyWhatIsSealedMayReserveAName) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  const ObjectId sealed = cluster.Seal("a", 1);
  ObjectId later = sealed;
  ++later.generation;
  const ObjectId unused{{1}, 3000, sealed.generation};
  const ObjectId beyond{{1}, 1U << 21, sealed.generation};
  for (const ObjectId& object : {later, unused, beyond}) {
    const auto version = cluster.leader().Bind({"a", object});
    EXPECT_TRUE(IsStaleGeneration(version.status())) << version.status();
    (void)cluster.leader().Commit("a", object, {1, 1});
  }
  const ObjectId nowhere{{9999}, 0, 77};
  EXPECT_TRUE(IsNodeLost(cluster.leader().Bind({"a", nowhere}).status()));
  EXPECT_TRUE(IsNodeLost(cluster.leader().Commit("a", nowhere, {1, 1}).status()));
  ASSERT_OK(cluster.leader().Bind({"a", sealed}));
}

TEST(Catalog, TooManyEqualHashesAreAnErrorNotALostName) {
  TestCluster cluster({.slots_max = 8192, .records_size_bytes = 16 << 20}, SameHash);
  ASSERT_OK(cluster.Claim(1));
  arrow::Status status;
  uint32_t granted = 0;
  for (; granted <= kProbeMax; ++granted) {
    const std::string name = std::to_string(granted);
    status = cluster.leader().Bind({name, cluster.Seal(name)}).status();
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
  EXPECT_GE(cluster.IndexHeader(0).capacity_entries, 4000U);
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
  const auto expect_all = [&] {
    for (int i = 0; i < published; ++i) {
      ASSERT_OK_AND_ASSIGN(const auto found, cluster.Find(std::to_string(i)));
      EXPECT_TRUE(found.has_value()) << i;
    }
  };
  expect_all();
  // To the last granule; and yet the next life's index has a place.
  while (cluster.home(0).Seal(MakeRecord("", 0, 0), 0).ok()) {
  }
  for (uint32_t epoch = 2; epoch < 5; ++epoch) {
    cluster.RestartHome(0);
    ASSERT_OK(cluster.Claim(epoch));
    expect_all();
  }
}

TEST(Catalog, EntriesAreSettledBeforeTheOldVersionMayGo) {
  TestCluster cluster({.recording = true});
  ASSERT_OK(cluster.Claim(1));
  const ObjectId first = cluster.Seal("a");
  cluster.segments().TakeLog();
  ASSERT_OK_AND_ASSIGN(const Version v1, cluster.leader().Bind({"a", first}));
  EXPECT_THAT(cluster.segments().TakeLog(),
              ElementsAre("invalidate incarnation", "invalidate slot 0", "store record",
                          "flush record", "fence"));  // C3
  ASSERT_OK(cluster.MakeBound(first, v1));
  const ObjectId second = cluster.Seal("a");
  ASSERT_OK_AND_ASSIGN(const Version v2, cluster.leader().Bind({"a", second, true}));
  ASSERT_OK(cluster.MakeBound(second, v2));
  cluster.segments().TakeLog();
  ASSERT_OK(cluster.leader().Commit("a", second, v2));
  EXPECT_THAT(
      cluster.segments().TakeLog(),
      ElementsAre("invalidate incarnation", "invalidate slot 0", "invalidate incarnation",
                  "invalidate slot 1", "store record", "flush record", "fence",
                  "settle record", "invalidate incarnation", "invalidate slot 0"));
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
  // C5: its publisher asks again, and gets a version of this leader's.
  ASSERT_OK_AND_ASSIGN(const Version again, cluster.leader().Bind({"sealed", sealed}));
  EXPECT_EQ(again, (Version{2, v.sequence + 1}));
  EXPECT_EQ(*cluster.leader().Bind({"sealed", sealed}), again);
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

/// The leader's memory was formatted anew: its epoch is in versions alone.
TEST(Claim, IsAboveAllVersionsThatAreThere) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(6));
  ASSERT_OK(cluster.Publish("a", 1));
  region::StoreControlWord(
      cluster.segments()[0],
      cluster.segments()[0]->NodeLine(format::NodeLine::kCatalogEpoch), 0);
  EXPECT_TRUE(IsNodeLost(cluster.Claim(3, 1)));
  EXPECT_TRUE(IsNodeLost(cluster.Claim(6)));
  EXPECT_GT(*NextEpoch(cluster.segments().list(), {1}, 1000), 1000);
  ASSERT_OK(cluster.Claim(7, 1));
  ASSERT_OK_AND_ASSIGN(const Found next, cluster.Publish("a", 1, true));
  ExpectFound(&cluster, "a", next.object);
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

}  // namespace
}  // namespace sheaf::directory
