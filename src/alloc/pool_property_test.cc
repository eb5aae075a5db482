// Random operations on a pool against a model that shadows every byte.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <numeric>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include <arrow/status.h>
#include <gtest/gtest.h>

#include "alloc/interval_set.h"
#include "alloc/range.h"
#include "alloc/region_memory_pool.h"
#include "base/math.h"
#include "format/layout.h"
#include "testing/arena_extent_source.h"
#include "testing/arrow_test.h"
#include "testing/test_seed.h"

namespace sheaf::alloc {
namespace {

constexpr uint64_t kGranule = format::kGranuleBytes;

using Random = std::mt19937_64;

uint64_t Below(Random& random, uint64_t limit) {
  return std::uniform_int_distribution<uint64_t>(0, limit - 1)(random);
}

TEST(IntervalSet, AgreesWithOneBitPerValue) {
  constexpr uint64_t kValues = 200;
  Random random(sheaf::testing::TestSeed());
  for (int round = 0; round < 100; ++round) {
    IntervalSet set;
    std::vector<bool> model(kValues);
    for (int step = 0; step < 30; ++step) {
      const uint64_t begin = Below(random, kValues);
      const uint64_t end =
          begin + 1 + Below(random, std::min<uint64_t>(kValues - begin, 12));
      uint64_t added = 0;
      for (uint64_t i = begin; i < end; ++i) {
        added += model[i] ? 0 : 1;
        model[i] = true;
      }
      ASSERT_EQ(set.Insert(begin, end), added);
      for (uint64_t i = 0; i < kValues; ++i) ASSERT_EQ(set.Contains(i), model[i]) << i;
      const uint64_t from = Below(random, kValues - 1);
      const uint64_t until = from + 1 + Below(random, kValues - from - 1);
      const auto at = [&](uint64_t i) { return model.begin() + static_cast<int64_t>(i); };
      ASSERT_EQ(set.Overlaps(from, until),
                std::find(at(from), at(until), true) != at(until));
      const auto other = std::find(at(from), at(until), !model[from]);
      ASSERT_EQ(set.FirstDifference(from, until),
                static_cast<uint64_t>(other - model.begin()));
    }
  }
}

// One user of a pool. Knows every byte of its allocations and of the objects sealed out
// of them.
class PoolUser {
 public:
  PoolUser(uint64_t seed, sheaf::testing::ArenaExtentSource* arena,
           RegionMemoryPool* pool)
      : random_(seed), arena_(arena), pool_(pool) {}

  void Step() {
    switch (Below(random_, 16)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        return Allocate();
      case 5:
      case 6:
      case 7:
        return Reallocate();
      case 8:
        return Seal();
      case 9:
        return DropObject();
      default:
        return Free();
    }
  }

  void CheckContents() const {
    for (const auto& [address, allocation] : live_)
      CheckBytes(address, allocation.shadow);
    for (const Object& object : objects_) {
      CheckBytes(arena_->data() + object.range.offset, object.shadow);
    }
  }

  void End() {
    while (!live_.empty()) FreeAt(live_.begin());
    while (!objects_.empty()) DropObject();
  }

  int64_t bytes_allocated() const {
    int64_t sum = 0;
    for (const auto& [address, allocation] : live_) sum += allocation.size();
    return sum;
  }

 private:
  struct Allocation {
    std::vector<uint8_t> shadow;
    int64_t alignment = 64;
    bool sealed = false;  // Some of it: not to be written again.
    int64_t size() const { return static_cast<int64_t>(shadow.size()); }
  };
  struct Object {
    Range range;
    std::vector<uint8_t> shadow;
  };
  using Live = std::map<uint8_t*, Allocation>;

  // Mostly small; now and then beyond what lists per size keep, and beyond an extent.
  int64_t RandomSize() {
    const uint64_t limit = uint64_t{1} << (6 + Below(random_, 17));
    return static_cast<int64_t>(1 + Below(random_, limit));
  }

  // Other bytes each time, in blocks: sanitizers make a loop over bytes slow.
  void Fill(uint8_t* address, Allocation& allocation, size_t from) {
    std::array<uint8_t, 4096> block;
    std::iota(block.begin(), block.end(), static_cast<uint8_t>(random_()));
    std::vector<uint8_t>& shadow = allocation.shadow;
    for (size_t i = from; i < shadow.size(); i += block.size()) {
      block[i / block.size() % block.size()] ^= 0x55;  // No two blocks alike.
      std::memcpy(shadow.data() + i, block.data(),
                  std::min(block.size(), shadow.size() - i));
    }
    if (from >= shadow.size()) return;
    std::memcpy(address + from, shadow.data() + from, shadow.size() - from);
  }

  static void CheckBytes(const uint8_t* address, const std::vector<uint8_t>& shadow) {
    if (shadow.empty()) return;
    ASSERT_EQ(std::memcmp(address, shadow.data(), shadow.size()), 0);
  }

  // POOL-1 within this user; between users it shows in the contents.
  void CheckPlace(uint8_t* address, int64_t size) const {
    ASSERT_TRUE(arena_->Contains(address, static_cast<uint64_t>(size)));
    const Range granules = arena_->GranulesOf(address, static_cast<uint64_t>(size));
    ASSERT_EQ(arena_->data() + granules.offset, address);
    const auto next = live_.lower_bound(address);
    if (next != live_.end()) {
      ASSERT_GE(next->first, address + granules.size_bytes);
    }
    if (next == live_.begin()) return;
    const auto before = std::prev(next);
    const uint64_t before_bytes = RoundUp(before->second.shadow.size(), kGranule);
    ASSERT_LE(before->first + before_bytes, address);
  }

  Live::iterator AnyLive() {
    return std::next(live_.begin(), static_cast<int64_t>(Below(random_, live_.size())));
  }

