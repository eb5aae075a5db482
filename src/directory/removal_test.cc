// What the leader knows of versions that go (docs/protocol.md C8, C9).

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/test_cluster.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/fake_segments.h"

namespace sheaf::directory {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

/// Nobody who remembers a version meets another table under it.
TEST(Removal, VersionsRiseOverRemovalAndAChangeOfLeader) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK(cluster.Publish("stays"));
  for (int i = 0; i < 4; ++i) ASSERT_OK(cluster.Publish("a", 0, true));
  ASSERT_OK_AND_ASSIGN(const auto before, cluster.Find("a"));
  EXPECT_EQ(before->version.sequence, 4U);
  ASSERT_OK(cluster.Remove("a"));
  cluster.Reclaim();
  ASSERT_OK(cluster.Claim(2, 1));
  ASSERT_OK_AND_ASSIGN(const Found again, cluster.Publish("a"));
  EXPECT_EQ(again.version, (Version{2, 5}));
  ASSERT_OK(cluster.Remove("a"));
  cluster.Reclaim();
  // What a leader whose memory is lost knew, the next one has noted.
  StoreControlWord(cluster.segments()[0],
                   cluster.segments()[0]->NodeLine(format::NodeLine::kCatalogEpoch) + 1,
                   0);
  ASSERT_OK(cluster.Claim(4, 0));
  ASSERT_OK_AND_ASSIGN(const Found third, cluster.Publish("a"));
  EXPECT_EQ(third.version, (Version{4, 6}));
  ASSERT_OK_AND_ASSIGN(const Found stays, cluster.Publish("stays", 0, true));
  EXPECT_EQ(stays.version.sequence, 2U);
}

/// Words and messages of other nodes are input.
TEST(Removal, NoNodeUsesUpTheVersionsOfNamesThatAreNotThere) {
  constexpr uint32_t kMost = std::numeric_limits<uint32_t>::max();
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK_AND_ASSIGN(const Found first, cluster.Publish("a"));
  ASSERT_OK(cluster.home(first.object).SetLeaving(first.object, true));
  ASSERT_OK(cluster.leader().PrepareRemoval("a", first.object, kMost));
  ASSERT_OK(cluster.Claim(2, 1));
  ASSERT_OK_AND_ASSIGN(const Found second, cluster.Publish("b"));
  StoreControlWord(cluster.segments()[0],
                   cluster.segments()[0]->NodeLine(format::NodeLine::kCatalogEpoch) + 1,
                   kMost);
  ASSERT_OK(cluster.Claim(4, 0));
  ASSERT_OK_AND_ASSIGN(const Found third, cluster.Publish("c"));
  EXPECT_GE(third.version.sequence, second.version.sequence);
}

/// C8: a put that may replace just this version, or the removal of it.
TEST(Removal, WhatLeavesIsNotReplacedAndWhatIsAboutToReplaceItIsTold) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK_AND_ASSIGN(const Found first, cluster.Publish("a"));
  const ObjectId granted = cluster.Seal("a", 1);
  ASSERT_OK_AND_ASSIGN(const Version version,
                       cluster.leader().Bind({"a", granted, true, 1}));
  ASSERT_OK(cluster.home(first.object).SetLeaving(first.object, true));
  ASSERT_OK_AND_ASSIGN(auto undecided,
                       cluster.leader().PrepareRemoval("a", first.object, 1));
  ASSERT_THAT(undecided, SizeIs(1));
  EXPECT_EQ(undecided[0].object, granted);
  EXPECT_EQ(undecided[0].kind, CatalogLeader::UndecidedKind::kConditional);
  ASSERT_OK(cluster.home(1).SetVersion(granted, version.epoch, version.sequence));
  // The next leader does not know what was asked of the last one.
  ASSERT_OK(cluster.Claim(2, 1));
  ASSERT_OK_AND_ASSIGN(undecided, cluster.leader().PrepareRemoval("a", first.object, 1));
  ASSERT_THAT(undecided, SizeIs(1));
  EXPECT_EQ(undecided[0].kind, CatalogLeader::UndecidedKind::kConditional);

  ASSERT_OK(cluster.home(1).Retire(granted));
  cluster.leader().Unbind("a", granted);
  ASSERT_OK_AND_ASSIGN(undecided, cluster.leader().PrepareRemoval("a", first.object, 1));
  EXPECT_THAT(undecided, IsEmpty());
  EXPECT_TRUE(IsVersionMismatch(cluster.Publish("a", 1, true, 1).status()));
  ASSERT_OK_AND_ASSIGN(const Found any, cluster.Publish("a", 1, true));
  EXPECT_EQ(any.version.sequence, 3U);
}

/// Its home died before it committed: whoever removes the name is told of it, and looked
/// up the version before again and again.
TEST(Removal, WhatReplacedAVersionIsFoundByWhoWantedThatRemoved) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK_AND_ASSIGN(const Found first, cluster.Publish("a"));
  const ObjectId next = cluster.Seal("a", 1);
  ASSERT_OK_AND_ASSIGN(const Version version,
                       cluster.leader().Bind({"a", next, true, {}}));
  ASSERT_OK(cluster.home(1).SetVersion(next, version.epoch, version.sequence));
  ASSERT_OK(cluster.home(1).Bind(next));
  EXPECT_TRUE(
      IsStaleGeneration(cluster.leader().PrepareRemoval("a", first.object, 1).status()));
  ASSERT_OK_AND_ASSIGN(const auto found, cluster.Find("a"));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->object, next);
}

/// A third version's slot cannot be read: the second is there, and could not be
/// committed.
TEST(Removal, WhatIsBoundAndNotCommittedIsUndecided) {
  TestCluster cluster(kTwoNodes);
  ASSERT_OK(cluster.Claim(1));
  ASSERT_OK_AND_ASSIGN(const Found first, cluster.Publish("a"));
  const ObjectId second = cluster.Seal("a", 1);
  ASSERT_OK_AND_ASSIGN(const Version version,
                       cluster.leader().Bind({"a", second, true, 1}));
  const ObjectId third = cluster.Seal("a", 1);
  ASSERT_OK(cluster.leader().Bind({"a", third, true, {}}));
  ASSERT_OK(cluster.MakeBound(second, version));
  region::Segment* const segment = cluster.segments()[1];
  region::StoreControlWord(segment, segment->SlotLine(third.slot), format::kBusyWord);
  ASSERT_RAISES(IOError, cluster.leader().Commit("a", second, version));
  ASSERT_OK_AND_ASSIGN(const auto undecided,
                       cluster.leader().PrepareRemoval("a", first.object, 1));
  const auto found =
      std::ranges::find(undecided, second, &CatalogLeader::Undecided::object);
  ASSERT_NE(found, undecided.end());
  EXPECT_EQ(found->kind, CatalogLeader::UndecidedKind::kConditional);
}

}  // namespace
}  // namespace sheaf::directory
