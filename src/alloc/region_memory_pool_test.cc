#include "alloc/region_memory_pool.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "alloc/extent_source.h"
#include "alloc/range.h"
#include "base/math.h"
#include "format/layout.h"
#include "testing/arena_extent_source.h"
#include "testing/arrow_test.h"

namespace sheaf::alloc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kMiB = 1 << 20;
constexpr uint64_t kUnit = format::kExtentBytes;

class RegionMemoryPoolTest : public ::testing::Test {
 protected:
  uint8_t* Allocate(int64_t size, int64_t alignment = 64) {
    uint8_t* address = nullptr;
    EXPECT_OK(pool_.Allocate(size, alignment, &address));
    EXPECT_TRUE(arena_.Contains(address, static_cast<uint64_t>(size)));
    return address;
  }

  uint8_t* Reallocate(uint8_t* address, int64_t old_size, int64_t new_size) {
    EXPECT_OK(pool_.Reallocate(old_size, new_size, &address));
    EXPECT_TRUE(arena_.Contains(address, static_cast<uint64_t>(new_size)));
    return address;
  }

  // As a publish does: the home seals these bytes, then the pool hears of it.
  std::vector<Range> Seal(const uint8_t* address, int64_t size) {
    std::vector<Range> ranges = {arena_.GranulesOf(address, static_cast<uint64_t>(size))};
    EXPECT_OK(arena_.AddReference(ranges));
    pool_.MarkSealed(ranges);
    return ranges;
  }

  void ExpectNothingHeld() {
    pool_.ReturnUnused(false);
    EXPECT_EQ(pool_.bytes_allocated(), 0);
    EXPECT_EQ(pool_.held_bytes(), 0);
    EXPECT_EQ(arena_.num_outstanding(), 0);
  }

  static constexpr uint64_t kArenaBytes = uint64_t{256} << 20;
  sheaf::testing::ArenaExtentSource arena_{kArenaBytes};
  RegionMemoryPool pool_{&arena_};
};

// As a home that does not answer.
class NoSource : public ExtentSource {
 public:
  arrow::Result<Extent> Acquire(uint64_t /*size_bytes*/,
                                uint64_t /*wish_bytes*/) override {
    return arrow::Status::IOError("node 1 does not answer");
  }
  arrow::Status Return(const Extent& /*extent*/) override {
    return arrow::Status::Invalid("nothing was taken");
  }
};

TEST(RegionMemoryPool, AnErrorThatHasNothingToDoWithTheSizeDoesNotNameIt) {
  NoSource source;
  RegionMemoryPool pool(&source);
  uint8_t* none = nullptr;
  EXPECT_EQ(pool.Allocate(kMiB, 64, &none).message(), "node 1 does not answer");
}

