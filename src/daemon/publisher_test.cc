#include "daemon/publisher.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <gmock/gmock.h>

#include "base/check.h"
#include "daemon/catalog_client.h"
#include "daemon/foreign_leases.h"
#include "daemon/home_client.h"
#include "daemon/reclaimer.h"
#include "daemon/test_node.h"
#include "daemon/transport.h"
#include "format/layout.h"
#include "format/message.h"
#include "lease/lease.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using format::Body;

constexpr uint64_t kMiB = uint64_t{1} << 20;

/// Keeps requests until the test answers.
class FakeTransport : public Transport {
 public:
  struct Sent {
    NodeId node;
    std::vector<uint8_t> message;
    ReplyCallback done;
    const format::Message& Parse() const { return *format::GetMessage(message.data()); }
  };
  void Request(NodeId node, std::vector<uint8_t> message, ReplyCallback done) override {
    sent.push_back({node, std::move(message), std::move(done)});
  }
  void Serve(Handler) override {}

  /// \brief The oldest request, which must be of `type`.
  Sent Take(Body type) {
    SHEAF_CHECK(!sent.empty());
    Sent first = std::move(sent.front());
    sent.erase(sent.begin());
    EXPECT_EQ(first.Parse().body_type(), type);
    return first;
  }

  std::vector<Sent> sent;
};

// Node 1 publishes; the leader is node 0, which is the test.
class PublisherTest : public ::testing::Test {
 protected:
  void SetUp() override {
    nodes_ = MakeNodes(memory_.Config(), &clock_);
    region_ = nodes_[1].region.get();
    home_ = nodes_[1].home.get();
    ClaimEpoch(0, 1);
    catalog_ =
        std::make_unique<CatalogClient>(region_, [] { return nullptr; }, &transport_);
    reclaimer_ = std::make_unique<Reclaimer>(region_, home_, &transport_, &clock_);
    homes_ = std::make_unique<HomeClient>(region_, home_, catalog_.get(),
                                          reclaimer_.get(), &transport_, &clock_);
    publisher_ = std::make_unique<Publisher>(region_, home_, catalog_.get(), homes_.get(),
                                             &clock_);
    session_ = home_->OpenSession().ValueOrDie().id;
    grant_ = home_->Grant(session_, kMiB).ValueOrDie();
  }

  void Publish(const std::string& name, bool replace = false, uint64_t number = 0,
               bool repeated = false) {
    Publisher::Request request;
    request.session = session_;
    request.input.request = number;
    request.is_repeated = repeated;
    request.replace = replace;
    request.input.name = name;
    request.input.descriptor =
        DescribeRanges(*region_, {{{{1}, grant_.extent.offset}, 4096}});
    publisher_->Publish(request,
                        [this](const arrow::Result<Publisher::Published>& result) {
                          ASSERT_FALSE(result_.has_value()) << "answered twice";
                          result_ = result;
                        });
  }

  void AnswerBind(uint32_t epoch, uint32_t sequence) {
    const auto request = transport_.Take(Body::BindRequest);
    flatbuffers::FlatBufferBuilder builder;
    const auto body = format::CreateBindReply(builder, epoch, sequence);
    const auto reply = format::FinishReply(&builder, 1, Body::BindReply, body.Union());
    request.done(format::GetMessage(reply.data()));
  }

  void AnswerCommit(const std::vector<ObjectId>& superseded) {
    const auto request = transport_.Take(Body::CommitRequest);
    std::vector<format::ObjectKey> keys;
    for (const ObjectId& object : superseded) keys.push_back(format::ToKey(object));
    flatbuffers::FlatBufferBuilder builder;
    const auto body = format::CreateCommitReplyDirect(builder, &keys);
    const auto reply = format::FinishReply(&builder, 1, Body::CommitReply, body.Union());
    request.done(format::GetMessage(reply.data()));
  }

  void ClaimEpoch(uint32_t node, uint64_t epoch) {
    region::Segment& own = nodes_[node].region->own_segment();
    region::StoreControlWord(&own, own.NodeLine(format::NodeLine::kCatalogEpoch), epoch);
  }

  std::vector<ObjectId> In(format::LineState state) {
    return home_->directory().ObjectsIn(state);
  }

