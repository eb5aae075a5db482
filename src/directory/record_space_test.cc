#include "directory/record_space.h"

#include <cstdint>
#include <iterator>
#include <map>

#include <arrow/status.h>
#include <gtest/gtest.h>

#include "base/math.h"
#include "directory/test_records.h"
#include "testing/arrow_test.h"
#include "testing/test_seed.h"

namespace sheaf::directory {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

arrow::Status Granted(uint64_t /*offset*/, uint64_t /*size*/) {
  return arrow::Status::OK();
}

TEST(RecordSpace, TakesTheSmallestBlockThatFits) {
  RecordSpace space(kMiB, Granted);
  ASSERT_OK_AND_ASSIGN(const uint64_t large, space.Allocate(4096));
  ASSERT_OK(space.Allocate(1));
  ASSERT_OK_AND_ASSIGN(const uint64_t small, space.Allocate(512));
  ASSERT_OK(space.Allocate(1));
  space.Free(large, 4096);
  space.Free(small, 512);
  ASSERT_OK_AND_ASSIGN(const uint64_t again, space.Allocate(300));
  EXPECT_EQ(again, small);
}

TEST(RecordSpace, AllocatesMemoryBeforeItGivesItOut) {
  uint64_t allocated = 0;
  RecordSpace space(4 * kMiB, [&](uint64_t offset, uint64_t size) {
    EXPECT_EQ(offset, allocated);
    allocated = offset + size;
    return arrow::Status::OK();
  });
  for (int i = 0; i < 3000; ++i) {
    ASSERT_OK_AND_ASSIGN(const uint64_t offset, space.Allocate(1000));
    EXPECT_LE(offset + 1000, allocated);
  }
}

TEST(RecordSpace, NothingChangesWhenMemoryIsNotThere) {
  bool is_full = true;
  RecordSpace space(4 * kMiB, [&](uint64_t, uint64_t) {
    return is_full ? arrow::Status::OutOfMemory("full") : arrow::Status::OK();
  });
  const uint64_t free_bytes = space.free_bytes();
  EXPECT_RAISES(OutOfMemory, space.Allocate(1));
  EXPECT_EQ(space.free_bytes(), free_bytes);
  is_full = false;
  EXPECT_OK(space.Allocate(4 * kMiB));
  EXPECT_RAISES(CapacityError, space.Allocate(1));
  EXPECT_RAISES(CapacityError, space.Allocate(~uint64_t{0}));
}

TEST(RecordSpace, RefusesRangesThatOverlapOrLieOutside) {
  RecordSpace space(kMiB, Granted);
  EXPECT_OK(space.Reserve(512, 300));
  EXPECT_RAISES(Invalid, space.Reserve(768, 1));
  EXPECT_RAISES(Invalid, space.Reserve(256, 257));
  EXPECT_RAISES(Invalid, space.Reserve(100, 1));
  EXPECT_RAISES(Invalid, space.Reserve(0, 0));
  EXPECT_RAISES(Invalid, space.Reserve(kMiB, 256));
  EXPECT_RAISES(Invalid, space.Reserve(~uint64_t{255}, 512));
  EXPECT_OK(space.Reserve(0, 512));
  EXPECT_OK(space.Reserve(kMiB - 256, 256));
  EXPECT_OK(space.Reserve(1024, kMiB - 1024 - 256));
  EXPECT_EQ(space.free_bytes(), 0U);
}

TEST(RecordSpace, AgreesWithAPlainModel) {
  Numbers numbers(testing::TestSeed());
  RecordSpace space(kMiB, Granted);
  std::map<uint64_t, uint64_t> used;  // offset -> size asked for
  uint64_t used_bytes = 0;
  for (int i = 0; i < 20'000; ++i) {
    if (numbers.Below(100) < 55 || used.empty()) {
      const uint64_t size = 1 + numbers.Below(20'000);
      const auto offset = space.Allocate(size);
      if (!offset.ok()) continue;
      const auto next = used.lower_bound(*offset);
      if (next != used.end()) {
        ASSERT_LE(*offset + size, next->first);
      }
      if (next != used.begin()) {
        const auto previous = std::prev(next);
        ASSERT_LE(previous->first + previous->second, *offset);
      }
      used.emplace(*offset, size);
      used_bytes += RoundUp(size, 256);
    } else {
      auto victim = used.lower_bound(numbers.Below(kMiB));
      if (victim == used.end()) victim = used.begin();
      space.Free(victim->first, victim->second);
      used_bytes -= RoundUp(victim->second, 256);
      used.erase(victim);
    }
    ASSERT_EQ(space.free_bytes(), kMiB - used_bytes);
  }
  RecordSpace rebuilt(kMiB, Granted);
  for (const auto& [offset, size] : used) ASSERT_OK(rebuilt.Reserve(offset, size));
  EXPECT_EQ(rebuilt.free_bytes(), space.free_bytes());
  for (const auto& [offset, size] : used) rebuilt.Free(offset, size);
  EXPECT_OK(rebuilt.Allocate(kMiB));  // All of it coalesced.
}

}  // namespace
}  // namespace sheaf::directory
