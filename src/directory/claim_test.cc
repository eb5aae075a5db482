// Claims over slots that cannot be read.

#include <cstdint>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/test_cluster.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/fake_segments.h"

namespace sheaf::directory {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

uint64_t* LineOf(TestCluster* cluster, const ObjectId& id) {
  return cluster->segments()[id.segment.value]->SlotLine(id.slot);
}

TEST(Claim, ADamagedSlotBlocksItUnlessItsNodeIsOff) {
  TestCluster cluster(kTwoNodes);
  uint64_t* line = LineOf(&cluster, cluster.Seal("a", 1));
  line[7] ^= 1;
  EXPECT_RAISES(IOError, cluster.Claim(1));
  region::StoreCertifiedOff(cluster.segments()[0], NodeId{1}, 1);
  ASSERT_OK(cluster.Claim(2));
  EXPECT_THAT(cluster.leader().problems(), SizeIs(1));
  line[7] ^= 1;
  EXPECT_OK(cluster.Claim(3));
}

/// One that is off may have left it, and nobody can claim above it.
TEST(Claim, NoWordOfOneNodeUsesUpTheEpochs) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(2));
  ASSERT_OK_AND_ASSIGN(const Found other, cluster.Publish("b", 1));
  uint64_t* line = cluster.segments()[1]->NodeLine(format::NodeLine::kCatalogEpoch);
  const ObjectId id = cluster.Seal("a", 1);
  ASSERT_OK(cluster.home(1).SetVersion(id, ~uint32_t{0} - 1, 1));
  ASSERT_OK(cluster.home(1).Bind(id));
  for (const uint64_t garbage :
       {uint64_t{~uint32_t{0} - 1}, uint64_t{kCatalogEpochMax} + 1, ~uint64_t{0}}) {
    region::StoreControlWord(cluster.segments()[1], line, garbage);
    ASSERT_OK_AND_ASSIGN(const uint32_t next, NextEpoch(cluster.segments().list(), {0}));
    EXPECT_LT(next, 100'000U);
    ASSERT_OK(cluster.Claim(next));
    EXPECT_THAT(cluster.leader().problems(), SizeIs(1));
    ExpectFound(&cluster, "b", other.object);
  }
  ASSERT_OK_AND_ASSIGN(const Found own, cluster.Publish("a"));
  ASSERT_OK_AND_ASSIGN(const auto listed, List(cluster.segments().list()));
  ASSERT_THAT(listed, SizeIs(2));
  EXPECT_EQ(listed[0].found.object, own.object);
  EXPECT_RAISES(CapacityError,
                NextEpoch(cluster.segments().list(), {0}, kCatalogEpochMax));
}

/// #5: a home that died in the middle of a slot blocked all claims. Whether the name is
/// taken is not known: Bound may have been told, or be removed.
TEST(Claim, ASlotThatItsHomeHasNotFinishedBlocksItsOwnNameAlone) {
  for (const bool is_bound : {false, true}) {
    TestCluster cluster(kTwoNodes);
    ASSERT_OK(cluster.Claim(1));
    ASSERT_OK_AND_ASSIGN(const Found other, cluster.Publish("b", 1));
    const ObjectId id = cluster.Seal("a", 1);
    ASSERT_OK_AND_ASSIGN(const Version version, cluster.leader().Bind({"a", id}));
    ASSERT_OK(cluster.home(1).SetVersion(id, version.epoch, version.sequence));
    if (is_bound) {
      ASSERT_OK(cluster.home(1).Bind(id));
    }
    uint64_t* line = LineOf(&cluster, id);
    const uint64_t good = line[0];
    line[0] = format::kBusyWord;
    ASSERT_OK(cluster.Claim(2));
    EXPECT_THAT(cluster.leader().problems(), SizeIs(1));
    ExpectFound(&cluster, "b", other.object);
    EXPECT_RAISES(IOError, cluster.Publish("a"));
    EXPECT_FALSE(cluster.Find("a").ok());
    line[0] = good;
    if (!is_bound) {
      ASSERT_OK(cluster.home(1).Bind(id));
    }
    ExpectFound(&cluster, "a", id);
    EXPECT_RAISES(AlreadyExists, cluster.Publish("a"));
  }
}

TEST(Claim, WhatNobodyCanHaveBeenToldOfHoldsNoName) {
  // Words of a line that is cut short: a seal, of which the name is not yet granted; a
  // version, half of it.
  for (const bool has_version : {false, true}) {
    TestCluster cluster(kTwoNodes);
    ASSERT_OK(cluster.Claim(1));
    const ObjectId id = cluster.Seal("a", 1);
    uint64_t* line = LineOf(&cluster, id);
    if (has_version) line[4] = (uint64_t{1} << 32) + 1;
    line[0] = format::kBusyWord;
    ASSERT_OK(cluster.Claim(2));
    ASSERT_OK_AND_ASSIGN(const Found second, cluster.Publish("a"));
    ExpectFound(&cluster, "a", second.object);
    cluster.RestartHome(1);  // What is sealed and not bound goes (C6).
    EXPECT_THAT(cluster.home(1).ObjectsIn(format::LineState::kSealed), ElementsAre(id));
    ASSERT_OK(cluster.home(1).Retire(id));
    ASSERT_OK(cluster.Claim(3));
    ExpectFound(&cluster, "a", second.object);
  }
}

}  // namespace
}  // namespace sheaf::directory
