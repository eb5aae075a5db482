#include "daemon/remover.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/log.h"
#include "daemon/publisher.h"
#include "daemon/test_catalog.h"
#include "daemon/test_node.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "format/message.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Removed = std::optional<arrow::Status>;

/// Node 0 leads; node 1 has version 1 of "a"; node 2 puts the next.
class RemoverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SetLogLevel(LogLevel::kOff);
    cluster_.emplace(3);
    CatalogNode::Result first;
    (*cluster_)[1].Put("a", false, &first);
    ASSERT_TRUE(cluster_->PassUntil([&] { return first.has_value(); }));
    ASSERT_OK(*first);
    object_ = (*first)->object;
    ASSERT_EQ((*first)->version, 1U);
  }

  void Remove(Removed* removed) {
    (*cluster_)[1].homes.Remove(object_, "a", /*remover=*/0,
                                [removed](const auto& status) { *removed = status; });
  }
  /// From another node, over a connection that was lost: `remover` names the request.
  Removed RemoveAgain(uint32_t remover) {
    flatbuffers::FlatBufferBuilder builder;
    const format::ObjectKey key = format::ToKey(object_);
    const auto body = format::CreateRetireRequestDirect(builder, &key, "a",
                                                        /*is_removal=*/true, remover);
    std::vector<uint8_t> request =
        format::FinishRequest(&builder, 1, format::Body::RetireRequest, body.Union());
    format::MarkRepeated(&request);
    const auto removed = std::make_shared<Removed>();
    (*cluster_)[1].homes.Handle(*format::GetMessage(request.data()),
                                [removed](const std::vector<uint8_t>& reply) {
                                  *removed =
                                      format::ToStatus(*format::GetMessage(reply.data()));
                                });
    EXPECT_TRUE(cluster_->PassUntil([&] { return removed->has_value(); }));
    return *removed;
  }
  void ExpectRemovedBySeven() {
    EXPECT_OK(*RemoveAgain(7));
    const Removed other = RemoveAgain(8);
    EXPECT_TRUE(IsStaleGeneration(*other)) << other->ToString();
  }
  /// Node `k` dies, and cannot touch the memory any more: so `told` was told.
  void SetOff(uint32_t k, uint32_t told = 1) {
    (*cluster_)[k].clock.Pause();
    const uint64_t incarnation = (*cluster_)[k].home->incarnation();
    region::Segment* own = &(*cluster_)[told].region->own_segment();
    region::StoreWithdrawn(own, {k}, incarnation);
    region::StoreCertifiedOff(own, {k}, incarnation);
  }
  /// Of what node 2 put.
  Removed RemoveAtNode2(const ObjectId& object) {
    const auto removed = std::make_shared<Removed>();
    (*cluster_)[2].homes.Remove(object, "a", /*remover=*/0,
                                [removed](const auto& status) { *removed = status; });
    EXPECT_TRUE(cluster_->PassUntil([&] { return removed->has_value(); }));
    return *removed;
  }
  void ExpectItStaysUntilNode1IsBack(const ObjectId& object) {
    const auto began = (*cluster_)[2].clock.Now();
    const Removed removed = RemoveAtNode2(object);
    EXPECT_LT((*cluster_)[2].clock.Now() - began, kRemovalPatience + kLatency);
    EXPECT_TRUE(IsNodeLost(*removed)) << removed->ToString();
    EXPECT_NE(removed->message().find("node 1 has an older version of 'a'"),
              std::string::npos)
        << removed->ToString();
    EXPECT_EQ(Find()->object, object);
    (*cluster_)[1].clock.Continue();
    ASSERT_TRUE(cluster_->PassUntil([&] { return !IsBound(); }));
    EXPECT_OK(*RemoveAtNode2(object));
    EXPECT_EQ(Find(), std::nullopt);
    (*cluster_)[0].clock.Pause();  // whoever leads next finds none either
    ASSERT_TRUE(cluster_->PassUntil([&] {
      return (*cluster_)[1].leadership.leader() != nullptr ||
             (*cluster_)[2].leadership.leader() != nullptr;
    }));
    EXPECT_EQ(Find(), std::nullopt);
  }
  /// At node 2: the next version.
  ObjectId Prepare(const std::string& name) {
    CatalogNode& node = (*cluster_)[2];
    Publisher::Request request;
    request.session = node.session;
    request.input.request = ++node.last_request;
    request.input.name = name;
    request.input.is_prepared = true;
    request.input.descriptor = DescribeRanges(
        *node.region, {{{{node.region->node().value}, node.grant.extent.offset}, 4096}});
    ObjectId prepared;
    node.publisher.Publish(
        request, [&](const auto& done) { prepared = done.ValueOrDie().object; });
    return prepared;
  }
  void Put(bool is_prepared, CatalogNode::Result* put) {
    if (!is_prepared) return (*cluster_)[2].Put("a", true, put, /*expected=*/1);
    Publisher::Request request;
    request.input.name = "a";
    request.replace = true;
    request.expected_version = 1;
    (*cluster_)[2].publisher.PublishPrepared(Prepare("a"), request,
                                             [put](const auto& done) { *put = done; });
  }
  std::optional<directory::Found> Find() {
    return directory::Lookup(*(*cluster_)[0].region, "a").ValueOrDie();
  }
  format::Slot Slot() {
    return directory::ReadSlot((*cluster_)[1].region->own_segment(), object_.slot)
        .ValueOrDie();
  }
  bool IsBound() {
    return Slot().state == static_cast<uint8_t>(format::LineState::kBound);
  }

  std::optional<TestCatalog> cluster_;
  ObjectId object_;
};