  region::TestMemory memory_;
  FakeScheduler clock_;
  std::vector<TestNode> nodes_;
  FakeTransport transport_;
  region::Region* region_ = nullptr;
  Home* home_ = nullptr;
  std::unique_ptr<CatalogClient> catalog_;
  std::unique_ptr<Reclaimer> reclaimer_;
  std::unique_ptr<HomeClient> homes_;
  std::unique_ptr<Publisher> publisher_;
  uint64_t session_ = 0;
  Granted grant_;
  std::optional<arrow::Result<Publisher::Published>> result_;
};

TEST_F(PublisherTest, AnUnnamedObjectNeedsNobody) {
  Publish("");
  ASSERT_TRUE(result_.has_value());
  ASSERT_OK(*result_);
  EXPECT_EQ((*result_)->version, 0);
  EXPECT_TRUE(transport_.sent.empty());
}

TEST_F(PublisherTest, TheNameIsGrantedBeforeTheObjectIsBoundAndCommittedAfter) {
  Publish("taxi");
  EXPECT_EQ(In(format::LineState::kSealed).size(), 1);
  AnswerBind(1, 5);
  EXPECT_EQ(In(format::LineState::kBound).size(), 1);
  EXPECT_FALSE(result_.has_value());
  AnswerCommit({});
  ASSERT_TRUE(result_.has_value());
  ASSERT_OK(*result_);
  EXPECT_EQ((*result_)->version, 5);
  const auto slot = home_->directory().GetSlot((*result_)->object).ValueOrDie();
  EXPECT_EQ(slot.version_epoch, 1);
  EXPECT_EQ(slot.version_sequence, 5);
}

TEST_F(PublisherTest, ADeniedNameUndoesEverything) {
  Publish("taxi");
  transport_.Take(Body::BindRequest).done(arrow::Status::AlreadyExists("taken"));
  ASSERT_TRUE(result_.has_value());
  ASSERT_RAISES(AlreadyExists, *result_);
  transport_.Take(Body::UnbindRequest);
  EXPECT_EQ(In(format::LineState::kRetired).size(), 1);
  clock_.Advance(kReclaimPeriodMin);
  EXPECT_EQ(home_->directory().num_objects(), 0);
  EXPECT_EQ(home_->space().ranges().open_bytes(), grant_.extent.size_bytes);
}

TEST_F(PublisherTest, AHigherEpochMeansBindingAgain) {
  Publish("taxi");
  ClaimEpoch(0, 2);
  AnswerBind(1, 5);
  EXPECT_TRUE(In(format::LineState::kBound).empty());
  AnswerBind(2, 1);
  AnswerCommit({});
  ASSERT_OK(*result_);
  EXPECT_EQ((*result_)->version, 1);
}

/// Its leader's memory must say so: a line that cannot be read might say more (C5).
TEST_F(PublisherTest, AnEpochThatNoLineHasBlocksThePublish) {
  Publish("taxi");
  ClaimEpoch(0, 0);
  AnswerBind(1, 5);
  clock_.Advance(publisher_->Patience() - std::chrono::seconds(1));
  EXPECT_FALSE(result_.has_value());
  EXPECT_TRUE(In(format::LineState::kBound).empty());
  clock_.Advance(std::chrono::seconds(2));
  ASSERT_TRUE(result_.has_value());
  EXPECT_TRUE(IsNodeLost(result_->status()));
  EXPECT_EQ(home_->directory().num_objects(), 0);
}

/// A leader that claims between the grant and the commit (C9): only the next one may say
/// what is superseded.
TEST_F(PublisherTest, AReplaceIsCommittedAtTheLeaderOfTheHighestEpoch) {
  Publish("taxi", /*replace=*/true);
  AnswerBind(1, 1);
  transport_.Take(Body::CommitRequest);  // Never answered.
  ClaimEpoch(0, 4);
  catalog_->Refresh();
  clock_.Advance(std::chrono::milliseconds(100));
  const auto request = transport_.Take(Body::CommitRequest);
  EXPECT_EQ(request.Parse().body_as<format::CommitRequest>()->leader_epoch(), 4);
  EXPECT_EQ(request.Parse().body_as<format::CommitRequest>()->epoch(), 1);
}

TEST_F(PublisherTest, LeadersThatNeverAgreeEndThePublish) {
  Publish("taxi");
  ClaimEpoch(0, 100);
  for (int i = 0; i < kBindsMax; ++i) AnswerBind(1, 5);
  ASSERT_TRUE(result_.has_value());
  ASSERT_RAISES(IOError, *result_);
  EXPECT_EQ(In(format::LineState::kRetired).size(), 1);
}

