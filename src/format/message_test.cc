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

}  // namespace
}  // namespace sheaf::format
