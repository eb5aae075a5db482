#include "region/region.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/layout.h"
#include "platform/cache.h"
#include "platform/file.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/served_check.h"
#include "region/test_cluster.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/test_seed.h"

namespace sheaf::region {
namespace {

using ::testing::HasSubstr;

constexpr NodeId kNode0{0};
constexpr NodeId kNode1{1};
constexpr uint64_t kMiB = uint64_t{1} << 20;

class RegionTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(FormatSegment(config_, kNode0)); }

  std::shared_ptr<Region> Attach(NodeId node, Role role = Role::kClient,
                                 bool relocate = false) {
    auto region = Region::Attach(config_, {node, role, relocate});
    EXPECT_OK(region);
    return region.ValueOr(nullptr);
  }

  TestMemory memory_;
  ClusterConfig config_ = memory_.Config();
};

mode_t ModeOf(const std::string& path) {
  struct stat status = {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777;
}

TEST_F(RegionTest, PartsArePrivateAndZero) {
  const std::string folder = config_.segment_folder(SegmentId{0});
  EXPECT_EQ(ModeOf(folder), 0700U);
  for (const char* part : {"control", "leases", "data"}) {
    EXPECT_EQ(ModeOf(folder + "/" + part), 0600U);
  }
  const auto region = Attach(kNode0);
  const Segment& own = region->own_segment();
  const uint8_t* control = own.control().data();
  for (uint64_t i = sizeof(format::SegmentHeader); i < own.control().size_bytes(); ++i) {
    ASSERT_EQ(control[i], 0) << i;
  }
  EXPECT_EQ(own.control().size_bytes(), own.layout().size_bytes);
  EXPECT_EQ(own.leases().size_bytes(), 8 * format::kLeasePageBytes);
  EXPECT_EQ(own.data().size_bytes(), config_.segment_size_bytes);
}

TEST_F(RegionTest, SegmentsThatAppearLaterAreAttachedOnRequest) {
  const auto region = Attach(kNode0);
  EXPECT_EQ(region->num_segments(), 2);
  EXPECT_EQ(region->segment(SegmentId{1}), nullptr);
  EXPECT_EQ(region->segment(SegmentId{2}), nullptr);
  EXPECT_EQ(region->Resolve({{SegmentId{1}, 0}, 1}), nullptr);
  ASSERT_OK(FormatSegment(config_, kNode1));
  EXPECT_EQ(region->segment(SegmentId{1}), nullptr);
  ASSERT_OK(region->AttachMissing());
  ASSERT_NE(region->segment(SegmentId{1}), nullptr);
  EXPECT_EQ(region->segment(SegmentId{1})->header().segment, 1);
}

TEST_F(RegionTest, MissingOwnSegmentSaysWhatToDo) {
  const auto region = Region::Attach(config_, {kNode1});
  ASSERT_RAISES(IOError, region);
  EXPECT_THAT(region.status().message(), HasSubstr("start node 1"));
  EXPECT_RAISES(Invalid, Region::Attach(config_, {NodeId{2}}));
}

TEST_F(RegionTest, HalfFormattedSegmentDoesNotExistYet) {
  ASSERT_OK(FormatSegment(config_, kNode1));
  const std::string control = config_.segment_folder(SegmentId{1}) + "/control";
  ASSERT_OK_AND_ASSIGN(const auto fd,
                       platform::OpenFile(control, platform::Access::kReadWrite));
  ASSERT_OK(platform::FreeFileRange(fd.get(), 0, 4096));
  const auto region = Attach(kNode0);
  EXPECT_EQ(region->segment(SegmentId{1}), nullptr);
  EXPECT_RAISES(IOError, Region::Attach(config_, {kNode1}));
}

TEST_F(RegionTest, LinesAreWhereTheLayoutSays) {
  const auto region = Attach(kNode0, Role::kDaemon);
  const Segment& own = region->own_segment();
  const auto offset_of = [&](const uint64_t* line) {
    return static_cast<uint64_t>(reinterpret_cast<const uint8_t*>(line) -
                                 own.control().data());
  };
  EXPECT_EQ(offset_of(own.NodeLine(format::NodeLine::kHeartbeat)),
            own.layout().node_lines + 256);
  EXPECT_EQ(offset_of(own.SlotLine(3)), own.layout().slots + 192);
  EXPECT_EQ(offset_of(own.GrantLine(2)), own.layout().grants + 128);
  EXPECT_EQ(offset_of(own.ControlLine(own.layout().admit)), own.layout().admit);
  EXPECT_EQ(reinterpret_cast<uint8_t*>(own.LeasePage(2)), own.leases().data() + 8192);
}

TEST_F(RegionTest, EachRoleWritesWhatItOwns) {
  ASSERT_OK(FormatSegment(config_, kNode1));
  const auto daemon = Attach(kNode0, Role::kDaemon);
  const auto client = Attach(kNode0);
  const auto other = Attach(kNode1);
  *daemon->own_segment().SlotLine(0) = 5;
  EXPECT_EQ(*client->own_segment().SlotLine(0), 5);
  EXPECT_EQ(*other->segment(SegmentId{0})->SlotLine(0), 5);
  ASSERT_OK(client->own_segment().leases().SetWritable(0, format::kLeasePageBytes, true));
  *client->own_segment().LeasePage(0) = 6;
  EXPECT_EQ(*other->segment(SegmentId{0})->LeasePage(0), 6);
  const auto faults = [](uint64_t* word) {
    return WIFSIGNALED(ExitStatusOfChild([&] {
      ::signal(SIGSEGV, SIG_DFL);  // Sanitizers would report it.
      *static_cast<volatile uint64_t*>(word) = 1;
      return 0;
    }));
  };
  EXPECT_TRUE(faults(client->own_segment().SlotLine(0)));
  EXPECT_TRUE(faults(client->own_segment().LeasePage(1)));  // another session's
  EXPECT_TRUE(faults(other->segment(SegmentId{0})->LeasePage(0)));
  EXPECT_TRUE(faults(reinterpret_cast<uint64_t*>(client->own_segment().data().data())));
}

TEST_F(RegionTest, OwnDataBecomesWritableByRange) {
  ASSERT_OK(FormatSegment(config_, kNode1));
  const auto writer = Attach(kNode0);
  const auto reader = Attach(kNode1);
  Part& data = writer->own_segment().data();
  ASSERT_OK(data.Allocate(2 * kMiB, 2 * kMiB));
  ASSERT_OK(data.SetWritable(2 * kMiB, 2 * kMiB, true));
  data.data()[2 * kMiB] = 42;
  EXPECT_EQ(*reader->Resolve({{SegmentId{0}, 2 * kMiB}, 1}), 42);
  ASSERT_OK(data.SetWritable(2 * kMiB, 2 * kMiB, false));
  EXPECT_RAISES(Invalid, data.SetWritable(2 * kMiB, 3 * kMiB, true));
  EXPECT_RAISES(Invalid, data.Allocate(4 * kMiB, 1));
  EXPECT_RAISES(Invalid, data.Allocate(~uint64_t{0}, 2));
  // Who was granted memory of another node writes there; nothing else of it.
  const region::Segment& foreign = *reader->segment(SegmentId{0});
  ASSERT_OK(foreign.data().SetWritable(2 * kMiB, 2 * kMiB, true));
  foreign.data().data()[2 * kMiB] = 43;
  EXPECT_EQ(data.data()[2 * kMiB], 43);
  EXPECT_RAISES(IOError, foreign.leases().SetWritable(0, 4096, true));
  EXPECT_RAISES(IOError, foreign.control().SetWritable(0, 4096, true));
}

TEST_F(RegionTest, SegmentsAreMappedAtTheCommonBaseOrElsewhere) {
  ASSERT_OK(FormatSegment(config_, kNode1));
  const uint64_t base = config_.segment_base_address(SegmentId{0});
  {
    const auto region = Attach(kNode0);
    const auto address = reinterpret_cast<uint64_t>(region->Resolve({{}, 0}));
    // Under thread sanitizer no wanted address is tried at all.
    if (address == base) {
      EXPECT_EQ(reinterpret_cast<uint64_t>(region->segment(SegmentId{1})->data().data()),
                config_.segment_base_address(SegmentId{1}));
    }
    const auto second = Attach(kNode0);  // The base is taken now.
    EXPECT_NE(reinterpret_cast<uint64_t>(second->Resolve({{}, 0})), base);
    EXPECT_EQ(second->Locate(region->Resolve({{}, 0}), 1), std::nullopt);
  }
  const auto relocated = Attach(kNode0, Role::kClient, /*relocate=*/true);
  EXPECT_NE(reinterpret_cast<uint64_t>(relocated->Resolve({{}, 0})), base);
}

TEST_F(RegionTest, WrongClusterAndSizesAreRefused) {
  const auto message = [](const ClusterConfig& config) {
    const auto region = Region::Attach(config, {kNode0});
    EXPECT_TRUE(region.status().IsInvalid());
    return region.status().message();
  };
  ClusterConfig other = config_;
  other.cluster_id = 7;
  EXPECT_THAT(message(other), HasSubstr("segment 0 in " + other.memory_folder));
  EXPECT_THAT(message(other), HasSubstr("cluster id is 24239, expected 7"));
  other = config_;
  other.segment_size_bytes *= 2;
  EXPECT_THAT(message(other), HasSubstr("expected"));
  other = config_;
  other.coherence = Coherence::kSoftware;
  EXPECT_THAT(message(other), HasSubstr("coherence is 0, expected 1"));
  ASSERT_EQ(::truncate((config_.segment_folder(SegmentId{0}) + "/data").c_str(), 4096),
            0);
  EXPECT_THAT(message(config_), HasSubstr("file data has 4096 bytes, expected 4194304"));
}

TEST_F(RegionTest, NodesThatDisagreeAboutTheFileAreRefused) {
  const auto check = [&](auto change) {
    ClusterConfig other = config_;
    change(&other);
    const auto region = Region::Attach(other, {kNode0});
    ASSERT_RAISES(Invalid, region);
    EXPECT_THAT(region.status().message(),
                AllOf(HasSubstr("hash over"), HasSubstr("one cluster file")));
  };
  check([](ClusterConfig* config) { config->posted_delay_us += 1; });
  check([](ClusterConfig* config) {
    config->settle_class = platform::SettleClass::kOrdered;
  });
  check([](ClusterConfig* config) { config->sim.seed += 1; });
  check([](ClusterConfig* config) { config->messages = Messages::kRings; });
  // What each host, or each run, may have as it likes.
  ClusterConfig same = config_;
  same.prealloc = true;
  same.heartbeat_ms += 1;
  same.spin_us += 1;
  same.messages = Messages::kSockets;
  same.user_quota_bytes = 4096;
  same.nodes = 3;
  EXPECT_OK(Region::Attach(same, {kNode0}).status());
}

TEST_F(RegionTest, OneBadSegmentDoesNotHideThoseBehindIt) {
  config_.nodes = 3;
  const auto region = Attach(kNode0);
  ClusterConfig other = config_;
  other.cluster_id = 7;
  ASSERT_OK(FormatSegment(other, kNode1));
  ASSERT_OK(FormatSegment(config_, NodeId{2}));
  const arrow::Status attached = region->AttachMissing();
  EXPECT_TRUE(attached.IsInvalid());
  EXPECT_THAT(attached.message(), HasSubstr("segment 1 in"));
  EXPECT_EQ(region->segment({1}), nullptr);
  EXPECT_NE(region->segment({2}), nullptr);
}

/// #5, F8: one that is off blocks nobody, whatever is where its memory was.
TEST_F(RegionTest, ABadSegmentOfANodeThatIsOffIsLeftOut) {
  config_.nodes = 3;
  ASSERT_OK(FormatSegment(config_, NodeId{2}));
  const auto region = Attach(kNode0, Role::kDaemon);
  ClusterConfig other = config_;
  other.cluster_id = 7;
  ASSERT_OK(FormatSegment(other, kNode1));
  EXPECT_RAISES(Invalid, Region::Attach(config_, {kNode0}));
  StoreCertifiedOff(&region->own_segment(), kNode1, 1);
  EXPECT_OK(region->AttachMissing());
  EXPECT_OK(Region::Attach(config_, {kNode0}));
  // One that was away, and has to be told yet, starts all the same.
  ASSERT_OK_AND_ASSIGN(const auto late, Region::Attach(config_, {NodeId{2}}));
  EXPECT_RAISES(Invalid, late->AttachMissing());
}

/// #5: files of a former life stay mapped, and are told from the new ones.
TEST_F(RegionTest, WhatWasFormattedAnewIsMappedAgain) {
  ASSERT_OK(FormatSegment(config_, kNode1));
  const auto region = Attach(kNode0, Role::kDaemon);
  const Segment* before = region->segment({1});
  EXPECT_FALSE(IsGivenUpSince(*before) || region->AttachAnew());
  ASSERT_OK(RemoveSegment(config_, kNode1));
  EXPECT_TRUE(IsGivenUpSince(*before));
  EXPECT_FALSE(region->AttachAnew());
  EXPECT_EQ(region->segment({1}), before);
  ASSERT_OK(FormatSegment(config_, kNode1));
  EXPECT_TRUE(region->AttachAnew());
  const Segment* after = region->segment({1});
  EXPECT_NE(after, before);
  EXPECT_FALSE(IsGivenUpSince(*after) || region->AttachAnew());
  EXPECT_EQ(LoadControlLine(*before, before->SlotLine(0))[0], 0);  // Still mapped.
  const Segment* own = &region->own_segment();
  ASSERT_OK(RemoveSegment(config_, kNode0));
  ASSERT_OK(FormatSegment(config_, kNode0));
  EXPECT_TRUE(IsGivenUpSince(*own));
  EXPECT_FALSE(region->AttachAnew());  // It is another daemon's.
  EXPECT_EQ(&region->own_segment(), own);
}

TEST_F(RegionTest, ANodeMayHaveLessThanTheOthers) {
  ClusterConfig config = config_;
  config.memory_folder += "-uneven";
  config.node_tables = {
      {.id = 1, .segment_size_bytes = format::kExtentBytes, .host = "", .address = ""}};
  ASSERT_OK(PrepareMemoryFolder(config));
  for (const NodeId node : {kNode0, kNode1}) ASSERT_OK(FormatSegment(config, node));
  ASSERT_OK_AND_ASSIGN(const auto region, Region::Attach(config, {kNode0}));
  EXPECT_EQ(region->segment({0})->data().size_bytes(), 2 * format::kExtentBytes);
  EXPECT_EQ(region->segment({1})->data().size_bytes(), format::kExtentBytes);
  EXPECT_EQ(config.total_size_bytes(), 3 * format::kExtentBytes);
  EXPECT_NE(region->Resolve({{{1}, 0}, format::kExtentBytes}), nullptr);
  EXPECT_EQ(region->Resolve({{{1}, 0}, format::kExtentBytes + 1}), nullptr);
  // Who has another file goes by what is there; the node itself does not.
  config.node_tables.clear();
  ASSERT_OK_AND_ASSIGN(const auto other, Region::Attach(config, {kNode0}));
  EXPECT_EQ(other->segment({1})->data().size_bytes(), format::kExtentBytes);
  EXPECT_THAT(PrepareSegment(config, kNode1).status().message(),
              HasSubstr("data size is 2097152, expected 4194304"));
  ASSERT_OK(RemoveMemoryFolder(config));
}

/// Where a range of `size` at `offset` of a part of `limit` bytes may begin and end.
TEST_F(RegionTest, PartsOfAnotherUserAreRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file to another user";
  for (const char* part : {"control", "leases", "data"}) {
    const std::string path = config_.segment_folder(SegmentId{0}) + "/" + part;
    ASSERT_EQ(::chown(path.c_str(), 12345, 0), 0);
    const auto attached = Region::Attach(config_, {{0}, Role::kClient, true});
    ASSERT_EQ(::chown(path.c_str(), 0, 0), 0);
    ASSERT_RAISES(IOError, attached);
    EXPECT_NE(attached.status().message().find(path + " is another user's"),
              std::string::npos)
        << attached.status();
  }
}

TEST_F(RegionTest, ResolveAndLocateAgreeForAnyOffset) {
  ASSERT_OK(FormatSegment(config_, kNode1));
  const auto region = Attach(kNode0);
  const uint64_t limit = config_.segment_size_bytes;
  std::mt19937_64 random(testing::TestSeed());
  const std::array<uint64_t, 8> edges = {
      0, 1, limit - 1, limit, limit + 1, ~uint64_t{0}, ~uint64_t{0} - limit, limit / 2};
  for (int i = 0; i < 100000; ++i) {
    const auto pick = [&] {
      const uint64_t r = random();
      return (r & 1) != 0 ? edges[(r >> 1) % edges.size()] : random() >> (r >> 58);
    };
    const GlobalRange range{{SegmentId{static_cast<uint32_t>(random() % 3)}, pick()},
                            pick()};
    const bool inside = range.begin.segment.value < 2 && range.begin.offset <= limit &&
                        range.size_bytes <= limit - range.begin.offset;
    uint8_t* const address = region->Resolve(range);
    ASSERT_EQ(address != nullptr, inside);
    if (!inside || range.begin.offset == limit) continue;
    ASSERT_EQ(region->Locate(address, range.size_bytes), range.begin);
    ASSERT_EQ(region->Locate(address, limit - range.begin.offset + 1), std::nullopt);
    ASSERT_EQ(region->Locate(address, ~uint64_t{0}), std::nullopt);
  }
  const int on_stack = 0;
  EXPECT_EQ(region->Locate(&on_stack, 1), std::nullopt);
  EXPECT_EQ(region->Locate(nullptr, 0), std::nullopt);
}

}  // namespace
}  // namespace sheaf::region
