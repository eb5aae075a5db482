#include "daemon/leadership.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "daemon/log.h"
#include "daemon/test_catalog.h"
#include "directory/catalog.h"
#include "format/layout.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class LeadershipTest : public ::testing::Test {
 protected:
  void SetUp() override { SetLogLevel(LogLevel::kOff); }

  bool Await(CatalogNode::Result* result) {
    return cluster_.PassUntil([&] { return result->has_value(); });
  }
  std::optional<directory::Found> Find(uint32_t node, const std::string& name) {
    return directory::Lookup(*cluster_[node].region, name).ValueOrDie();
  }
  directory::LeaderView View() {
    return directory::FindLeader(region::SegmentsOf(*cluster_[0].region));
  }
  size_t NumBound(const std::string& name) {
    size_t bound = 0;
    for (uint32_t k = 0; k < 3; ++k) {
      const auto& directory = cluster_[k].home->directory();
      for (const ObjectId& id : directory.ObjectsIn(format::LineState::kBound)) {
        bound += (*directory.GetRecord(id))->name == name;
      }
    }
    return bound;
  }

  TestCatalog cluster_{3};
};

TEST_F(LeadershipTest, TheFirstNodeLeadsAndStaysSo) {
  EXPECT_EQ(cluster_.Leader(), 0);
  const uint64_t epoch = View().epoch;
  cluster_.Pass(seconds(60));
  EXPECT_EQ(cluster_.Leader(), 0);
  EXPECT_EQ(View().epoch, epoch);
}

TEST_F(LeadershipTest, ALeaderThatIsSilentIsFollowedByTheLowestThatIsUp) {
  CatalogNode::Result first;
  cluster_[2].Put("a", false, &first);
  ASSERT_TRUE(Await(&first));
  cluster_[0].clock.Pause();
  ASSERT_TRUE(cluster_.PassUntil([&] { return View().node == NodeId{1}; }));
  ASSERT_TRUE(
      cluster_.PassUntil([&] { return cluster_[1].leadership.leader() != nullptr; }));
  // One-sided, from the index of the new one.
  EXPECT_EQ(Find(2, "a")->object, (*first)->object);
  EXPECT_EQ(Find(2, "b"), std::nullopt);
  CatalogNode::Result second;
  cluster_[2].Put("b", false, &second);
  ASSERT_TRUE(Await(&second));
  ASSERT_OK(*second);
  EXPECT_EQ(cluster_[2].leadership.leader(), nullptr);
}

/// An arbiter decides between those that would claim.
TEST_F(LeadershipTest, WhoMayNotClaimDoesNot) {
  cluster_[1].may_claim = false;
  EXPECT_TRUE(cluster_[1].has_given_way);
  cluster_[0].clock.Pause();
  ASSERT_TRUE(cluster_.PassUntil([&] { return View().node == NodeId{2}; }));
  cluster_[2].clock.Pause();
  cluster_.Pass(seconds(60));
  EXPECT_EQ(View().node, NodeId{2});
  cluster_[1].may_claim = true;
  ASSERT_TRUE(cluster_.PassUntil([&] { return View().node == NodeId{1}; }));
}

/// Section 8: leadership by suspicion is only liveness.
TEST_F(LeadershipTest, ALeaderThatGoesOnStepsDownAndDoesNoHarm) {
  cluster_[0].clock.Pause();
  ASSERT_TRUE(
      cluster_.PassUntil([&] { return cluster_[1].leadership.leader() != nullptr; }));
  CatalogNode::Result first;
  cluster_[2].Put("a", false, &first);
  ASSERT_TRUE(Await(&first));
  ASSERT_OK(*first);
  // Of its own home, at the leader that it still is, and which grants the same version: a
  // later put of the name has a higher one all the same.
  CatalogNode::Result second;
  cluster_[0].Put("a", true, &second);
  ASSERT_NE(cluster_[0].leadership.leader(), nullptr);
  cluster_[0].clock.Continue();
  ASSERT_TRUE(Await(&second));
  ASSERT_OK(*second);
  EXPECT_GT((*second)->version, (*first)->version);
  EXPECT_EQ(Find(2, "a")->object, (*second)->object);
  EXPECT_EQ(NumBound("a"), 1);
  cluster_.Pass(seconds(1));
  EXPECT_EQ(cluster_[0].leadership.leader(), nullptr);
  EXPECT_EQ(cluster_.Leader(), 1);
  const auto& own = cluster_[0].region->own_segment();
  EXPECT_EQ(region::ReadControlLine<format::IndexHeaderLine>(
                own, own.NodeLine(format::NodeLine::kIndexHeader))
                ->epoch,
            0);
  cluster_.Pass(seconds(60));
  EXPECT_EQ(cluster_.Leader(), 1);  // It does not take it back.
}

/// Its line is lost with its memory; its versions are not.
TEST_F(LeadershipTest, WhoFollowsALeaderWhoseMemoryIsLostIsAboveItsVersions) {
  CatalogNode::Result first;
  cluster_[2].Put("a", false, &first);
  ASSERT_TRUE(Await(&first));
  ASSERT_OK(*first);
  const uint64_t lost = View().epoch;
  cluster_[0].clock.Pause();
  region::Segment* leader = &cluster_[0].region->own_segment();
  region::StoreControlWord(leader, leader->NodeLine(format::NodeLine::kCatalogEpoch), 0);
  ASSERT_TRUE(
      cluster_.PassUntil([&] { return cluster_[1].leadership.leader() != nullptr; }));
  EXPECT_GT(View().epoch, lost);
  CatalogNode::Result second;
  cluster_[2].Put("a", true, &second);
  ASSERT_TRUE(Await(&second));
  ASSERT_OK(*second);
  EXPECT_EQ(Find(2, "a")->object, (*second)->object);
}

