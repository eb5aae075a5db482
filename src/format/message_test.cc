#include "format/message.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <arrow/status.h>
#include <gtest/gtest.h>

#include "sheaf/status.h"
#include "testing/arrow_test.h"

namespace sheaf::format {
namespace {

arrow::Status RoundTrip(const arrow::Status& status, size_t size_max) {
  const std::vector<uint8_t> reply = MakeOutcomeReply(7, status);
  EXPECT_LE(reply.size(), size_max);
  const auto message = ParseMessage(reply);
  EXPECT_OK(message);
  return ToStatus(**message);
}

TEST(Outcome, KeepsCodeReasonAndText) {
  EXPECT_OK(RoundTrip(arrow::Status::OK(), 200));
  const arrow::Status stale = RoundTrip(
      MakeStatus(arrow::StatusCode::KeyError, ErrorReason::kStaleGeneration, "gone"),
      200);
  EXPECT_TRUE(stale.IsKeyError() && IsStaleGeneration(stale)) << stale;
  EXPECT_EQ(stale.message(), "gone");
  EXPECT_TRUE(RoundTrip(arrow::Status::AlreadyExists("there"), 200).IsAlreadyExists());
}

// #4: a number that is no code went through as one.
TEST(Outcome, CodesThatAreNoneAreInvalid) {
  for (const uint32_t number : {12U, 44U, 46U, 127U, 128U, 200U, 255U}) {
    const auto code = static_cast<uint8_t>(number);
    flatbuffers::FlatBufferBuilder builder;
    const auto text = builder.CreateString("what");
    const auto outcome = CreateOutcome(builder, code, 0, text);
    const auto body = CreateEmpty(builder).Union();
    MessageBuilder message(builder);
    message.add_is_reply(true);
    message.add_outcome(outcome);
    message.add_body_type(Body::Empty);
    message.add_body(body);
    builder.Finish(message.Finish());
    ASSERT_OK_AND_ASSIGN(const Message* reply, ParseMessage(builder.GetBufferSpan()));
    const arrow::Status status = ToStatus(*reply);
    EXPECT_RAISES(Invalid, status) << number;
    EXPECT_EQ(status.message(),
              "reply with status code " + std::to_string(number) + ": what");
  }
}

/// A field may have a name of megabytes, and an error that quotes it is an error still.
TEST(Outcome, LongTextIsCutBetweenCharacters) {
  for (size_t shift = 0; shift < 3; ++shift) {
    std::string text(shift, 'x');
    while (text.size() < 3'000'000) text += "\xE2\x82\xAC";  // A euro sign.
    const arrow::Status status = RoundTrip(arrow::Status::Invalid(text), 8192);
    ASSERT_RAISES(Invalid, status);
    const std::string cut = status.message();
    ASSERT_TRUE(cut.ends_with("\xAC ...")) << cut.size();
    EXPECT_EQ(text.substr(0, cut.size() - 4), cut.substr(0, cut.size() - 4));
    EXPECT_GT(cut.size(), 4000U);
  }
}

TEST(Request, IsMarkedAsRepeatedInPlace) {
  flatbuffers::FlatBufferBuilder builder;
  const auto body = CreateGrantRequest(builder, 4096).Union();
  std::vector<uint8_t> request = FinishRequest(&builder, 9, Body::GrantRequest, body);
  ASSERT_OK_AND_ASSIGN(const Message* message, ParseMessage(request));
  EXPECT_FALSE(message->is_repeated());
  MarkRepeated(&request);
  ASSERT_OK_AND_ASSIGN(message, ParseMessage(request));
  EXPECT_TRUE(message->is_repeated());
  EXPECT_EQ(message->request_id(), 9);
  EXPECT_EQ(message->body_as_GrantRequest()->size_bytes(), 4096);
}

}  // namespace
}  // namespace sheaf::format
