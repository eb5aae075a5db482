#include "daemon/node_lines.h"

#include <cstddef>
#include <cstdint>
#include <memory>

#include <gtest/gtest.h>

#include "daemon/home_life.h"
#include "format/layout.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

constexpr NodeId kNode0{0};
constexpr uint64_t kBoot = 17;

class NodeLinesTest : public ::testing::Test {
 protected:
  void SetUp() override { Format(); }
  void Format() {
    region_ = nullptr;
    ASSERT_OK(region::FormatSegment(config_, kNode0));
    ASSERT_OK_AND_ASSIGN(
        region_, region::Region::Attach(config_, {kNode0, region::Role::kDaemon}));
  }
  region::Segment* segment() { return &region_->own_segment(); }

  region::TestMemory memory_;
  region::ClusterConfig config_ = memory_.ConfigOnDevice();
  std::shared_ptr<region::Region> region_;
};

TEST_F(NodeLinesTest, WhoeverIsBehindAnotherDaemonOfItsNodeFindsOut) {
  NodeLines first(segment());
  first.BeginLife(kBoot);
  EXPECT_TRUE(first.Beat());
  NodeLines second(segment());
  second.BeginLife(kBoot + 1);
  EXPECT_TRUE(second.Beat());
  EXPECT_FALSE(first.Beat());
  EXPECT_TRUE(second.Beat());
}

/// Given up while its daemon was stopped: the line is behind, not ahead.
TEST_F(NodeLinesTest, WhoeverHasAFormerFormattingFindsOut) {
  const auto former = region_;
  NodeLines lines(&former->own_segment());
  lines.BeginLife(kBoot);
  EXPECT_TRUE(lines.Beat());
  ASSERT_OK(region::RemoveSegment(config_, kNode0));
  EXPECT_FALSE(lines.Beat());
  Format();
  EXPECT_FALSE(lines.Beat());
  EXPECT_EQ(region::LoadControlLine(*segment(),
                                    segment()->NodeLine(format::NodeLine::kHeartbeat))[0],
            0);
}

TEST_F(NodeLinesTest, NoIncarnationOfAFormerFormattingComesAgain) {
  NodeLines lines(segment());
  uint64_t last = lines.BeginLife(kBoot).incarnation;
  for (int i = 0; i < 10; ++i) last = lines.NextIncarnation();
  ASSERT_OK(region::RemoveSegment(config_, kNode0));
  Format();
  const HomeLife next = NodeLines(segment()).BeginLife(kBoot);
  EXPECT_GT(next.incarnation, last);
  EXPECT_EQ(next.incarnation >> 32, segment()->header().format_epoch);
  EXPECT_EQ(NodeLines(segment()).BeginLife(kBoot).incarnation, next.incarnation);
}

/// It comes from another home's memory, too.
TEST_F(NodeLinesTest, TheNextIncarnationIsAboveWhatIsOffButStaysInItsFormatting) {
  NodeLines lines(segment());
  const uint64_t first = lines.BeginLife(kBoot).incarnation;
  EXPECT_EQ(lines.NextIncarnation(first + 7), first + 8);
  EXPECT_EQ(lines.NextIncarnation(~uint64_t{0}), first + 9);
}

/// Nobody admits it; the own line may say so all the same, or the admit line.
TEST_F(NodeLinesTest, AnIncarnationOfAnotherFormattingIsNotGoneOnWith) {
  const uint64_t first = NodeLines(segment()).BeginLife(kBoot).incarnation;
  region::UpdateIncarnation(
      segment(), [](auto* line) { line->incarnation |= uint64_t{0xFF} << 56; });
  EXPECT_EQ(NodeLines(segment()).BeginLife(kBoot).incarnation, first);
  region::StoreAdmitted(segment(), kNode0, first | uint64_t{0xFF} << 56);
  EXPECT_EQ(NodeLines(segment()).BeginLife(kBoot).incarnation, first);
}

/// Sessions of the boot that the line no more tells may live.
TEST_F(NodeLinesTest, ADamagedLineDoesNotForgetSinceWhenSessionsAre) {
  const uint64_t first = NodeLines(segment()).BeginLife(kBoot).incarnation;
  EXPECT_EQ(NodeLines(segment()).NextIncarnation(), first + 1);
  uint64_t* const line = segment()->NodeLine(format::NodeLine::kIncarnation);
  for (const bool is_begun_anew : {false, true}) {
    line[1] ^= 1;
    if (is_begun_anew) region::UpdateIncarnation(segment(), [](auto*) {});
    const HomeLife next = NodeLines(segment()).BeginLife(kBoot);
    EXPECT_TRUE(next.is_new);
    EXPECT_EQ(region::LoadSessionsSince(*segment(), next.incarnation), first);
  }
  const HomeLife last = NodeLines(segment()).BeginLife(kBoot + 1);
  EXPECT_EQ(region::LoadSessionsSince(*segment(), last.incarnation), last.incarnation);
}

/// Numbers of sessions are made of it: none may come again.
TEST_F(NodeLinesTest, ADamagedLineForgetsNoDaemonThatWas) {
  uint64_t last = 0;
  for (int i = 0; i < 3; ++i) last = NodeLines(segment()).BeginLife(kBoot).daemon_starts;
  const auto damage = [&](uint64_t begin) {
    uint64_t* const line = segment()->NodeLine(format::NodeLine::kIncarnation);
    for (size_t i = 0; i < format::kLineBytes / sizeof(*line); ++i) line[i] = begin + i;
  };
  damage(4711);
  const HomeLife next = NodeLines(segment()).BeginLife(kBoot);
  EXPECT_GT(next.daemon_starts, last);
  EXPECT_TRUE(next.is_new);
  // Also where the line was begun anew by whoever wrote to it after the damage.
  damage(4711);
  region::UpdateIncarnation(segment(), [](format::IncarnationLine*) {});
  EXPECT_GT(NodeLines(segment()).BeginLife(kBoot).daemon_starts, next.daemon_starts);
}

}  // namespace
}  // namespace sheaf::daemon
