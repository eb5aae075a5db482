// What a home makes of late words of another node about its sessions.

#include "daemon/guest_server.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include <arrow/status.h>
#include <gtest/gtest.h>

#include "daemon/membership_client.h"
#include "daemon/session_service.h"
#include "daemon/test_catalog.h"
#include "format/message.h"
#include "sheaf/status.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using format::Body;

/// Node 0 is the home; the test speaks for node 1.
class GuestServerTest : public ::testing::Test {
 protected:
  void SetUp() override { cluster_.Pass(std::chrono::milliseconds(500)); }

  arrow::Status Say(Body type, flatbuffers::FlatBufferBuilder* builder,
                    flatbuffers::Offset<void> body) {
    const auto bytes = format::FinishRequest(builder, ++last_message_, type, body);
    std::optional<arrow::Status> answer;
    EXPECT_TRUE(server_.Handle(
        {1}, *format::GetMessage(bytes.data()), [&](const std::vector<uint8_t>& reply) {
          answer = format::ToStatus(*format::GetMessage(reply.data()));
        }));
    return answer.value_or(arrow::Status::UnknownError("no answer"));
  }
  arrow::Status Census(uint64_t number, uint64_t last, std::vector<uint64_t> alive) {
    flatbuffers::FlatBufferBuilder builder;
    const auto body = format::CreateGuestsRequestDirect(
        builder, guests_.home->incarnation(), guests_.home->format_epoch(), last, &alive,
        /*settled=*/nullptr, number);
    return Say(Body::GuestsRequest, &builder, body.Union());
  }
  arrow::Status AskForMemory(uint64_t session, uint64_t last_census) {
    flatbuffers::FlatBufferBuilder inner;
    const auto grant = format::CreateGrantRequest(inner, 4096).Union();
    const auto bytes = format::FinishRequest(&inner, 1, Body::GrantRequest, grant);
    flatbuffers::FlatBufferBuilder builder;
    const auto body = format::CreateGuestRequestDirect(
        builder, guests_.home->incarnation(), guests_.home->format_epoch(), session,
        /*user_id=*/0, &bytes, last_census);
    return Say(Body::GuestRequest, &builder, body.Union());
  }

  TestCatalog cluster_{2};
  CatalogNode& home_ = cluster_[0];
  CatalogNode& guests_ = cluster_[1];
  MembershipClient members_{home_.region, &home_.membership, &home_.reclaimer, &home_,
                            /*arbiter=*/nullptr};
  SessionService service_{home_.home, &home_.homes, &members_, &home_.publisher,
                          &home_.reclaimer};
  GuestServer server_{home_.region, home_.home, &home_.membership, &service_,
                      &home_.reclaimer};
  uint64_t last_message_ = 0;
};

TEST_F(GuestServerTest, AnOlderCensusThatComesLateIsRefused) {
  ASSERT_OK(AskForMemory(10, 6));
  ASSERT_OK(Census(7, /*last=*/20, {10}));
  EXPECT_TRUE(IsStaleGeneration(AskForMemory(12, 6)));  // over
  EXPECT_TRUE(IsStaleGeneration(Census(6, /*last=*/11, {10})));
  EXPECT_TRUE(IsStaleGeneration(AskForMemory(12, 6)));
  ASSERT_OK(Census(7, /*last=*/20, {10}));  // the same, once more
  ASSERT_OK(Census(8, /*last=*/21, {10, 21}));
  ASSERT_OK(AskForMemory(21, 8));
  EXPECT_EQ(home_.home->guests().size(), 2U);
}

TEST_F(GuestServerTest, ARequestThatIsOlderThanACensusOpensNoGuest) {
  ASSERT_OK(Census(7, /*last=*/20, {10}));
  EXPECT_TRUE(IsNodeLost(AskForMemory(10, 6)));
  EXPECT_EQ(home_.home->guests().size(), 0U);
  ASSERT_OK(AskForMemory(10, 7));
  EXPECT_EQ(home_.home->guests().size(), 1U);
}

/// Its count is kept twice; with both lost it is another incarnation all the same.
TEST_F(GuestServerTest, ANextIncarnationMayCountAnew) {
  ASSERT_OK(AskForMemory(10, 6));
  ASSERT_OK(Census(7, /*last=*/20, {10}));
  guests_.home->SetIncarnation(guests_.lines.NextIncarnation());
  EXPECT_TRUE(IsNodeLost(Census(8, /*last=*/20, {10})));  // not honoured yet
  cluster_.Pass(std::chrono::milliseconds(500));
  ASSERT_OK(AskForMemory(10, 1));
  ASSERT_OK(Census(1, /*last=*/20, {10}));
  EXPECT_TRUE(IsNodeLost(AskForMemory(10, 0)));
}

}  // namespace
}  // namespace sheaf::daemon