/// Whichever step of the put the removal meets, with a change of leader at any step or
/// with none: exactly one of them succeeds, and what is there then is what it left.
TEST_F(RemoverTest, OfAPutOfTheNextVersionAndTheRemovalExactlyOneSucceeds) {
  int removals = 0;
  int puts = 0;
  const auto meet = [&](bool is_prepared, bool leader_stops, int delay) {
    SetUp();
    CatalogNode::Result put;
    Removed removed;
    Put(is_prepared, &put);
    cluster_->Pass(milliseconds(delay));
    Remove(&removed);
    if (leader_stops) {
      cluster_->Pass(milliseconds(delay % 45));
      (*cluster_)[0].clock.Pause();
    }
    ASSERT_TRUE(
        cluster_->PassUntil([&] { return put.has_value() && removed.has_value(); }));
    (*cluster_)[0].clock.Continue();
    cluster_->Pass(seconds(10));
    EXPECT_NE(put->ok(), removed->ok())
        << is_prepared << ", after " << delay << " ms, " << leader_stops << ": "
        << put->status().ToString() << ", " << removed->ToString();
    EXPECT_EQ(Find().has_value(), put->ok()) << delay;
    removals += removed->ok();
    puts += put->ok();
  };
  for (const bool is_prepared : {false, true}) {
    for (const bool leader_stops : {false, true}) {
      for (int delay = 0; delay < 200; delay += 5) {
        meet(is_prepared, leader_stops, delay);
      }
    }
  }
  EXPECT_GT(removals, 0);
  EXPECT_GT(puts, 0);
}

/// Its home may stop for ever: then nothing is removed, and it can be replaced again.
TEST_F(RemoverTest, APutThatDoesNotGetOnKeepsTheTableAndIsNamed) {
  CatalogNode::Result put;
  (*cluster_)[2].Put("a", true, &put, /*expected=*/1);
  cluster_->Pass(3 * kLatency / 2);  // granted; not known at its home
  (*cluster_)[2].clock.Pause();
  Removed removed;
  Remove(&removed);
  EXPECT_NE(Slot().flags & format::kSlotLeaving, 0);
  ASSERT_TRUE(cluster_->PassUntil([&] { return removed.has_value(); }));
  EXPECT_TRUE(IsNodeLost(*removed)) << removed->ToString();
  EXPECT_NE(removed->message().find("node 2"), std::string::npos);
  EXPECT_TRUE(IsBound());
  EXPECT_EQ(Slot().flags & format::kSlotLeaving, 0);
  (*cluster_)[2].clock.Continue();
  ASSERT_TRUE(cluster_->PassUntil([&] { return put.has_value(); }));
  ASSERT_OK(*put);
}

