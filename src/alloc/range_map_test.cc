#include "alloc/range_map.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "alloc/range.h"
#include "base/math.h"
#include "format/layout.h"
#include "testing/test_seed.h"

namespace sheaf::alloc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kGranule = format::kGranuleBytes;
constexpr uint64_t kUnit = format::kExtentBytes;
constexpr uint64_t kSmall = format::kSmallExtentBytes;

Run Free(const Range& range) { return {range, RunState::kFree, std::nullopt, 0}; }
Run Open(const Range& range, uint32_t grant) {
  return {range, RunState::kOpen, grant, 0};
}
Run Sealed(const Range& range, uint32_t grant, uint32_t references) {
  return {range, RunState::kSealed, grant, references};
}

std::vector<Run> AllRuns(const RangeMap& map) {
  return map.Runs({0, map.size_bytes()}).ValueOrDie();
}

Range GrantOrDie(RangeMap& map, uint64_t size_bytes, uint32_t grant) {
  return map.Grant(size_bytes, grant).ValueOrDie();
}

TEST(RangeMap, StartsAsOneFreeRun) {
  const RangeMap map(4 * kUnit);
  EXPECT_THAT(AllRuns(map), ElementsAre(Free({0, 4 * kUnit})));
  EXPECT_EQ(map.free_bytes(), 4 * kUnit);
  EXPECT_EQ(map.largest_free_bytes(), 4 * kUnit);
  EXPECT_EQ(map.open_bytes(), 0);
}

TEST(RangeMap, EmptySegmentGrantsNothing) {
  RangeMap map(0);
  EXPECT_TRUE(map.Grant(1, 0).status().IsOutOfMemory());
  EXPECT_THAT(AllRuns(map), IsEmpty());
  EXPECT_EQ(map.largest_free_bytes(), 0);
}

TEST(RangeMap, GrantRoundsUpToAlignedUnits) {
  RangeMap map(8 * kUnit);
  EXPECT_EQ(GrantOrDie(map, 1, 1), (Range{0, kUnit}));
  EXPECT_EQ(GrantOrDie(map, kUnit + 1, 2), (Range{kUnit, 2 * kUnit}));
  EXPECT_EQ(map.open_bytes(), 3 * kUnit);
  EXPECT_THAT(map.OpenRanges(2), ElementsAre(Range{kUnit, 2 * kUnit}));
}

TEST(RangeMap, GrantFallsBackToSmallUnitsWhenNoAlignedUnitFits) {
  RangeMap map(kUnit + 5 * kSmall);
  ASSERT_EQ(GrantOrDie(map, kUnit, 1), (Range{0, kUnit}));
  EXPECT_EQ(GrantOrDie(map, 3 * kSmall - 1, 2), (Range{kUnit, 3 * kSmall}));
  EXPECT_EQ(GrantOrDie(map, 1, 3), (Range{kUnit + 3 * kSmall, kSmall}));
}

TEST(RangeMap, LargeGrantFallsBackToSmallUnits) {
  RangeMap map(2 * kUnit - kSmall);
  EXPECT_EQ(GrantOrDie(map, kUnit + 1, 1), (Range{0, kUnit + kSmall}));
}

TEST(RangeMap, SmallGrantLeavesUnitsAloneWhileAFragmentFits) {
  RangeMap map(16 * kUnit + kSmall);
  ASSERT_EQ(GrantOrDie(map, 14 * kUnit + 1, 1).size_bytes,
            15 * kUnit);                                          // Memory is low now.
  EXPECT_EQ(GrantOrDie(map, 1, 2), (Range{16 * kUnit, kSmall}));  // The tail of 64 KiB.
  EXPECT_EQ(GrantOrDie(map, 1, 3),
            (Range{15 * kUnit, kSmall}));  // Has to break the last unit.
  EXPECT_EQ(GrantOrDie(map, 1, 4), (Range{15 * kUnit + kSmall, kSmall}));
}

