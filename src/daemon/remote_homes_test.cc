#include "daemon/remote_homes.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <arrow/status.h>

#include "daemon/pending_requests.h"
#include "daemon/scheduler.h"
#include "daemon/test_node.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using format::Body;

/// As transports do: a request that nobody answers fails at its deadline.
class SilentTransport : public Transport {
 public:
  explicit SilentTransport(Scheduler* scheduler) : requests_(scheduler) {}
  void Request(NodeId node, std::vector<uint8_t> message, ReplyCallback done) override {
    sent.push_back(message);
    requests_.Add(node, std::move(message), std::move(done));
  }
  void Serve(Handler) override {}
  const format::Message& Last() const { return *format::GetMessage(sent.back().data()); }
  /// \brief Of the last request.
  void Answer(const std::vector<uint8_t>& reply) { Answer(Last().request_id(), reply); }
  void Answer(uint64_t id, const std::vector<uint8_t>& reply) {
    requests_.Complete({1}, id, format::GetMessage(reply.data()));
  }

  std::vector<std::vector<uint8_t>> sent;

 private:
  PendingRequests requests_;
};

/// A session of node 0 asks the home of node 1.
class RemoteHomesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    nodes_ = MakeNodes(memory_.Config(), &clock_);
    session_ = nodes_[0]->OpenSession().ValueOrDie().id;
    remotes_ = std::make_unique<RemoteHomes>(nodes_[0].region.get(), nodes_[0].home.get(),
                                             &transport_, &clock_);
    Ask(remotes_.get(), session_);
    ASSERT_EQ(transport_.sent.size(), 1U);
  }
  void Ask(RemoteHomes* remotes, uint64_t session) {
    flatbuffers::FlatBufferBuilder inner;
    const auto returns = format::CreateReturnRequest(inner);
    const auto bytes =
        format::FinishRequest(&inner, 1, Body::ReturnRequest, returns.Union());
    flatbuffers::FlatBufferBuilder builder;
    const auto body = format::CreateHomeRequestDirect(builder, 1, &bytes);
    const auto message =
        format::FinishRequest(&builder, kRequest, Body::HomeRequest, body.Union());
    remotes->Handle(session, 0, *format::GetMessage(message.data()),
                    [this](std::vector<uint8_t> reply) { reply_ = std::move(reply); });
  }
  arrow::Status Outcome() const {
    return format::ToStatus(*format::GetMessage(reply_->data()));
  }
  void AnswerLast() {
    const auto inner = format::MakeOutcomeReply(kRequest, arrow::Status::OK());
    flatbuffers::FlatBufferBuilder builder;
    const auto body = format::CreateGuestReplyDirect(builder, &inner);
    transport_.Answer(format::FinishReply(&builder, transport_.Last().request_id(),
                                          Body::GuestReply, body.Union()));
  }

  static std::vector<uint8_t> IsLostReply(const std::vector<uint8_t>& request) {
    return format::MakeOutcomeReply(
        format::GetMessage(request.data())->request_id(),
        MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost, "try again"));
  }

  static constexpr uint64_t kRequest = 7;
  region::TestMemory memory_;
  FakeScheduler clock_;
  std::vector<TestNode> nodes_;
  SilentTransport transport_{&clock_};
  std::unique_ptr<RemoteHomes> remotes_;
  uint64_t session_ = 0;
  std::optional<std::vector<uint8_t>> reply_;
};

TEST_F(RemoteHomesTest, AHomeThatLivesIsAskedAgainUntilItAnswers) {
  for (size_t asked = 2; asked < 10; ++asked) {
    clock_.Advance(kRequestDeadline);
    EXPECT_FALSE(reply_.has_value());
    ASSERT_EQ(transport_.sent.size(), asked);
    EXPECT_TRUE(transport_.Last().is_repeated());
    const auto* guest = transport_.Last().body_as<format::GuestRequest>();
    ASSERT_NE(guest, nullptr);
    // The home knows it by this.
    const std::vector<uint8_t> bytes(guest->message()->begin(), guest->message()->end());
    EXPECT_EQ(format::GetMessage(bytes.data())->request_id(), kRequest);
  }
  AnswerLast();
  ASSERT_TRUE(reply_.has_value());
  EXPECT_OK(Outcome());
  clock_.Advance(2 * kRequestDeadline);
  EXPECT_EQ(transport_.sent.size(), 9U);
}