TEST_F(RegionMemoryPoolTest, AddressesAreAligned) {
  std::vector<std::pair<uint8_t*, int64_t>> live;
  for (const int64_t alignment : {1, 64, 128, 256, 512, 1024, 4096}) {
    for (const int64_t size : {1, 100, 4096, 100'000, 3'000'000}) {
      uint8_t* const address = Allocate(size, alignment);
      EXPECT_TRUE(IsAligned(reinterpret_cast<uintptr_t>(address),
                            std::max<uint64_t>(64, static_cast<uint64_t>(alignment))));
      live.emplace_back(address, size);
    }
  }
  for (const auto& [address, size] : live) pool_.Free(address, size);
  ExpectNothingHeld();
}

TEST_F(RegionMemoryPoolTest, RefusesBadArguments) {
  uint8_t* address = Allocate(64);
  uint8_t* const before = address;
  uint8_t* none = nullptr;
  EXPECT_RAISES(Invalid, pool_.Allocate(-1, &none));
  EXPECT_RAISES(Invalid, pool_.Reallocate(64, -1, &address));
  for (const int64_t alignment : {0, -64, 48, 8192}) {
    EXPECT_RAISES(Invalid, pool_.Allocate(1, alignment, &none));
    EXPECT_RAISES(Invalid, pool_.Reallocate(64, 128, alignment, &address));
  }
  EXPECT_EQ(address, before);
  EXPECT_EQ(pool_.num_allocations(), 1);
  pool_.Free(address, 64);
}

TEST_F(RegionMemoryPoolTest, SizeZeroIsAnAddressInTheRegionBeforeAnyOther) {
  uint8_t* const first = Allocate(0);
  ASSERT_NE(first, nullptr);
  EXPECT_TRUE(arena_.Contains(first, 1));
  EXPECT_TRUE(IsAligned(reinterpret_cast<uintptr_t>(first), 64));
  for (int i = 0; i < 100'000; ++i) ASSERT_EQ(Allocate(0, 4096), first);
  EXPECT_EQ(arena_.num_outstanding(), 1);
  EXPECT_NE(Allocate(1), first);
  pool_.Free(first + 256, 1);
  for (int i = 0; i < 100'001; ++i) pool_.Free(first, 0);
  ExpectNothingHeld();
}

TEST_F(RegionMemoryPoolTest, ReallocateToAndFromZero) {
  uint8_t* address = Allocate(1000);
  address = Reallocate(address, 1000, 0);
  ASSERT_NE(address, nullptr);
  EXPECT_EQ(pool_.bytes_allocated(), 0);
  address = Reallocate(address, 0, 5000);
  std::memset(address, 1, 5000);
  address = Reallocate(address, 5000, 0);
  address = Reallocate(address, 0, 0);
  pool_.Free(address, 0);
  ExpectNothingHeld();
}

TEST_F(RegionMemoryPoolTest, ShrinksInPlaceAndReusesTheTail) {
  uint8_t* const address = Allocate(2 * kMiB);
  std::memset(address, 7, 1000);
  EXPECT_EQ(Reallocate(address, 2 * kMiB, 1000), address);
  EXPECT_EQ(Allocate(kMiB), address + 1024);
  EXPECT_EQ(address[999], 7);
  EXPECT_EQ(arena_.num_outstanding(), 1);
}

TEST_F(RegionMemoryPoolTest, GrowsInPlaceWhileTheNextGranulesAreFree) {
  uint8_t* const address = Allocate(64);
  int64_t size = 64;
  for (; size < kMiB; size *= 2) ASSERT_EQ(Reallocate(address, size, 2 * size), address);
  uint8_t* const behind = Allocate(64);
  ASSERT_EQ(behind, address + size);
  pool_.Free(behind, 64);  // Kept for reuse as it is, but free all the same.
  EXPECT_EQ(Reallocate(address, size, size + 1000), address);
}

TEST_F(RegionMemoryPoolTest, MovesWithItsContentsWhenTheNextGranulesAreNotFree) {
  uint8_t* const address = Allocate(1000);
  uint8_t* const behind = Allocate(1000);
  std::memset(address, 5, 1000);
  uint8_t* const moved = Reallocate(address, 1000, 100'000);
  EXPECT_NE(moved, address);
  EXPECT_TRUE(std::all_of(moved, moved + 1000, [](uint8_t byte) { return byte == 5; }));
  pool_.Free(moved, 100'000);
  pool_.Free(behind, 1000);
  ExpectNothingHeld();
}

TEST_F(RegionMemoryPoolTest, CountsAsArrowsPoolsDo) {
  arrow::MemoryPool* const reference = arrow::default_memory_pool();
  const int64_t total_before = reference->total_bytes_allocated();
  const int64_t allocations_before = reference->num_allocations();
  const int64_t bytes_before = reference->bytes_allocated();
  for (arrow::MemoryPool* pool : {static_cast<arrow::MemoryPool*>(&pool_), reference}) {
    uint8_t* a = nullptr;
    uint8_t* b = nullptr;
    ASSERT_OK(pool->Allocate(100, &a));
    ASSERT_OK(pool->Allocate(0, &b));
    ASSERT_OK(pool->Reallocate(100, 70'000, &a));
    ASSERT_OK(pool->Reallocate(70'000, 50, &a));
    ASSERT_OK(pool->Reallocate(50, 50, &a));
    ASSERT_OK(pool->Reallocate(0, 30, &b));
    EXPECT_EQ(pool->bytes_allocated(), 80 + (pool == reference ? bytes_before : 0));
    pool->Free(a, 50);
    pool->Free(b, 30);
  }
  EXPECT_EQ(pool_.bytes_allocated(), 0);
  EXPECT_EQ(pool_.max_memory(), 70'000);
  EXPECT_EQ(pool_.total_bytes_allocated(),
            reference->total_bytes_allocated() - total_before);
  EXPECT_EQ(pool_.num_allocations(), reference->num_allocations() - allocations_before);
}

TEST_F(RegionMemoryPoolTest, ExtentsGrowWithWhatIsHeld) {
  std::vector<uint8_t*> live;
  for (int i = 0; i < 48; ++i) live.push_back(Allocate(kMiB));
  EXPECT_THAT(arena_.TakeRequests(),
              ElementsAre(kUnit, kUnit, 2 * kUnit, 4 * kUnit, 8 * kUnit, 8 * kUnit));
  uint8_t* const huge = Allocate(37 * kMiB + 1);
  EXPECT_THAT(arena_.TakeRequests(), ElementsAre(37 * kMiB + format::kGranuleBytes));
  pool_.Free(huge, 37 * kMiB + 1);
  for (uint8_t* address : live) pool_.Free(address, kMiB);
  EXPECT_LE(pool_.held_bytes(), RegionMemoryPool::Options{}.retained_bytes_max);
  EXPECT_GT(pool_.held_bytes(), 0);
  ExpectNothingHeld();
}

TEST_F(RegionMemoryPoolTest, KeepsOnlySoMuchAsItRetains) {
  std::vector<uint8_t*> live;
  for (int i = 0; i < 10; ++i) live.push_back(Allocate(20 * kMiB));
  for (uint8_t* address : live) pool_.Free(address, 20 * kMiB);
  EXPECT_EQ(pool_.held_bytes(), 60 * kMiB);
  EXPECT_EQ(pool_.ReturnUnused(true), 0);
  EXPECT_EQ(pool_.ReturnUnused(false), 60 * kMiB);
  ExpectNothingHeld();
}

TEST_F(RegionMemoryPoolTest, TakesTheExactNeedBeforeItFails) {
  uint8_t* const most = Allocate(static_cast<int64_t>(kArenaBytes - kUnit));
  arena_.TakeRequests();
  uint8_t* const rest = Allocate(kMiB);
  EXPECT_THAT(arena_.TakeRequests(), ElementsAre(8 * kUnit));
  uint8_t* none = nullptr;
  const arrow::Status status = pool_.Allocate(100 * kMiB, &none);
  ASSERT_RAISES(OutOfMemory, status);
  EXPECT_THAT(status.message(), HasSubstr("allocation of 104857600 bytes"));
  EXPECT_THAT(status.message(), HasSubstr("largest free range has"));
  pool_.Free(most, static_cast<int64_t>(kArenaBytes - kUnit));
  pool_.Free(rest, kMiB);
  ExpectNothingHeld();
}

TEST_F(RegionMemoryPoolTest, GivesBackWhatItRetainsBeforeItFails) {
  std::vector<uint8_t*> live;
  for (int i = 0; i < 3; ++i) live.push_back(Allocate(20 * kMiB));
  for (uint8_t* address : live) pool_.Free(address, 20 * kMiB);
  EXPECT_EQ(pool_.held_bytes(), 60 * kMiB);
  const auto size = static_cast<int64_t>(kArenaBytes);
  pool_.Free(Allocate(size), size);
}

TEST_F(RegionMemoryPoolTest, IsEmptyOnceNoAllocationIsLiveOfSizeZeroEither) {
  EXPECT_TRUE(pool_.is_empty());
  uint8_t* const none = Allocate(0);
  uint8_t* const some = Allocate(100);
  pool_.Free(some, 100);
  EXPECT_EQ(pool_.bytes_allocated(), 0);
  EXPECT_FALSE(pool_.is_empty());
  pool_.Free(none, 0);
  EXPECT_TRUE(pool_.is_empty());
}

TEST_F(RegionMemoryPoolTest, ReturnsWhatBecomesFreeOnceItStopsRetaining) {
  uint8_t* const first = Allocate(10 * kMiB);
  uint8_t* const second = Allocate(10 * kMiB);
  uint8_t* const empty = Allocate(0);
  pool_.Free(first, 10 * kMiB);
  const uint64_t held_before = pool_.held_bytes();
  pool_.StopRetaining();
  EXPECT_EQ(pool_.held_bytes(), held_before - 10 * kMiB);
  pool_.Free(second, 10 * kMiB);
  pool_.Free(empty, 0);
  EXPECT_EQ(pool_.held_bytes(), 0);
}

TEST_F(RegionMemoryPoolTest, HugeSizesAreRefusedWithoutOverflow) {
  uint8_t* address = Allocate(100);
  uint8_t* const before = address;
  uint8_t* none = nullptr;
  for (const int64_t size : {int64_t{1} << 35, int64_t{1} << 41, INT64_MAX}) {
    EXPECT_RAISES(OutOfMemory, pool_.Allocate(size, &none));
    EXPECT_RAISES(OutOfMemory, pool_.Reallocate(100, size, &address));
  }
  EXPECT_EQ(address, before);
  pool_.Free(address, 100);
  ExpectNothingHeld();
}

TEST_F(RegionMemoryPoolTest, SealedBytesAreNotOpen) {
  uint8_t* const address = Allocate(10'000);
  EXPECT_TRUE(pool_.FindOpen(address, 10'000).has_value());
  EXPECT_EQ(pool_.FindOpen(address, 10'000)->data, arena_.data());
  Seal(address + 1000, 500);
  EXPECT_TRUE(pool_.FindOpen(address, 768).has_value());
  EXPECT_FALSE(pool_.FindOpen(address, 769).has_value());
  EXPECT_FALSE(pool_.FindOpen(address + 1535, 1).has_value());
  EXPECT_TRUE(pool_.FindOpen(address + 1536, 1).has_value());
  EXPECT_TRUE(pool_.Owns(address, 10'000));
  int outside = 0;
  EXPECT_FALSE(pool_.FindOpen(&outside, 1).has_value());
  EXPECT_FALSE(pool_.Owns(&outside, 1));
  EXPECT_FALSE(pool_.Owns(address, kUnit + 1));
}

TEST_F(RegionMemoryPoolTest, OnlyUnsealedGranulesOfAnAllocationAreReused) {
  uint8_t* const keep = Allocate(64);  // So the extent stays.
  uint8_t* const address = Allocate(10 * 256);
  Seal(address + 256, 2 * 256);
  pool_.Free(address, 10 * 256);
  EXPECT_EQ(Allocate(256), address);
  EXPECT_EQ(Allocate(7 * 256), address + 3 * 256);
  EXPECT_EQ(Allocate(256), address + 10 * 256);
  EXPECT_EQ(keep + 256, address);
}

TEST_F(RegionMemoryPoolTest, FreeBytesThatAreSealedAreTakenOut) {
  uint8_t* const keep = Allocate(64);
  uint8_t* const cached = Allocate(64);
  pool_.Free(cached, 64);
  Seal(cached, 64);
  Seal(keep + 3 * 256, 256);
  EXPECT_EQ(Allocate(64), keep + 2 * 256);
  EXPECT_EQ(Allocate(64), keep + 4 * 256);
}

TEST_F(RegionMemoryPoolTest, ReallocateOfSealedBytesCopies) {
  uint8_t* const address = Allocate(4096);
  std::memset(address, 9, 4096);
  Seal(address, 256);
  uint8_t* const shrunk = Reallocate(address, 4096, 1024);
  EXPECT_NE(shrunk, address);
  EXPECT_EQ(shrunk[1023], 9);
  EXPECT_EQ(Allocate(3840), address + 256);
}

TEST_F(RegionMemoryPoolTest, AnExtentWithSealedBytesGoesBackWithItsLastAllocation) {
  uint8_t* const first = Allocate(1000);
  uint8_t* const second = Allocate(1000);
  std::memset(first, 3, 1000);
  const std::vector<Range> sealed = Seal(first, 1000);
  pool_.Free(first, 1000);
  EXPECT_EQ(arena_.num_outstanding(), 1);
  pool_.Free(second, 1000);
  EXPECT_EQ(arena_.num_outstanding(), 0);
  EXPECT_EQ(arena_.free_bytes(), kArenaBytes - 1024);
  EXPECT_TRUE(std::all_of(first, first + 1000, [](uint8_t byte) { return byte == 3; }));
  EXPECT_EQ(pool_.bytes_allocated(), 0);
  arena_.DropReference(sealed);
  EXPECT_EQ(arena_.free_bytes(), kArenaBytes);
}

TEST_F(RegionMemoryPoolTest, AnEmptyExtentGoesBackWhenItIsSealed) {
  uint8_t* const address = Allocate(1000);
  pool_.Free(address, 1000);
  EXPECT_EQ(arena_.num_outstanding(), 1);
  Seal(address, 1000);
  EXPECT_EQ(arena_.num_outstanding(), 0);
}

TEST_F(RegionMemoryPoolTest, ASealMaySpanExtentsAndWhatIsNotHeld) {
  uint8_t* const first = Allocate(2 * kMiB);
  uint8_t* const second = Allocate(2 * kMiB);
  ASSERT_EQ(second, first + 2 * kMiB);
  pool_.MarkSealed({arena_.GranulesOf(first + kMiB, 100 * kMiB)});
  EXPECT_TRUE(pool_.FindOpen(first, kMiB).has_value());
  EXPECT_FALSE(pool_.FindOpen(second, 1).has_value());
  pool_.Free(first, 2 * kMiB);
  pool_.Free(second, 2 * kMiB);
  EXPECT_EQ(arena_.num_outstanding(), 0);
}

TEST_F(RegionMemoryPoolTest, TheDestructorReturnsExtents) {
  auto pool = std::make_unique<RegionMemoryPool>(&arena_);
  uint8_t* address = nullptr;
  ASSERT_OK(pool->Allocate(100, &address));
  pool->Free(address, 100);
  EXPECT_EQ(arena_.num_outstanding(), 1);
  pool.reset();
  EXPECT_EQ(arena_.num_outstanding(), 0);
}

using RegionMemoryPoolDeathTest = RegionMemoryPoolTest;

TEST_F(RegionMemoryPoolDeathTest, AWrongFreeEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  uint8_t* const address = Allocate(1000);
  int outside = 0;
  EXPECT_DEATH(pool_.Free(reinterpret_cast<uint8_t*>(&outside), 4), "sheaf bug");
  EXPECT_DEATH(pool_.Free(address + 256, 744), "sheaf bug");
  EXPECT_DEATH(pool_.Free(address, 100), "sheaf bug");
  EXPECT_DEATH(
      {
        pool_.Free(address, 1000);
        pool_.Free(address, 1000);
      },
      "sheaf bug");
}

}  // namespace
}  // namespace sheaf::alloc