// Who wishes to have more than it needs.
TEST(RangeMap, AWishForOneUnitIsServedFromTheLargestFragment) {
  RangeMap map(16 * kUnit);
  ASSERT_EQ(map.Grant(kUnit, 1).ValueOrDie(), (Range{0, kUnit}));
  ASSERT_TRUE(map.AddReference({{0, 256}, {8 * kSmall, 256}, {30 * kSmall, 256}}).ok());
  map.Return(1);  // A few tables stay: fragments of 7, 21 and 1 small extents.
  const Range largest{9 * kSmall, 21 * kSmall};
  EXPECT_EQ(map.Grant(kSmall, 2, kUnit).ValueOrDie(), largest);
  EXPECT_EQ(map.Grant(kSmall, 3, kUnit).ValueOrDie(), (Range{kSmall, 7 * kSmall}));
  // What is left is not worth the asking.
  EXPECT_EQ(map.Grant(kSmall, 4, kUnit).ValueOrDie(), (Range{kUnit, kUnit}));
  map.Return(2);
  // Too small for the need; and a larger wish wants one piece.
  EXPECT_EQ(map.Grant(22 * kSmall, 5, kUnit).ValueOrDie(), (Range{2 * kUnit, kUnit}));
  EXPECT_EQ(map.Grant(kSmall, 6, 2 * kUnit).ValueOrDie(), (Range{3 * kUnit, 2 * kUnit}));
  EXPECT_EQ(map.Grant(kSmall, 7, kUnit).ValueOrDie(), largest);
}

TEST(RangeMap, AWishThatDoesNotFitIsNotNeeded) {
  RangeMap map(4 * kUnit);
  EXPECT_EQ(map.Grant(1, 1, 64 * kUnit).ValueOrDie(), (Range{0, kUnit}));
  EXPECT_EQ(map.Grant(kUnit, 2, 4 * kUnit).ValueOrDie(), (Range{kUnit, kUnit}));
  EXPECT_TRUE(map.Grant(3 * kUnit, 3, 3 * kUnit).status().IsOutOfMemory());
}

TEST(RangeMap, OutOfMemorySaysWhatIsNeededAndFree) {
  RangeMap map(2 * kUnit);
  ASSERT_EQ(GrantOrDie(map, kUnit, 1), (Range{0, kUnit}));
  const arrow::Status status = map.Grant(3 * kUnit, 2).status();
  ASSERT_TRUE(status.IsOutOfMemory());
  EXPECT_THAT(status.message(), HasSubstr("a grant of 6291456 bytes"));
  EXPECT_THAT(status.message(), HasSubstr("2097152 of 4194304 bytes are free"));
  EXPECT_THAT(status.message(), HasSubstr("largest free range has 2097152 bytes"));
  EXPECT_TRUE(map.Grant(UINT64_MAX, 2).status().IsOutOfMemory());
  EXPECT_EQ(map.free_bytes(), kUnit);
}

TEST(RangeMap, RefusesAGrantThatIsOutstanding) {
  RangeMap map(4 * kUnit);
  GrantOrDie(map, 1, 7);
  EXPECT_TRUE(map.Grant(1, 7).status().IsInvalid());
  EXPECT_TRUE(map.Grant(0, 8).status().IsInvalid());
  map.Return(7);
  EXPECT_EQ(GrantOrDie(map, 1, 7), (Range{0, kUnit}));
}

TEST(RangeMap, ReferencesMayCoverSeveralGrants) {
  RangeMap map(4 * kUnit);
  GrantOrDie(map, 1, 1);
  GrantOrDie(map, 1, 2);
  ASSERT_TRUE(map.AddReference({{kUnit - kGranule, 2 * kGranule}}).ok());
  EXPECT_THAT(AllRuns(map), ElementsAre(Open({0, kUnit - kGranule}, 1),
                                        Sealed({kUnit - kGranule, kGranule}, 1, 1),
                                        Sealed({kUnit, kGranule}, 2, 1),
                                        Open({kUnit + kGranule, kUnit - kGranule}, 2),
                                        Free({2 * kUnit, 2 * kUnit})));
}

TEST(RangeMap, AddReferenceChangesNothingWhenAByteIsFree) {
  RangeMap map(4 * kUnit);
  GrantOrDie(map, 1, 1);
  const auto before = AllRuns(map);
  EXPECT_TRUE(
      map.AddReference({{0, kGranule}, {kUnit - kGranule, 2 * kGranule}}).IsInvalid());
  EXPECT_TRUE(map.AddReference({{0, kGranule}, {3 * kUnit, kGranule}}).IsInvalid());
  EXPECT_EQ(AllRuns(map), before);
}