  void Allocate() {
    const int64_t size = RandomSize();
    const int64_t alignment =
        Below(random_, 4) == 0 ? int64_t{1} << Below(random_, 13) : 64;
    uint8_t* address = nullptr;
    const arrow::Status status = pool_->Allocate(size, alignment, &address);
    if (!status.ok()) {
      ASSERT_RAISES(OutOfMemory, status);
      return Free();
    }
    ASSERT_TRUE(IsAligned(reinterpret_cast<uintptr_t>(address),
                          static_cast<uint64_t>(alignment)));
    ASSERT_NO_FATAL_FAILURE(CheckPlace(address, size));
    ASSERT_TRUE(pool_->FindOpen(address, static_cast<uint64_t>(size)).has_value());
    Allocation& allocation = live_[address];
    allocation.shadow.resize(static_cast<size_t>(size));
    allocation.alignment = alignment;
    Fill(address, allocation, 0);
  }

  void Reallocate() {
    if (live_.empty()) return;
    const auto chosen = AnyLive();
    Allocation allocation = std::move(chosen->second);
    uint8_t* address = chosen->first;
    live_.erase(chosen);
    const int64_t old_size = allocation.size();
    const int64_t new_size = Below(random_, 2) == 0 ? 2 * old_size : RandomSize();
    const arrow::Status status =
        pool_->Reallocate(old_size, new_size, allocation.alignment, &address);
    CheckBytes(address, {allocation.shadow.begin(),
                         allocation.shadow.begin() +
                             (status.ok() ? std::min(old_size, new_size) : 0)});
    if (status.ok()) {
      ASSERT_NO_FATAL_FAILURE(CheckPlace(address, new_size));
      allocation.sealed = false;
      allocation.shadow.resize(static_cast<size_t>(new_size));
      ASSERT_TRUE(pool_->FindOpen(address, static_cast<uint64_t>(new_size)).has_value());
      Fill(address, allocation, static_cast<size_t>(std::min(old_size, new_size)));
    }
    live_[address] = std::move(allocation);
  }

  void Seal() {
    if (live_.empty()) return;
    const auto chosen = AnyLive();
    Allocation& allocation = chosen->second;
    const uint64_t from = Below(random_, allocation.shadow.size());
    const uint64_t size = 1 + Below(random_, allocation.shadow.size() - from);
    const Range range = arena_->GranulesOf(chosen->first + from, size);
    ASSERT_OK(arena_->AddReference({range}));
    pool_->MarkSealed({range});
    ASSERT_FALSE(pool_->FindOpen(chosen->first + from, size).has_value());
    ASSERT_TRUE(pool_->Owns(chosen->first + from, size));
    allocation.sealed = true;
    const uint8_t* const data = arena_->data() + range.offset;
    objects_.push_back({range, {data, data + range.size_bytes}});
  }

  void DropObject() {
    if (objects_.empty()) return;
    std::swap(objects_[Below(random_, objects_.size())], objects_.back());
    CheckBytes(arena_->data() + objects_.back().range.offset, objects_.back().shadow);
    arena_->DropReference({objects_.back().range});
    objects_.pop_back();
  }

  void Free() {
    if (!live_.empty()) FreeAt(AnyLive());
  }

  void FreeAt(Live::iterator chosen) {
    CheckBytes(chosen->first, chosen->second.shadow);
    pool_->Free(chosen->first, chosen->second.size(), chosen->second.alignment);
    live_.erase(chosen);
  }

  Random random_;
  sheaf::testing::ArenaExtentSource* arena_;
  RegionMemoryPool* pool_;
  Live live_;
  std::vector<Object> objects_;
};

constexpr uint64_t kArenaBytes = uint64_t{96} << 20;

void ExpectNoLeak(sheaf::testing::ArenaExtentSource& arena, RegionMemoryPool& pool) {
  EXPECT_EQ(pool.bytes_allocated(), 0);
  pool.ReturnUnused(false);
  EXPECT_EQ(pool.held_bytes(), 0);
  EXPECT_EQ(arena.num_outstanding(), 0);
  EXPECT_EQ(arena.free_bytes(), kArenaBytes);
}

TEST(RegionMemoryPoolProperty, EveryByteIsKept) {
  const uint64_t seed = sheaf::testing::TestSeed();
  sheaf::testing::ArenaExtentSource arena(kArenaBytes);
  RegionMemoryPool pool(&arena,
                        {.retained_bytes_max = 4 << 20, .growth_bytes_max = 8 << 20});
  PoolUser user(seed, &arena, &pool);
  for (int step = 0; step < 6000; ++step) {
    SCOPED_TRACE(step);
    ASSERT_NO_FATAL_FAILURE(user.Step());
    ASSERT_EQ(pool.bytes_allocated(), user.bytes_allocated());
    if (step % 1000 == 0) {
      ASSERT_NO_FATAL_FAILURE(user.CheckContents());
    }
  }
  user.End();
  ExpectNoLeak(arena, pool);
}

TEST(RegionMemoryPoolProperty, EveryByteIsKeptWithSeveralThreads) {
  const uint64_t seed = sheaf::testing::TestSeed();
  sheaf::testing::ArenaExtentSource arena(kArenaBytes);
  RegionMemoryPool pool(&arena,
                        {.retained_bytes_max = 4 << 20, .growth_bytes_max = 8 << 20});
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (uint64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      PoolUser user(seed + i, &arena, &pool);
      for (int step = 0; step < 1500 && !::testing::Test::HasFatalFailure(); ++step)
        user.Step();
      user.CheckContents();
      user.End();
    });
  }
  for (std::thread& thread : threads) thread.join();
  ExpectNoLeak(arena, pool);
}

}  // namespace
}  // namespace sheaf::alloc