/// What was granted, and given back, may stay where it is: its slot says nothing.
TEST_F(RemoverTest, APutThatIsGivenBackKeepsNoTable) {
  const ObjectId prepared = Prepare("a");
  std::optional<arrow::Result<directory::Version>> granted;
  (*cluster_)[2].catalog.RequestBind({"a", prepared, true, 1},
                                     [&](const auto& version) { granted = version; });
  ASSERT_TRUE(cluster_->PassUntil([&] { return granted.has_value(); }));
  ASSERT_OK(*granted);
  Removed removed;
  Remove(&removed);
  cluster_->Pass(3 * kLatency);
  EXPECT_EQ(removed, std::nullopt);
  (*cluster_)[2].publisher.Recover();
  ASSERT_TRUE(cluster_->PassUntil([&] { return removed.has_value(); }));
  EXPECT_OK(*removed);
}

/// A table that is decided, and not put yet: a removal that names it is none of its list.
TEST_F(RemoverTest, WhatIsPreparedIsDroppedNotRemoved) {
  const ObjectId prepared = Prepare("a");
  HomeClient& homes = (*cluster_)[2].homes;
  Removed removed;
  homes.Remove(prepared, "a", /*remover=*/7,
               [&](const auto& status) { removed = status; });
  ASSERT_TRUE(cluster_->PassUntil([&] { return removed.has_value(); }));
  EXPECT_TRUE(IsStaleGeneration(*removed)) << removed->ToString();
  EXPECT_OK((*cluster_)[2].home->directory().SetKept(prepared, true));
  Removed dropped;
  homes.Remove(prepared, "", /*remover=*/8,
               [&](const auto& status) { dropped = status; });
  ASSERT_TRUE(cluster_->PassUntil([&] { return dropped.has_value(); }));
  EXPECT_OK(*dropped);
}

/// Granted, and its home died before it knew: it stays prepared, and the name is free.
TEST_F(RemoverTest, WhatStaysPreparedHoldsNoName) {
  const ObjectId prepared = Prepare("b");
  std::optional<arrow::Result<directory::Version>> granted;
  (*cluster_)[2].catalog.RequestBind({"b", prepared, false, {}},
                                     [&](const auto& version) { granted = version; });
  ASSERT_TRUE(cluster_->PassUntil([&] { return granted.has_value(); }));
  ASSERT_OK(*granted);
  (*cluster_)[2].publisher.Recover();
  cluster_->Pass(3 * kLatency);
  CatalogNode::Result put;
  (*cluster_)[1].Put("b", false, &put);
  ASSERT_TRUE(cluster_->PassUntil([&] { return put.has_value(); }));
  EXPECT_OK(*put);
}

/// C9. Whoever remembers a version of it may live longer than the leader's memory, and
/// than that of the home.
TEST_F(RemoverTest, OthersKnowTheVersionThatWasRemoved) {
  const auto noted = [&](uint32_t node) {
    region::SegmentList one = {&(*cluster_)[node].region->own_segment()};
    return directory::ReadCatalogLines(one).removed_sequence;
  };
  Removed removed;
  uint32_t noted_by_home = 0;
  (*cluster_)[1].homes.Remove(object_, "a", /*remover=*/0, [&](const auto& status) {
    removed = status;
    noted_by_home = noted(1);
  });
  ASSERT_TRUE(cluster_->PassUntil([&] { return removed.has_value(); }));
  ASSERT_OK(*removed);
  EXPECT_EQ(noted_by_home, 1U);
  cluster_->Pass(milliseconds(100));
  EXPECT_EQ(noted(2), 1U);
}

/// Where the same is asked for twice, one of them did it.
TEST_F(RemoverTest, TwoWhoRemoveAreToldApart) {
  Removed first;
  Removed second;
  Remove(&first);
  Remove(&second);
  ASSERT_TRUE(
      cluster_->PassUntil([&] { return first.has_value() && second.has_value(); }));
  EXPECT_OK(*first);
  EXPECT_TRUE(IsStaleGeneration(*second)) << second->ToString();
  EXPECT_EQ(Find(), std::nullopt);
}