TEST_F(RemoteHomesTest, AHomeThatIsWithdrawnOrDownIsLost) {
  region::StoreWithdrawn(&nodes_[0].region->own_segment(), {1}, nodes_[1]->incarnation());
  clock_.Advance(kRequestDeadline);
  ASSERT_TRUE(reply_.has_value());
  EXPECT_TRUE(IsNodeLost(Outcome()));
  EXPECT_EQ(transport_.sent.size(), 1U);
}

/// Its memory is there, and this daemon has not looked for it since.
TEST_F(RemoteHomesTest, AHomeThatHasJustComeUpIsAsked) {
  region::TestMemory memory;
  const region::ClusterConfig config = memory.Config();
  ASSERT_OK(region::PrepareMemoryFolder(config));
  ASSERT_OK(region::FormatSegment(config, {0}));
  TestNode first;
  ASSERT_OK_AND_ASSIGN(
      first.region, region::Region::Attach(config, {{0}, region::Role::kDaemon, true}));
  first.Begin(&clock_);
  RemoteHomes remotes(first.region.get(), first.home.get(), &transport_, &clock_);
  const uint64_t session = first->OpenSession().ValueOrDie().id;
  Ask(&remotes, session);
  ASSERT_TRUE(reply_.has_value());
  EXPECT_TRUE(IsNodeLost(Outcome()));
  ASSERT_OK(region::FormatSegment(config, {1}));
  TestNode second;
  ASSERT_OK_AND_ASSIGN(
      second.region, region::Region::Attach(config, {{1}, region::Role::kDaemon, true}));
  second.Begin(&clock_);
  reply_.reset();
  Ask(&remotes, session);
  EXPECT_FALSE(reply_.has_value());
  EXPECT_EQ(transport_.sent.size(), 2U);
}

TEST_F(RemoteHomesTest, ARequestThatACensusHasPassedIsSentAgain) {
  const auto census_of = [](const std::vector<uint8_t>& bytes) {
    return format::GetMessage(bytes.data())->body_as<format::GuestRequest>()->census();
  };
  const std::vector<uint8_t> request = transport_.sent[0];
  const auto refuse = [&](const std::vector<uint8_t>& bytes) {
    transport_.Answer(format::GetMessage(bytes.data())->request_id(), IsLostReply(bytes));
  };
  remotes_->Refresh();
  ASSERT_EQ(transport_.sent.size(), 2U);
  const auto* census = transport_.Last().body_as<format::GuestsRequest>();
  ASSERT_NE(census, nullptr);
  EXPECT_LT(census_of(request), census->number());
  const uint64_t number = census->number();
  flatbuffers::FlatBufferBuilder builder;
  const auto nobody = format::CreateGuestsReply(builder);
  transport_.Answer(format::FinishReply(&builder, transport_.Last().request_id(),
                                        Body::GuestsReply, nobody.Union()));
  refuse(request);
  EXPECT_FALSE(reply_.has_value());
  ASSERT_EQ(transport_.sent.size(), 3U);
  EXPECT_TRUE(transport_.Last().is_repeated());
  EXPECT_EQ(census_of(transport_.sent[2]), number);
  refuse(transport_.sent[2]);  // no census has passed this one
  ASSERT_TRUE(reply_.has_value());
  EXPECT_TRUE(IsNodeLost(Outcome()));
  // It may have opened a guest: the home is told of its end.
  remotes_->OnSessionEnded();
  ASSERT_EQ(transport_.sent.size(), 4U);
  EXPECT_EQ(transport_.Last().body_type(), Body::GuestsRequest);
}

TEST_F(RemoteHomesTest, NobodyAsksForASessionThatHasEnded) {
  ASSERT_OK(nodes_[0]->EndSession(session_));
  clock_.Advance(kRequestDeadline);
  EXPECT_TRUE(reply_.has_value());
}

}  // namespace
}  // namespace sheaf::daemon