TEST(RangeMap, RefusesMalformedRanges) {
  RangeMap map(4 * kUnit);
  GrantOrDie(map, 4 * kUnit, 1);
  const auto before = AllRuns(map);
  const std::vector<std::vector<Range>> malformed = {
      {{1, kGranule}},
      {{0, kGranule + 1}},
      {{0, 0}},
      {{4 * kUnit, kGranule}},
      {{kGranule, UINT64_MAX - kGranule + 1}},
      {{kGranule, kGranule}, {0, kGranule}},
      {{0, 2 * kGranule}, {kGranule, kGranule}},
  };
  for (const auto& ranges : malformed) {
    EXPECT_TRUE(map.AddReference(ranges).IsInvalid());
    EXPECT_TRUE(map.AdoptSealed(ranges).IsInvalid());
  }
  EXPECT_TRUE(map.Runs({4 * kUnit, 1}).status().IsInvalid());
  EXPECT_EQ(AllRuns(map), before);
}

TEST(RangeMap, SealedBytesOfAnOutstandingGrantGoBackToIt) {
  RangeMap map(kUnit);
  GrantOrDie(map, 1, 1);
  const Range sealed{kGranule, kGranule};
  ASSERT_TRUE(map.AddReference({sealed}).ok());
  EXPECT_THAT(map.DropReference({sealed}), IsEmpty());
  EXPECT_THAT(AllRuns(map), ElementsAre(Open({0, kUnit}, 1)));
  EXPECT_THAT(map.Return(1), ElementsAre(Range{0, kUnit}));
  EXPECT_EQ(map.free_bytes(), kUnit);
}

TEST(RangeMap, SealedBytesOutliveTheirGrant) {
  RangeMap map(kUnit);
  GrantOrDie(map, 1, 1);
  const Range sealed{kGranule, kGranule};
  ASSERT_TRUE(map.AddReference({sealed}).ok());
  ASSERT_TRUE(map.AddReference({sealed}).ok());
  EXPECT_THAT(map.Return(1),
              ElementsAre(Range{0, kGranule}, Range{2 * kGranule, kUnit - 2 * kGranule}));
  EXPECT_THAT(map.Return(1), IsEmpty());
  EXPECT_THAT(map.OpenRanges(1), IsEmpty());
  EXPECT_THAT(map.DropReference({sealed}), IsEmpty());
  EXPECT_THAT(map.DropReference({sealed}), ElementsAre(sealed));
  EXPECT_THAT(AllRuns(map), ElementsAre(Free({0, kUnit})));
}

TEST(RangeMap, AdoptRefusesWhatIsNotFree) {
  RangeMap map(4 * kUnit);
  ASSERT_TRUE(map.Adopt({0, kUnit}, 1).ok());
  EXPECT_TRUE(map.Adopt({kUnit - kGranule, kUnit}, 2).IsInvalid());
  EXPECT_TRUE(map.Adopt({2 * kUnit, kUnit}, 1).IsInvalid());
  EXPECT_TRUE(map.Adopt({3 * kUnit, 2 * kUnit}, 2).IsInvalid());
  ASSERT_TRUE(map.AdoptSealed({{2 * kUnit, kGranule}}).ok());
  EXPECT_TRUE(map.Adopt({kUnit, 2 * kUnit}, 2).IsInvalid());
  EXPECT_EQ(map.open_bytes(), kUnit);
}

// What RangeMap should hold: one entry per granule, and grants and objects as lists.
class Model {
 public:
  struct Granule {
    RunState state = RunState::kFree;
    std::optional<uint32_t> grant;
    uint32_t references = 0;
    bool operator==(const Granule&) const = default;
  };

  explicit Model(uint64_t size_bytes) : granules_(size_bytes / kGranule) {}

  template <typename Visit>
  void ForEach(const Range& range, Visit visit) {
    for (uint64_t i = range.offset / kGranule; i < range.end() / kGranule; ++i) {
      visit(granules_[i]);
    }
  }

  void Grant(const Range& range, uint32_t grant) {
    ForEach(range, [&](Granule& granule) {
      ASSERT_EQ(granule.state, RunState::kFree);
      granule = {RunState::kOpen, grant, 0};
    });
  }

