#include "daemon/coverage.h"

#include <cstdint>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

ObjectId Owner(uint32_t slot) { return {{1}, slot, 1}; }

TEST(Coverage, NothingNeededIsCovered) {
  const Coverage coverage = Cover({}, {{{0, 100}, Owner(1)}});
  EXPECT_TRUE(coverage.complete);
  EXPECT_TRUE(coverage.owners.empty());
}

TEST(Coverage, NamesTheFirstByteThatNobodyHas) {
  const Coverage coverage =
      Cover({{0, 100}, {300, 200}}, {{{0, 100}, Owner(1)}, {{300, 50}, Owner(1)}});
  EXPECT_FALSE(coverage.complete);
  EXPECT_EQ(coverage.uncovered_offset, 350);
}

TEST(Coverage, SeveralPiecesCoverOneRangeTogether) {
  const Coverage coverage = Cover(
      {{50, 200}}, {{{100, 200}, Owner(2)}, {{0, 100}, Owner(1)}, {{0, 60}, Owner(3)}});
  EXPECT_TRUE(coverage.complete);
  EXPECT_EQ(coverage.owners, (Owners{{Owner(1), {50, 50}}, {Owner(2), {100, 150}}}));
}

TEST(Coverage, OverlappingPiecesOfFewOwners) {
  const Coverage coverage =
      Cover({{0, 1000}},
            {{{0, 500}, Owner(1)}, {{100, 300}, Owner(2)}, {{400, 600}, Owner(3)}});
  EXPECT_TRUE(coverage.complete);
  EXPECT_EQ(coverage.owners, (Owners{{Owner(1), {0, 500}}, {Owner(3), {500, 500}}}));
}

// Against a bitmap.
TEST(Coverage, AgreesWithAPlainModel) {
  std::mt19937 random(11);
  const auto pick = [&](uint32_t limit) { return uint64_t{random() % limit}; };
  for (int round = 0; round < 2000; ++round) {
    std::vector<Piece> pieces;
    std::vector<std::set<ObjectId>> owners(64);
    for (uint32_t i = 0; i < 6; ++i) {
      const Piece piece{{pick(50), 1 + pick(13)}, Owner(i)};
      for (uint64_t b = piece.range.offset; b < piece.range.end(); ++b) {
        owners[b].insert(piece.owner);
      }
      pieces.push_back(piece);
    }
    std::vector<alloc::Range> needed;
    for (uint64_t at = pick(10); at < 50; at += 1 + pick(20)) {
      needed.push_back({at, 1 + pick(8)});
      at = needed.back().end();
    }
    const Coverage coverage = Cover(needed, pieces);
    bool complete = true;
    for (const alloc::Range& range : needed) {
      for (uint64_t b = range.offset; b < range.end() && complete; ++b) {
        if (!owners[b].empty()) continue;
        complete = false;
        EXPECT_EQ(coverage.uncovered_offset, b);
      }
      if (!complete) break;
    }
    ASSERT_EQ(coverage.complete, complete) << "round " << round;
    if (!complete) continue;
    for (const alloc::Range& range : needed) {
      for (uint64_t b = range.offset; b < range.end(); ++b) {
        bool named = false;
        for (const ObjectId& owner : owners[b]) {
          const auto found = coverage.owners.find(owner);
          named |= found != coverage.owners.end() && found->second.offset <= b &&
                   b < found->second.end();
        }
        ASSERT_TRUE(named) << "round " << round << " byte " << b;
      }
    }
  }
}

TEST(RoundToGranules, MergesWhatSharesAGranuleAndLeavesOutOtherSegments) {
  const std::vector<GlobalRange> ranges = {
      {{{0}, 10}, 20}, {{{0}, 100}, 10}, {{{0}, 600}, 300}, {{{1}, 0}, 5000}};
  EXPECT_EQ(RoundToGranules(ranges, {0}),
            (std::vector<alloc::Range>{{0, 256}, {512, 512}}));
}

}  // namespace
}  // namespace sheaf::daemon