TEST_F(LeadershipTest, APutThatWaitsForASilentLeaderIsDoneByTheNext) {
  for (const bool replace : {false, true}) {
    CatalogNode::Result before;
    cluster_[2].Put("t", true, &before);
    ASSERT_TRUE(Await(&before));
    const uint32_t leader = *cluster_.Leader();
    cluster_[leader].clock.Pause();
    CatalogNode::Result result;
    cluster_[2].Put(replace ? "t" : "s", replace, &result);
    ASSERT_TRUE(Await(&result));
    ASSERT_OK(*result);
    EXPECT_EQ(NumBound(replace ? "t" : "s"), 1);
    cluster_[leader].clock.Continue();
    ASSERT_TRUE(cluster_.PassUntil([&] { return cluster_.Leader().has_value(); }));
  }
}

/// C9 (3): the version is Bound, the leader it was granted by is silent from then on.
TEST_F(LeadershipTest, AReplaceIsCommittedAtAnotherLeaderThanTheFirst) {
  CatalogNode::Result before;
  cluster_[2].Put("t", false, &before);
  ASSERT_TRUE(Await(&before));
  CatalogNode::Result result;
  cluster_[2].Put("t", true, &result);
  ASSERT_TRUE(cluster_.PassUntil([&] { return NumBound("t") == 2 || result; }));
  ASSERT_FALSE(result.has_value());
  cluster_[0].clock.Pause();
  ASSERT_TRUE(Await(&result));
  ASSERT_OK(*result);
  EXPECT_EQ(Find(1, "t")->object, (*result)->object);
  EXPECT_EQ(NumBound("t"), 1);
}

TEST_F(LeadershipTest, TwoThatClaimAtOnceLeaveOne) {
  // Without a sight of each other: both claim.
  cluster_[0].clock.Pause();
  ASSERT_TRUE(cluster_.PassUntil([&] { return View().node != NodeId{0}; }));
  const uint32_t first = View().node.value;
  cluster_[first].clock.Pause();  // In the middle of its claim, or just after.
  ASSERT_TRUE(cluster_.PassUntil([&] { return View().node == NodeId{3 - first}; }));
  cluster_[first].clock.Continue();
  cluster_[0].clock.Continue();
  cluster_.Pass(seconds(20));
  ASSERT_TRUE(cluster_.Leader().has_value());
  EXPECT_EQ(*cluster_.Leader(), View().node.value);
  CatalogNode::Result result;
  cluster_[0].Put("a", false, &result);
  ASSERT_TRUE(Await(&result));
  ASSERT_OK(*result);
}

/// Each thinks the other gone, for ever: publishers get on all the same (section 8).
TEST_F(LeadershipTest, TwoThatKeepClaimingLeaveOthersTime) {
  const auto suspect = [&] {  // What F1 of each says of the other.
    for (const auto& [home, of] : {std::pair{0U, 1U}, {1U, 0U}}) {
      region::Segment& own = cluster_[home].region->own_segment();
      region::StoreWithdrawn(&own, {of}, 1000);
    }
  };
  suspect();
  int done = 0;
  for (int i = 0; i < 20; ++i) {
    CatalogNode::Result result;
    cluster_[2].Put("t" + std::to_string(i), false, &result);
    ASSERT_TRUE(Await(&result));
    done += result->ok();
    cluster_.Pass(seconds(1));
  }
  EXPECT_EQ(done, 20);
}

TEST_F(LeadershipTest, ALeaderThatMakesNoIndexIsFollowedAfterAWhile) {
  region::Segment& own = cluster_[2].region->own_segment();
  region::StoreControlWord(&own, own.NodeLine(format::NodeLine::kCatalogEpoch), 101);
  cluster_[2].clock.Pause();
  // It is up: somebody beats its heart.
  const std::function<void()> beat = [&] {
    cluster_[2].lines.Beat();
    cluster_[1].clock.After(milliseconds(100), beat);
  };
  beat();
  cluster_.Pass(kIndexlessMax - seconds(1));
  EXPECT_EQ(View().epoch, 101);
  cluster_.Pass(seconds(5));
  EXPECT_GT(View().epoch, 101);
  ASSERT_TRUE(cluster_.Leader().has_value());
}

/// #5: others took it for one that leads, for ever. Its next life cannot claim, here for
/// want of the arbiter's word.
TEST_F(LeadershipTest, WhoStartsAndDoesNotLeadHasNoIndex) {
  const auto view = View();
  ASSERT_EQ(view.node, NodeId{0});
  const auto has_index = [&] {
    return directory::HasIndex(region::SegmentsOf(*cluster_[1].region), view);
  };
  ASSERT_TRUE(has_index());
  CatalogNode& node = cluster_[0];
  Leadership next({node.region, node.home, &node.membership, &node.clock},
                  {[] {}, [](const auto&) {}, [](const auto&) {}, [] { return false; }});
  next.Start();
  EXPECT_EQ(next.leader(), nullptr);
  EXPECT_FALSE(has_index());
  node.clock.Pause();  // Of the life before.
  const std::function<void()> beat = [&] {
    node.lines.Beat();
    cluster_[1].clock.After(milliseconds(100), beat);
  };
  beat();
  cluster_.Pass(kIndexlessMax + seconds(5));
  EXPECT_GT(View().epoch, view.epoch);
}

}  // namespace
}  // namespace sheaf::daemon