  // Returns the number of bytes that became free, as the next one does.
  uint64_t Return(uint32_t grant) {
    uint64_t freed = 0;
    for (Granule& granule : granules_) {
      if (granule.grant != grant) continue;
      granule.grant.reset();
      if (granule.state == RunState::kSealed) continue;
      granule.state = RunState::kFree;
      freed += kGranule;
    }
    return freed;
  }

  uint64_t Drop(const std::vector<Range>& ranges) {
    uint64_t freed = 0;
    for (const Range& range : ranges) {
      ForEach(range, [&](Granule& granule) {
        if (--granule.references > 0) return;
        granule.state = granule.grant ? RunState::kOpen : RunState::kFree;
        if (!granule.grant) freed += kGranule;
      });
    }
    return freed;
  }

  bool AnyFree(const std::vector<Range>& ranges) {
    bool any = false;
    for (const Range& range : ranges) {
      ForEach(range, [&](Granule& g) { any = any || g.state == RunState::kFree; });
    }
    return any;
  }

  void Seal(const std::vector<Range>& ranges) {
    for (const Range& range : ranges) {
      ForEach(range, [](Granule& granule) {
        granule.state = RunState::kSealed;
        ++granule.references;
      });
    }
  }

  std::vector<Run> Runs() const {
    std::vector<Run> runs;
    for (uint64_t i = 0; i < granules_.size(); ++i) {
      const Granule& granule = granules_[i];
      if (i > 0 && granules_[i - 1] == granule) {
        runs.back().range.size_bytes += kGranule;
      } else {
        runs.push_back(
            {{i * kGranule, kGranule}, granule.state, granule.grant, granule.references});
      }
    }
    return runs;
  }

 private:
  std::vector<Granule> granules_;
};

struct Totals {
  uint64_t free = 0, open = 0, largest = 0;
};

Totals TotalsOf(const std::vector<Run>& runs) {
  Totals totals;
  for (const Run& run : runs) {
    if (run.state == RunState::kOpen) totals.open += run.range.size_bytes;
    if (run.state != RunState::kFree) continue;
    totals.free += run.range.size_bytes;
    totals.largest = std::max(totals.largest, run.range.size_bytes);
  }
  return totals;
}

// True if some free run holds `size_bytes` (rounded up to `unit`) from a multiple of
// `unit` on.
bool HasRoom(const std::vector<Run>& runs, uint64_t size_bytes, uint64_t unit) {
  for (const Run& run : runs) {
    const uint64_t begin = RoundUp(run.range.offset, unit);
    if (run.state == RunState::kFree &&
        begin + RoundUp(size_bytes, unit) <= run.range.end()) {
      return true;
    }
  }
  return false;
}

uint64_t SumOf(const std::vector<Range>& ranges) {
  uint64_t sum = 0;
  for (const Range& range : ranges) sum += range.size_bytes;
  return sum;
}

// Random operations on a RangeMap and on the model.
class RangeMapProperty {
 public:
  RangeMapProperty(uint64_t seed, uint64_t size_bytes)
      : random_(seed), map_(size_bytes), model_(size_bytes) {}

  void Step() {
    switch (Below(8)) {
      case 0:
      case 1:
        return Grant();
      case 2:
        return Return();
      case 3:
      case 4:
      case 5:
        return Seal();
      default:
        return Drop();
    }
  }

  // ALLOC-1 (the model covers every granule once), ALLOC-2 (its runs are maximal),
  // counters.
  void Check() {
    const std::vector<Run> runs = model_.Runs();
    ASSERT_EQ(AllRuns(map_), runs);
    const Totals totals = TotalsOf(runs);
    ASSERT_EQ(map_.free_bytes(), totals.free);
    ASSERT_EQ(map_.open_bytes(), totals.open);
    ASSERT_EQ(map_.largest_free_bytes(), totals.largest);
  }

  // A map rebuilt from grants and objects alone is the same (R3).
  void CheckRebuild() {
    RangeMap rebuilt(map_.size_bytes());
    for (const auto& [grant, extent] : grants_)
      ASSERT_TRUE(rebuilt.Adopt(extent, grant).ok());
    for (const auto& ranges : objects_) ASSERT_TRUE(rebuilt.AdoptSealed(ranges).ok());
    ASSERT_EQ(AllRuns(rebuilt), AllRuns(map_));
    ASSERT_EQ(rebuilt.free_bytes(), map_.free_bytes());
    ASSERT_EQ(rebuilt.open_bytes(), map_.open_bytes());
    ASSERT_EQ(rebuilt.largest_free_bytes(), map_.largest_free_bytes());
  }

