// Lists of parts and arrivals: their bytes, and what is found in them.

#include "client/staging.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "testing/arrow_test.h"

namespace sheaf::client {
namespace {

using ::testing::ElementsAre;

Staging MakeStaging() {
  Staging staging{7, 4, true, 1'700'000'000'000'000'000, {}};
  staging.Add({2, 30, {{1}, 5, 77}});
  staging.Add({0, 10, {{0}, 6, 78}});
  return staging;
}

TEST(Staging, IsReadAsItWasWritten) {
  const Staging staging = MakeStaging();
  ASSERT_OK_AND_ASSIGN(const Staging again, DecodeStaging(EncodeStaging(staging)));
  EXPECT_EQ(again, staging);
  EXPECT_THAT(again.Missing(), ElementsAre(1U, 3U));
  ASSERT_NE(again.Find(2), nullptr);
  EXPECT_EQ(again.Find(2)->num_rows, 30);
  EXPECT_EQ(again.Find(1), nullptr);
  EXPECT_EQ(again.entries.front().index, 0U);
}

TEST(Staging, BytesThatAreNoListAreRefused) {
  const std::string bytes = EncodeStaging(MakeStaging());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_RAISES(Invalid, DecodeStaging(std::string_view(bytes).substr(0, size)));
  }
  EXPECT_RAISES(Invalid, DecodeStaging(bytes + "x"));
  Staging wrong = MakeStaging();
  wrong.entries[1].index = 0;  // twice
  EXPECT_RAISES(Invalid, DecodeStaging(EncodeStaging(wrong)));
  wrong.entries[1].index = 4;  // of 4
  EXPECT_RAISES(Invalid, DecodeStaging(EncodeStaging(wrong)));
  wrong = MakeStaging();
  wrong.entries[0].num_rows = -1;
  EXPECT_RAISES(Invalid, DecodeStaging(EncodeStaging(wrong)));
  wrong = MakeStaging();
  wrong.entries[0].object.segment.value = ~uint32_t{0};
  EXPECT_RAISES(Invalid, DecodeStaging(EncodeStaging(wrong)));
  wrong = MakeStaging();
  wrong.state = StagingState::kComplete;
  wrong.manifest = StagedManifest{{{0}, 7, 79}, 0};
  EXPECT_RAISES(Invalid, DecodeStaging(EncodeStaging(wrong)));  // two of four
  wrong.of = 3;
  wrong.Add({1, 20, {{0}, 8, 80}});
  EXPECT_OK(DecodeStaging(EncodeStaging(wrong)).status());
  wrong = MakeStaging();
  wrong.id = 0;
  EXPECT_RAISES(Invalid, DecodeStaging(EncodeStaging(wrong)));
}

TEST(Staging, LeftoversAreReadAsTheyWereWritten) {
  Staging staging = MakeStaging();
  staging.leftovers = {{{1}, 5, 77}, {{2}, 0, 78}};
  EXPECT_FALSE(staging.IsOnlyLeftovers());
  const std::string bytes = EncodeStaging(staging);
  ASSERT_OK_AND_ASSIGN(const Staging again, DecodeStaging(bytes));
  EXPECT_EQ(again, staging);
  for (const size_t cut : {1, 8, 15, 17}) {
    EXPECT_RAISES(Invalid,
                  DecodeStaging(std::string_view(bytes).substr(0, bytes.size() - cut)));
  }
  staging.state = StagingState::kOver;
  staging.entries.clear();
  EXPECT_TRUE(staging.IsOnlyLeftovers());
  staging.leftovers[1].segment.value = ~uint32_t{0};
  EXPECT_RAISES(Invalid, DecodeStaging(EncodeStaging(staging)));
}

TEST(Staging, NamesOfItsOwnAreNoTables) {
  EXPECT_RAISES(Invalid, CheckTableName(PartsName("t")));
  EXPECT_RAISES(Invalid, CheckTableName(BarrierName("b")));
  EXPECT_OK(CheckTableName("~sheaf"));
  EXPECT_OK(CheckTableName("sheaf/parts/t"));
}

}  // namespace
}  // namespace sheaf::client
