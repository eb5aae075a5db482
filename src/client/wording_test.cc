#include "client/wording.h"

#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace sheaf::client {
namespace {

TEST(Wording, OfManyNumbersTheFirstAreSaid) {
  EXPECT_EQ(JoinNumbers({}), "");
  EXPECT_EQ(JoinNumbers({3, 7}), "3, 7");
  std::vector<uint32_t> many(18);
  std::iota(many.begin(), many.end(), 0U);
  EXPECT_EQ(JoinNumbers(many),
            "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 and 2 more");
}

TEST(Wording, SizesHaveOneDecimal) {
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(14'295'936), "13.6 MiB");
  EXPECT_EQ(HumanBytes(uint64_t{5000} << 40), "5000.0 TiB");
}

TEST(Wording, MissingPartsAreOneOrMany) {
  EXPECT_EQ(MissingParts({1}, 3), "part 1 of 3 is missing");
  EXPECT_EQ(MissingParts({1, 2}, 3), "parts 1, 2 of 3 are missing");
}

TEST(Wording, TimesAreThoseOfACalendar) {
  EXPECT_EQ(UtcTime(0), "1970-01-01 00:00:00 UTC");
  EXPECT_EQ(UtcTime(1'795'784'400'000'000'000), "2026-11-27 13:00:00 UTC");
  EXPECT_EQ(UtcTime(std::numeric_limits<int64_t>::max()), "2262-04-11 23:47:16 UTC");
}

}  // namespace
}  // namespace sheaf::client