 private:
  uint64_t Below(uint64_t limit) {
    return std::uniform_int_distribution<uint64_t>(0, limit - 1)(random_);
  }

  void Grant() {
    const uint64_t size_bytes = 1 + Below(Below(4) == 0 ? 3 * kUnit : 4 * kSmall);
    const uint32_t grant = next_grant_++;
    const std::vector<Run> before = model_.Runs();
    const auto result = map_.Grant(size_bytes, grant);
    if (!result.ok()) {
      ASSERT_TRUE(result.status().IsOutOfMemory());
      ASSERT_FALSE(HasRoom(before, size_bytes, kSmall)) << size_bytes;
      return;
    }
    const uint64_t unit = result->size_bytes % kUnit == 0 ? kUnit : kSmall;
    ASSERT_EQ(result->size_bytes, RoundUp(size_bytes, unit));
    ASSERT_TRUE(IsAligned(result->offset, kSmall));
    if (unit == kSmall && size_bytes >= kUnit) {
      ASSERT_FALSE(HasRoom(before, size_bytes, kUnit));
    }
    model_.Grant(*result, grant);
    grants_[grant] = *result;
  }

  void Return() {
    if (grants_.empty()) return;
    const auto chosen =
        std::next(grants_.begin(), static_cast<int64_t>(Below(grants_.size())));
    ASSERT_EQ(SumOf(map_.Return(chosen->first)), model_.Return(chosen->first));
    grants_.erase(chosen);
  }

  void Seal() {
    std::vector<Range> ranges;
    const uint64_t granules = map_.size_bytes() / kGranule;
    uint64_t from = Below(granules);
    for (uint64_t count = 1 + Below(4); count > 0 && from < granules; --count) {
      const uint64_t size = 1 + Below(std::min<uint64_t>(granules - from, 300));
      ranges.push_back({from * kGranule, size * kGranule});
      from += size + Below(100);  // Now and then two that touch.
    }
    const bool free = model_.AnyFree(ranges);
    ASSERT_EQ(map_.AddReference(ranges).ok(), !free);
    if (free) return;
    model_.Seal(ranges);
    objects_.push_back(ranges);
  }

  void Drop() {
    if (objects_.empty()) return;
    std::swap(objects_[Below(objects_.size())], objects_.back());
    ASSERT_EQ(SumOf(map_.DropReference(objects_.back())), model_.Drop(objects_.back()));
    objects_.pop_back();
  }

  std::mt19937_64 random_;
  RangeMap map_;
  Model model_;
  uint32_t next_grant_ = 0;
  std::map<uint32_t, Range> grants_;
  std::vector<std::vector<Range>> objects_;
};

TEST(RangeMap, AgreesWithOneEntryPerGranule) {
  RangeMapProperty property(sheaf::testing::TestSeed(),
                            4 * kUnit + 3 * kSmall + kGranule);
  for (int step = 0; step < 2000; ++step) {
    SCOPED_TRACE(step);
    ASSERT_NO_FATAL_FAILURE(property.Step());
    ASSERT_NO_FATAL_FAILURE(property.Check());
    if (step % 50 == 0) {
      ASSERT_NO_FATAL_FAILURE(property.CheckRebuild());
    }
  }
}

TEST(RangeMap, HoldsManyRuns) {
  constexpr uint64_t kObjects = 200'000;
  RangeMap map(RoundUp(2 * kObjects * kGranule, kUnit));
  GrantOrDie(map, map.size_bytes(), 1);
  std::vector<Range> every_second;
  every_second.reserve(kObjects);
  for (uint64_t i = 0; i < kObjects; ++i) {
    every_second.push_back({2 * i * kGranule, kGranule});
  }
  ASSERT_TRUE(map.AddReference(every_second).ok());
  EXPECT_EQ(map.Return(1).size(), kObjects);
  EXPECT_EQ(map.free_bytes(), map.size_bytes() - kObjects * kGranule);
  EXPECT_EQ(map.DropReference(every_second).size(), kObjects);
  EXPECT_EQ(AllRuns(map).size(), 1);
}

}  // namespace
}  // namespace sheaf::alloc