TEST_F(PublisherTest, TheVersionBeforeIsRetiredBeforeTheReply) {
  Publish("taxi");
  AnswerBind(1, 1);
  AnswerCommit({});
  const ObjectId first = (*result_)->object;
  result_.reset();
  Publish("taxi", /*replace=*/true);
  AnswerBind(1, 2);
  const ObjectId far{{0}, 3, 9};
  AnswerCommit({first, far});
  EXPECT_FALSE(result_.has_value());
  EXPECT_EQ(In(format::LineState::kRetired), std::vector<ObjectId>{first});
  transport_.Take(Body::UnbindRequest);
  const auto retire = transport_.Take(Body::RetireRequest);
  EXPECT_EQ(retire.node, NodeId{0});
  EXPECT_EQ(retire.Parse().body_as<format::RetireRequest>()->name()->str(), "taxi");
  retire.done(nullptr);
  ASSERT_OK(*result_);
  EXPECT_EQ((*result_)->version, 2);
}

/// A leader that claims anew sees it, and retires the version before: without both the
/// table would be lost.
TEST_F(PublisherTest, ANextVersionThatIsVisibleIsNotUndone) {
  Publish("taxi", /*replace=*/true);
  AnswerBind(1, 1);
  AnswerCommit({});
  const ObjectId first = (*result_)->object;
  result_.reset();
  const auto lose = [&] {
    transport_.Take(Body::CommitRequest)
        .done(MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost, "lost"));
    EXPECT_EQ(In(format::LineState::kBound).size(), 2);
  };
  Publish("taxi", /*replace=*/true);
  AnswerBind(1, 2);
  lose();
  EXPECT_FALSE(result_.has_value());
  clock_.Advance(publisher_->Patience() + std::chrono::seconds(1));
  lose();
  ASSERT_TRUE(result_.has_value());  // nobody waits for ever
  EXPECT_TRUE(IsNodeLost(result_->status()));
  clock_.Advance(std::chrono::seconds(1));
  AnswerCommit({first});
  EXPECT_EQ(In(format::LineState::kBound).size(), 1);
  EXPECT_EQ(In(format::LineState::kRetired), std::vector<ObjectId>{first});
}

/// The slot of a third version cannot be read while its home is down: it is visible, and
/// the version before is to go.
TEST_F(PublisherTest, ANextVersionThatCannotBeCommittedYetIsCommittedLater) {
  Publish("taxi", /*replace=*/true);
  AnswerBind(1, 1);
  AnswerCommit({});
  const ObjectId first = (*result_)->object;
  result_.reset();
  const auto refuse = [&] {
    transport_.Take(Body::CommitRequest).done(arrow::Status::IOError("slot 0:3 is busy"));
  };
  Publish("taxi", /*replace=*/true);
  AnswerBind(1, 2);
  refuse();
  ASSERT_FALSE(result_.has_value());
  clock_.Advance(publisher_->Patience() + std::chrono::seconds(1));
  refuse();
  ASSERT_RAISES(IOError, result_.value());
  EXPECT_THAT(result_->status().message(),
              ::testing::HasSubstr("version 2 of 'taxi' is there for all"));
  clock_.Advance(std::chrono::seconds(1));
  AnswerCommit({first});
  EXPECT_EQ(In(format::LineState::kRetired), std::vector<ObjectId>{first});
}

/// Model `restart`: the reply was lost, and somebody removed the table since.
TEST_F(PublisherTest, APutThatIsRepeatedWhenItsTableIsGoneIsNotDoneAgain) {
  Publish("taxi", /*replace=*/true, 7);
  AnswerBind(1, 5);
  AnswerCommit({});
  const ObjectId object = (*result_)->object;
  homes_->Retire(object, "taxi", [](const arrow::Status& status) { ASSERT_OK(status); });
  transport_.Take(Body::UnbindRequest);
  result_.reset();
  Publish("taxi", /*replace=*/true, 7, /*repeated=*/true);
  ASSERT_TRUE(result_.has_value());
  ASSERT_OK(*result_);
  EXPECT_EQ((*result_)->object, object);
  EXPECT_EQ((*result_)->version, 5);
  EXPECT_TRUE(transport_.sent.empty());
  EXPECT_TRUE(In(format::LineState::kBound).empty());
}