/// Its home died, and is off: what it stores no more holds nobody up.
TEST_F(RemoverTest, APutOfANodeThatIsOffIsOver) {
  CatalogNode::Result put;
  (*cluster_)[2].Put("a", true, &put, /*expected=*/1);
  cluster_->Pass(3 * kLatency / 2);  // granted; not known at its home
  Removed removed;
  Remove(&removed);
  SetOff(2);
  ASSERT_TRUE(cluster_->PassUntil([&] { return removed.has_value(); }));
  EXPECT_OK(*removed);
}

/// It won before: whoever leads next finds it.
TEST_F(RemoverTest, APutThatANodeDidBeforeItWasOffTakesItsPlace) {
  CatalogNode::Result put;
  (*cluster_)[2].Put("a", true, &put, /*expected=*/1);
  cluster_->Pass(3 * kLatency / 2);  // granted; not known at its home
  (*cluster_)[2].clock.Pause();
  Removed removed;
  Remove(&removed);
  cluster_->Pass(3 * kLatency / 2);  // the leader was asked; its answer is on its way
  (*cluster_)[2].clock.Continue();
  cluster_->Pass(kLatency / 10);
  using format::LineState;
  ASSERT_FALSE((*cluster_)[2].home->directory().ObjectsIn(LineState::kBound).empty());
  ASSERT_EQ(removed, std::nullopt);
  SetOff(2);
  ASSERT_TRUE(cluster_->PassUntil([&] { return removed.has_value(); }));
  EXPECT_TRUE(IsStaleGeneration(*removed)) << removed->ToString();
}

/// It would come back when the next leader looks, with what it held then.
TEST_F(RemoverTest, AVersionBeforeWhoseHomeIsAwayKeepsTheNext) {
  (*cluster_)[1].clock.Pause();
  CatalogNode::Result put;
  (*cluster_)[2].Put("a", true, &put);
  ASSERT_TRUE(cluster_->PassUntil([&] { return Find()->object != object_; }));
  EXPECT_EQ(put, std::nullopt);
  ExpectItStaysUntilNode1IsBack(Find()->object);
  ASSERT_TRUE(put.has_value());
  EXPECT_OK(*put);
}

/// A put that was granted the version before is visible after the leader was asked: it is
/// superseded, and its publisher is yet to hear of that.
TEST_F(RemoverTest, AVersionBeforeThatIsPutMeanwhileIsAwaited) {
  CatalogNode::Result before;
  (*cluster_)[2].Put("a", true, &before);
  cluster_->Pass(3 * kLatency / 2);  // granted; not known at its home
  (*cluster_)[2].clock.Pause();
  CatalogNode::Result put;
  (*cluster_)[1].Put("a", true, &put);
  ASSERT_TRUE(cluster_->PassUntil([&] { return put.has_value(); }));
  ASSERT_OK(*put);
  Removed removed;
  const auto remove = [&] {
    removed.reset();
    (*cluster_)[1].homes.Remove((*put)->object, "a", /*remover=*/0,
                                [&](const auto& status) { removed = status; });
  };
  remove();
  cluster_->Pass(3 * kLatency);  // answered; it waits for node 2
  ASSERT_EQ(removed, std::nullopt);
  (*cluster_)[1].clock.Pause();
  (*cluster_)[2].clock.Continue();
  const directory::HomeDirectory& there = (*cluster_)[2].home->directory();
  cluster_->Pass(kLatency / 10);
  ASSERT_FALSE(there.ObjectsIn(format::LineState::kBound).empty());
  (*cluster_)[2].clock.Pause();
  (*cluster_)[1].clock.Continue();
  ASSERT_TRUE(cluster_->PassUntil([&] { return removed.has_value(); }));
  EXPECT_TRUE(IsNodeLost(*removed)) << removed->ToString();
  EXPECT_EQ(Find()->object, (*put)->object);
  (*cluster_)[2].clock.Continue();
  ASSERT_TRUE(cluster_->PassUntil([&] { return before.has_value(); }));
  remove();
  ASSERT_TRUE(cluster_->PassUntil([&] { return removed.has_value(); }));
  EXPECT_OK(*removed);
  EXPECT_EQ(Find(), std::nullopt);
}

