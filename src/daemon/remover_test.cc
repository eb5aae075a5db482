#include "daemon/remover.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "daemon/log.h"
#include "daemon/test_catalog.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "format/layout.h"
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
    (*cluster_)[1].homes.Remove(object_, "a",
                                [removed](const auto& status) { *removed = status; });
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
  (*cluster_)[1].homes.Remove(object_, "a", [&](const auto& status) {
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

}  // namespace
}  // namespace sheaf::daemon