/// Visible for a moment, then undone: nobody is told later that it was done.
TEST_F(PublisherTest, APutThatFailedAfterItWasVisibleIsDoneAgainWhenRepeated) {
  Publish("taxi", /*replace=*/false, 7);
  AnswerBind(1, 5);
  const auto lose = [&] {
    transport_.Take(Body::CommitRequest)
        .done(MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost, "lost"));
  };
  lose();
  EXPECT_FALSE(result_.has_value());
  clock_.Advance(publisher_->Patience() + std::chrono::seconds(1));
  lose();
  EXPECT_TRUE(IsNodeLost(result_->status()));
  transport_.Take(Body::UnbindRequest);
  result_.reset();
  Publish("taxi", /*replace=*/false, 7, /*repeated=*/true);
  AnswerBind(1, 6);
  AnswerCommit({});
  ASSERT_OK(*result_);
  EXPECT_EQ((*result_)->version, 6);
}

/// C9: one that stayed Bound would never go, and come back when its successor goes.
TEST_F(PublisherTest, AVersionBeforeIsRetiredOnceItsHomeIsBack) {
  Publish("taxi", /*replace=*/true);
  AnswerBind(1, 2);
  AnswerCommit({{{0}, 3, 9}, {{0}, 4, 9}});
  const auto lose = [&] {
    transport_.Take(Body::RetireRequest)
        .done(MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost, "lost"));
  };
  transport_.Take(Body::RetireRequest).done(StaleObject({{0}, 3, 9}, "is gone"));
  lose();
  EXPECT_FALSE(result_.has_value());
  clock_.Advance(publisher_->Patience() + std::chrono::seconds(1));
  lose();
  ASSERT_TRUE(result_.has_value());  // nobody waits for ever
  EXPECT_TRUE(IsNodeLost(result_->status()));
  EXPECT_NE(
      result_->status().message().find("version 2, which is there for all: do not "),
      std::string::npos)
      << result_->status();
  clock_.Advance(std::chrono::seconds(1));
  transport_.Take(Body::RetireRequest).done(nullptr);
  clock_.Advance(std::chrono::seconds(10));
  EXPECT_TRUE(transport_.sent.empty());
}

/// C9, model `restart` (removewaits): with the version before still Bound, and that
/// home's or the leader's death, the name would be back.
TEST_F(PublisherTest, ARemoveWaitsUntilThePutHasRetiredTheVersionBefore) {
  const ObjectId before{{0}, 3, 9};
  std::optional<arrow::Status> removed;
  const auto put_and_remove = [&](uint32_t sequence) {
    Publish("taxi", /*replace=*/true);
    AnswerBind(1, sequence);
    const ObjectId object = In(format::LineState::kBound).back();
    AnswerCommit({before});
    homes_->Retire(object, "taxi",
                   [&](const arrow::Status& status) { removed = status; });
    EXPECT_FALSE(removed.has_value());
    EXPECT_EQ(In(format::LineState::kBound), std::vector<ObjectId>{object});
  };
  put_and_remove(2);
  transport_.Take(Body::RetireRequest).done(nullptr);
  ASSERT_OK(*result_);
  ASSERT_TRUE(removed.has_value());
  ASSERT_OK(*removed);
  transport_.Take(Body::UnbindRequest);

  removed.reset();
  result_.reset();
  put_and_remove(3);
  clock_.Advance(kHoldMax);  // that home may never be back
  ASSERT_TRUE(removed.has_value());
  ASSERT_OK(*removed);
  EXPECT_TRUE(In(format::LineState::kBound).empty());
}

/// A later put is over: this one retires itself, and waits for nobody.
TEST_F(PublisherTest, APutThatIsSupersededDoesNotWaitForItself) {
  Publish("taxi", /*replace=*/true);
  AnswerBind(1, 2);
  AnswerCommit({In(format::LineState::kBound).front()});
  ASSERT_TRUE(result_.has_value());
  ASSERT_OK(*result_);
  EXPECT_TRUE(In(format::LineState::kBound).empty());
}

/// Its home died while it was being put: nobody knows whether the version before is gone.
TEST_F(PublisherTest, ARemoveWaitsUntilATableOfAFormerLifeIsCommittedAgain) {
  Publish("taxi");
  AnswerBind(1, 5);
  AnswerCommit({});
  publisher_->Recover();
  std::optional<arrow::Status> removed;
  homes_->Retire((*result_)->object, "taxi",
                 [&](const arrow::Status& status) { removed = status; });
  EXPECT_FALSE(removed.has_value());
  AnswerCommit({});
  ASSERT_TRUE(removed.has_value());
  ASSERT_OK(*removed);
}