/// Whoever put the next version has ended since, or never heard of this one.
TEST_F(RemoverTest, AVersionBeforeThatNobodyRetiresGoesWithTheNext) {
  const ObjectId next = Prepare("a");
  directory::HomeDirectory& there = (*cluster_)[2].home->directory();
  ASSERT_OK(there.SetVersion(next, Slot().version_epoch, 2));
  ASSERT_OK(there.Bind(next));
  (*cluster_)[0].clock.Pause();
  ASSERT_TRUE(cluster_->PassUntil([&] {
    return (*cluster_)[1].leadership.leader() != nullptr ||
           (*cluster_)[2].leadership.leader() != nullptr;
  }));
  EXPECT_TRUE(IsBound());
  EXPECT_OK(*RemoveAtNode2(next));
  EXPECT_FALSE(IsBound());
  EXPECT_EQ(Find(), std::nullopt);
}

/// Nobody waits for a node that is off: neither the put nor the removal.
TEST_F(RemoverTest, AVersionBeforeAtANodeThatIsOffKeepsTheNext) {
  SetOff(1, 0);
  SetOff(1, 2);
  CatalogNode::Result put;
  (*cluster_)[2].Put("a", true, &put);
  ASSERT_TRUE(cluster_->PassUntil([&] { return put.has_value(); }));
  ASSERT_OK(*put);
  ExpectItStaysUntilNode1IsBack((*put)->object);
}

/// Its answer was lost, and a put of the next version won: the removal did not happen.
TEST_F(RemoverTest, ARemovalThatIsAskedAgainIsNotTakenForThePutThatWon) {
  for (const bool is_restarted : {false, true}) {
    SetUp();
    CatalogNode::Result put;
    Put(/*is_prepared=*/false, &put);
    ASSERT_TRUE(cluster_->PassUntil([&] { return put.has_value(); }));
    ASSERT_OK(*put);
    if (is_restarted) cluster_->Restart(1);
    const Removed again = RemoveAgain(/*remover=*/7);
    EXPECT_TRUE(IsStaleGeneration(*again)) << again->ToString();
    EXPECT_TRUE(Find().has_value());
  }
}

/// Its answer was lost: it did happen, by that request and by no other one, also where
/// its memory is free by now.
TEST_F(RemoverTest, ARemovalThatIsAskedAgainIsDoneIfItDidIt) {
  for (const bool is_restarted : {false, true}) {
    SetUp();
    Removed removed;
    (*cluster_)[1].homes.Remove(object_, "a", /*remover=*/7, [&](const auto& status) {
      removed = status;
      if (is_restarted) (*cluster_)[1].clock.Pause();  // before it frees anything
    });
    ASSERT_TRUE(cluster_->PassUntil([&] { return removed.has_value(); }));
    ASSERT_OK(*removed);
    if (is_restarted) cluster_->Restart(1);
    ExpectRemovedBySeven();
    (*cluster_)[1].reclaimer.Kick();
    ASSERT_TRUE(
        cluster_->PassUntil([&] { return (*cluster_)[1].home->num_retired() == 0; }));
    ExpectRemovedBySeven();
  }
}

/// The next daemon knows nothing but what is in memory: also once that is free, and
/// others are put.
TEST_F(RemoverTest, ARemovalOutlivesItsObjectAndTheDaemonsOfItsHome) {
  (*cluster_)[1].homes.Remove(object_, "a", /*remover=*/7, [](const auto&) {});
  ASSERT_TRUE(cluster_->PassUntil([&] {
    const directory::HomeDirectory& directory = (*cluster_)[1].home->directory();
    return directory.GetSlot(object_).status().IsKeyError();  // freed
  }));
  CatalogNode::Result put;
  (*cluster_)[1].Put("b", false, &put);
  ASSERT_TRUE(cluster_->PassUntil([&] { return put.has_value(); }));
  ASSERT_OK(*put);
  cluster_->Restart(1);
  ExpectRemovedBySeven();
}

}  // namespace
}  // namespace sheaf::daemon