/// Two objects of another home, of which one goes while the seal waits for that home's
/// word on the other: what was sure once would be asked for again, in turns.
TEST_F(PublisherTest, WhatASealIsSureOfStaysSoWhileItWaits) {
  Home* const far = nodes_[0].home.get();
  const uint64_t writer = far->OpenSession().ValueOrDie().id;
  const Granted grant = far->Grant(writer, kMiB).ValueOrDie();
  std::vector<GlobalRange> ranges;
  std::vector<ObjectId> objects;
  for (const uint64_t offset : {0, 4096}) {
    ranges.push_back({{{0}, grant.extent.offset + offset}, 4096});
    SealInput input;
    input.descriptor = DescribeRanges(*nodes_[0].region, {ranges.back()});
    objects.push_back(far->Seal(writer, input).ValueOrDie());
  }
  ASSERT_OK(far->Retire(objects[0], ""));
  Publisher::Request request;
  request.session = session_;
  request.input.descriptor = DescribeRanges(*region_, ranges);
  request.input.parents = objects;
  publisher_->Publish(request, [this](const auto& result) { result_ = result; });
  const auto asked = transport_.Take(Body::FlushPagesRequest);
  ASSERT_OK(far->Retire(objects[1], ""));
  EXPECT_EQ(far->Reclaim().ValueOrDie(), 0);  // the seal's cells
  const auto answer = format::MakeOutcomeReply(1, arrow::Status::OK());
  asked.done(format::GetMessage(answer.data()));
  ASSERT_TRUE(result_.has_value()) << "asks again";
  ASSERT_OK(result_->status());
  EXPECT_EQ(home_->num_foreign_leases(), 2);
  ASSERT_OK(home_->Retire((*result_)->object, ""));
  ASSERT_OK(home_->Reclaim());
  EXPECT_EQ(home_->num_foreign_leases(), 0);
}

/// One that is refused in the end holds nothing.
TEST_F(PublisherTest, ASealWhoseHomesDoNotAnswerLetsGoOfAll) {
  Home* const far = nodes_[0].home.get();
  const uint64_t writer = far->OpenSession().ValueOrDie().id;
  const Granted grant = far->Grant(writer, kMiB).ValueOrDie();
  Publisher::Request request;
  request.session = session_;
  std::vector<GlobalRange> ranges;
  for (const uint64_t offset : {0, 4096}) {
    ranges.push_back({{{0}, grant.extent.offset + offset}, 4096});
    SealInput input;
    input.descriptor = DescribeRanges(*nodes_[0].region, {ranges.back()});
    request.input.parents.push_back(far->Seal(writer, input).ValueOrDie());
  }
  request.input.descriptor = DescribeRanges(*region_, ranges);
  ASSERT_OK(far->Retire(request.input.parents[0], ""));
  publisher_->Publish(request, [this](const auto& result) { result_ = result; });
  EXPECT_EQ(home_->num_foreign_leases(), 2);
  transport_.Take(Body::FlushPagesRequest)
      .done(MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost, "gone"));
  ASSERT_TRUE(result_.has_value());
  EXPECT_TRUE(IsStaleGeneration(result_->status()));
  EXPECT_EQ(home_->num_foreign_leases(), 0);
}

TEST_F(PublisherTest, RetiredObjectsAreScannedForLessAndLessOften) {
  ASSERT_OK_AND_ASSIGN(const ObjectId object, home_->Seal(session_, [&] {
    SealInput input;
    input.descriptor = DescribeRanges(*region_, {{{{1}, grant_.extent.offset}, 4096}});
    return input;
  }()));
  const uint64_t reader = nodes_[0]->OpenSession().ValueOrDie().id;
  lease::CellTable cells(&nodes_[0].region->own_segment(), {},
                         [&] { return nodes_[0]->AddLeasePage(reader); });
  ASSERT_OK_AND_ASSIGN(const lease::Cell cell, cells.Write(object));
  homes_->Retire(object, "", [](const arrow::Status& status) { ASSERT_OK(status); });
  EXPECT_EQ(clock_.num_waiting(), 1);
  clock_.Advance(std::chrono::seconds(20));
  EXPECT_EQ(home_->num_retired(), 1);
  EXPECT_EQ(clock_.num_waiting(), 1);  // However many scans there were.
  cells.Clear(cell);
  clock_.Advance(kReclaimPeriodMax);
  EXPECT_EQ(home_->num_retired(), 0);
  EXPECT_EQ(clock_.num_waiting(), 0);
}

}  // namespace
}  // namespace sheaf::daemon
