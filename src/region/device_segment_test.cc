// Segments that are windows of a device. The device is a file here, which is mapped as
// one: real devices are in tests/kernels.

#include "region/device_segment.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <memory>
#include <string>
#include <thread>

#include <arrow/result.h>
#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/fault_point.h"
#include "format/checksum.h"
#include "format/format_claim.h"
#include "format/layout.h"
#include "platform/process.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/device_window.h"
#include "region/format_claim.h"
#include "region/region.h"
#include "region/segment_header.h"
#include "region/served_check.h"
#include "region/test_cluster.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::region {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr NodeId kNode0{0};
constexpr NodeId kNode1{1};
constexpr SegmentId kSegment1{1};
constexpr uint64_t kWindowBytes = TestMemory::kWindowBytes;

class DeviceSegment : public ::testing::Test {
 protected:
  void SetUp() override { config_.ApplyDefaults(); }
  std::string DevicePath() const { return memory_.path() + "/device"; }

  void Write(uint64_t offset, const std::string& bytes) {
    std::fstream file(DevicePath(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset)) << bytes;
    ASSERT_TRUE(file.flush().good());
  }
  std::string Read(uint64_t offset, size_t size) {
    std::string bytes(size, '?');
    std::ifstream file(DevicePath(), std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    file.read(bytes.data(), static_cast<std::streamsize>(size));
    return bytes;
  }
  uint64_t EpochOf(NodeId node) {
    auto region = Region::Attach(config_, {node});
    EXPECT_OK(region);
    return region.ok() ? (*region)->own_segment().header().format_epoch : 0;
  }
  std::string ErrorOf(const arrow::Status& status) {
    EXPECT_TRUE(status.IsInvalid() || status.IsIOError()) << status;
    return status.message();
  }

  TestMemory memory_;
  ClusterConfig config_ = memory_.ConfigOnDevice();
};

TEST_F(DeviceSegment, EachHasItsWindowAndNothingElse) {
  ASSERT_OK(FormatSegment(config_, kNode1));
  EXPECT_EQ(Read(0, kWindowBytes), std::string(kWindowBytes, '\0'));
  ASSERT_OK(FormatSegment(config_, kNode0));
  auto region = Region::Attach(config_, {kNode0, Role::kDaemon});
  ASSERT_OK(region);
  Part& data = (*region)->own_segment().data();
  ASSERT_OK(data.Allocate(0, data.size_bytes()));
  ASSERT_OK(data.SetWritable(0, data.size_bytes(), true));
  data.data()[data.size_bytes() - 1] = 'x';
  const Window window = WindowOf(config_, {0}, PartKind::kData);
  EXPECT_EQ(window.end(), kWindowBytes);
  EXPECT_EQ(Read(window.end() - 1, 1), "x");
  EXPECT_EQ(fs::file_size(DevicePath()), 2 * kWindowBytes);
}

TEST_F(DeviceSegment, WhatIsThereIsKeptAndGoesOnlyWhenItIsGivenUp) {
  ASSERT_OK_AND_ASSIGN(auto first, PrepareSegment(config_, kNode1));
  EXPECT_EQ(first, SegmentOrigin::kFormatted);
  const uint64_t epoch = EpochOf(kNode1);
  ASSERT_OK_AND_ASSIGN(auto second, PrepareSegment(config_, kNode1));
  EXPECT_EQ(second, SegmentOrigin::kKept);
  EXPECT_TRUE(HasSegments(config_));
  ASSERT_OK(RemoveMemoryFolder(config_));
  EXPECT_FALSE(HasSegments(config_));
  EXPECT_FALSE(fs::exists(config_.memory_folder));
  ASSERT_OK_AND_ASSIGN(auto third, PrepareSegment(config_, kNode1));
  EXPECT_EQ(third, SegmentOrigin::kFormatted);
  EXPECT_GT(EpochOf(kNode1), epoch);
}

TEST_F(DeviceSegment, BytesOfOthersAreNeverOverwrittenUnasked) {
  for (const uint64_t offset :
       {kWindowBytes, kWindowBytes + 1000,
        WindowOf(config_, kSegment1, PartKind::kLeases).offset,
        WindowOf(config_, kSegment1, PartKind::kData).offset + 4000}) {
    Write(offset, "a file system");
    const std::string before = Read(0, 2 * kWindowBytes);
    EXPECT_THAT(ErrorOf(PrepareSegment(config_, kNode1).status()),
                AllOf(HasSubstr("not Sheaf's"), HasSubstr("sheaf format --force"),
                      HasSubstr("segment 1 at 8MiB of " + DevicePath())));
    EXPECT_EQ(ErrorOf(RemoveSegment(config_, kNode1)).empty(), false);
    EXPECT_EQ(Read(0, 2 * kWindowBytes), before);
    ASSERT_OK(FormatAnyway(config_, kNode1));
    EXPECT_NE(EpochOf(kNode1), 0);
    ASSERT_OK(RemoveSegment(config_, kNode1));
    Write(kWindowBytes, std::string(kWindowBytes, '\0'));
  }
}

/// A clock that was wrong once, or a damaged header.
TEST_F(DeviceSegment, AWindowWhoseEpochsAreUsedUpBeginsAnewWhereThatIsAsked) {
  const auto set_epoch = [&](uint64_t epoch) {
    ASSERT_OK(FormatAnyway(config_, kNode1));
    ASSERT_OK_AND_ASSIGN(const auto region, Region::Attach(config_, {kNode1}));
    format::SegmentHeader header = region->own_segment().header();
    header.format_epoch = epoch;
    header.checksum = format::Checksum({reinterpret_cast<const uint8_t*>(&header),
                                        offsetof(format::SegmentHeader, checksum)});
    Write(kWindowBytes, {reinterpret_cast<const char*>(&header), sizeof(header)});
  };
  set_epoch(kFormatEpochMax);
  EXPECT_THAT(ErrorOf(FormatSegment(config_, kNode1)),
              AllOf(HasSubstr("used up"), HasSubstr("sheaf format --force")));
  ASSERT_OK(FormatAnyway(config_, kNode1));
  EXPECT_LT(EpochOf(kNode1), kFormatEpochMax);
  set_epoch(kFormatEpochMax + 1);
  ASSERT_OK(FormatSegment(config_, kNode1));
  EXPECT_LT(EpochOf(kNode1), kFormatEpochMax);
}

TEST_F(DeviceSegment, AnotherClustersSegmentIsRefused) {
  ASSERT_OK(FormatSegment(config_, kNode1));
  ClusterConfig other = config_;
  other.cluster_id = 0xBAD;
  for (const arrow::Status& status :
       {PrepareSegment(other, kNode1).status(), FormatSegment(other, kNode1),
        RemoveSegment(other, kNode1)}) {
    EXPECT_THAT(ErrorOf(status), HasSubstr("cluster id"));
  }
  EXPECT_NE(EpochOf(kNode1), 0);
}

TEST_F(DeviceSegment, OneThatDiesWhileItFormatsIsFollowedByTheNext) {
  for (const char* point : {"daemon.format.after-claim", "daemon.format.after-remove",
                            "daemon.format.after-create", "daemon.format.after-header",
                            "daemon.format.after-clear"}) {
    const int status = ExitStatusOfChild([&] {
      if (!ArmFaults(std::string(point) + "=kill").ok()) return 1;
      return FormatSegment(config_, kNode1).ok() ? 0 : 2;
    });
    EXPECT_TRUE(WIFSIGNALED(status)) << point;
    EXPECT_FALSE(HasSegments(config_)) << point;
    ASSERT_OK_AND_ASSIGN(auto origin, PrepareSegment(config_, kNode1));
    EXPECT_EQ(origin, SegmentOrigin::kFormatted);
    auto region = Region::Attach(config_, {kNode1});
    ASSERT_OK(region);
    EXPECT_EQ(PeekIncarnation((*region)->own_segment())->incarnation, 0);
  }
}

TEST_F(DeviceSegment, FormattedAnewItIsZero) {
  ASSERT_OK(FormatSegment(config_, kNode1));
  const Window leases = WindowOf(config_, kSegment1, PartKind::kLeases);
  const uint64_t records = kWindowBytes + LayoutOf(config_).records;
  Write(leases.end() - 1, "x");
  Write(records - 1, "x");
  ASSERT_OK(RemoveSegment(config_, kNode1));
  ASSERT_OK(FormatSegment(config_, kNode1));
  EXPECT_EQ(Read(leases.end() - 1, 1), std::string(1, '\0'));
  EXPECT_EQ(Read(records - 1, 1), std::string(1, '\0'));
}

TEST_F(DeviceSegment, TwoClustersOfAHostDoNotShareAWindow) {
  ASSERT_OK_AND_ASSIGN(const auto lock, LockSegment(config_, kNode1));
  ClusterConfig other = config_;
  other.memory_folder = memory_.path() + "/other";
  EXPECT_TRUE(LockSegment(other, kNode1).status().IsAlreadyExists());
  EXPECT_OK(LockSegment(other, kNode0));
}

TEST_F(DeviceSegment, ADeviceThatIsTooSmallOrMissingIsRefused) {
  fs::resize_file(DevicePath(), 2 * kWindowBytes - 1);
  EXPECT_THAT(ErrorOf(PrepareSegment(config_, kNode0).status()),
              AllOf(HasSubstr("node 1"), HasSubstr("data 4MiB"), HasSubstr("smaller")));
  fs::remove(DevicePath());
  EXPECT_THAT(ErrorOf(PrepareSegment(config_, kNode0).status()),
              AllOf(HasSubstr("there is no " + DevicePath()), HasSubstr("doctor")));
}

TEST_F(DeviceSegment, ADeviceOfAnotherKindIsRefused) {
  config_.backend = Backend::kDevdax;
  EXPECT_THAT(ErrorOf(PrepareSegment(config_, kNode0).status()),
              AllOf(HasSubstr("is of kind file"), HasSubstr("backend is devdax")));
  config_.node_tables[0].path = "/dev/null";
  EXPECT_THAT(ErrorOf(PrepareSegment(config_, kNode0).status()),
              HasSubstr("no DAX device"));
}

TEST_F(DeviceSegment, OneDeviceUnderTwoNamesIsFound) {
  const std::string alias = memory_.path() + "/alias";
  fs::create_symlink(DevicePath(), alias);
  config_.node_tables[1].path = alias;
  ASSERT_OK(PrepareSegment(config_, kNode0));  // A link may lead to a device.
  ASSERT_OK(PrepareSegment(config_, kNode1));
  config_.node_tables[1].offset_bytes = 0;
  EXPECT_THAT(ErrorOf(PrepareSegment(config_, kNode0).status()),
              HasSubstr("have the same segment"));
}

/// Two hosts, which share no lock: another process, with another name of its host.
class FormattedByTwo : public DeviceSegment {
 protected:
  void SetUp() override {
    DeviceSegment::SetUp();
    config_.suspect_after_ms = 500;
  }
  void TearDown() override {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  // 0 if it formats the window, 3 if it finds that another host does.
  template <typename Body>
  void OnOtherHost(const std::string& faults, Body body) {
    child_ = ::fork();
    if (child_ != 0) return;
    ::setenv("SHEAF_HOST", "b", 1);
    if (!faults.empty() && !ArmFaults(faults).ok()) ::_exit(1);
    const arrow::Status status = body();
    ::_exit(status.ok() ? 0 : status.IsAlreadyExists() ? 3 : 2);
  }
  void FormatOnOtherHost(const std::string& faults) {
    OnOtherHost(faults, [&] { return FormatSegment(config_, kNode1); });
  }
  int Wait() {
    int status = 0;
    EXPECT_EQ(::waitpid(child_, &status, WUNTRACED), child_);
    if (WIFSTOPPED(status)) return -1;
    child_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
  }
  pid_t child_ = 0;
};

/// #5: both did, and each served what the other overwrote.
TEST_F(FormattedByTwo, OneOfTwoGoesOn) {
  FormatOnOtherHost("daemon.format.after-claim=delay:2000");
  ASSERT_OK(ArmFaults("daemon.format.after-claim=delay:200"));
  const arrow::Status here = FormatSegment(config_, kNode1);
  ASSERT_OK(ArmFaults(""));
  const int there = Wait();
  EXPECT_EQ((here.ok() ? 1 : 0) + (there == 0 ? 1 : 0), 1) << here << ", " << there;
  if (!here.ok()) {
    EXPECT_THAT(here.message(), HasSubstr("host 'b' formats it at the same time"));
  }
  EXPECT_NE(EpochOf(kNode1), 0);
}

TEST_F(FormattedByTwo, WhoWasStoppedSeesThatAnotherHasIt) {
  for (const char* point : {"daemon.format.after-claim", "daemon.format.after-create",
                            "daemon.format.after-header", "daemon.format.after-clear"}) {
    SCOPED_TRACE(point);
    FormatOnOtherHost(std::string(point) + "=pause");
    ASSERT_EQ(Wait(), -1);
    ASSERT_OK(FormatSegment(config_, kNode1));  // It is taken for dead.
    const uint64_t epoch = EpochOf(kNode1);
    ASSERT_OK_AND_ASSIGN(const auto region,
                         Region::Attach(config_, {kNode1, Role::kDaemon}));
    UpdateIncarnation(&region->own_segment(),
                      [](format::IncarnationLine* line) { line->incarnation = 7; });
    ::kill(child_, SIGCONT);
    EXPECT_EQ(Wait(), 3);
    EXPECT_EQ(EpochOf(kNode1), epoch);
    EXPECT_EQ(PeekIncarnation(region->own_segment())->incarnation, 7);
    ASSERT_OK(RemoveSegment(config_, kNode1));
  }
}

TEST_F(FormattedByTwo, OneThatGoesOnIsLeftAlone) {
  OnOtherHost("", [&]() -> arrow::Status {
    ARROW_ASSIGN_OR_RAISE(const auto claim, FormatClaim::Write(config_, kSegment1));
    for (;;) {
      ARROW_RETURN_NOT_OK(claim->Check());
      platform::SleepFor(std::chrono::milliseconds(1));
    }
  });
  while (Read(kWindowBytes + format::kFormatClaimOffset, 8) == std::string(8, '\0')) {
    platform::SleepFor(std::chrono::milliseconds(1));
  }
  const arrow::Status status = FormatSegment(config_, kNode1);
  EXPECT_TRUE(status.IsAlreadyExists()) << status;
  EXPECT_THAT(status.message(), HasSubstr("host 'b'"));
  EXPECT_FALSE(HasSegments(config_));
}

/// Each found the other's word in its line, and stopped; it is no stranger's.
TEST_F(FormattedByTwo, WordsOfTwoThatAreMixedAreNobodysForLong) {
  const auto words_of = [](uint64_t id, const std::string& host) {
    format::FormatClaim claim{};
    claim.id = claim.boot = id;
    claim.magic = format::kFormatClaimMagic;
    host.copy(claim.host, sizeof(claim.host));
    return format::SealLine(claim);
  };
  format::LineWords mixed = words_of(17, "a");
  mixed[4] = words_of(18, "b")[4];
  const uint64_t at = kWindowBytes + format::kFormatClaimOffset;
  Write(at, {reinterpret_cast<const char*>(mixed.data()), sizeof(mixed)});
  ASSERT_OK(FormatSegment(config_, kNode1));
  ASSERT_OK(RemoveSegment(config_, kNode1));
  Write(kWindowBytes, std::string(kWindowBytes, '\0'));
  Write(at, "a file system");
  EXPECT_THAT(ErrorOf(FormatSegment(config_, kNode1)), HasSubstr("not Sheaf's"));
}

/// As the daemon of another host writes its lines.
class ServedElsewhere : public DeviceSegment {
 protected:
  void SetUp() override {
    DeviceSegment::SetUp();
    config_.suspect_after_ms = 1000;
    ASSERT_OK(FormatSegment(config_, kNode1));
    ASSERT_OK_AND_ASSIGN(region_, Region::Attach(config_, {kNode1, Role::kDaemon}));
    Say(format::NodeState::kUp, platform::BootNumber() + 1);
  }
  void Say(format::NodeState state, uint64_t boot) {
    UpdateIncarnation(&region_->own_segment(), [&](format::IncarnationLine* line) {
      line->incarnation = 1;
      line->boot = boot;
      line->state = static_cast<uint32_t>(state);
    });
  }
  uint64_t* Heart() {
    return region_->own_segment().NodeLine(format::NodeLine::kHeartbeat);
  }
  arrow::Status Check() { return CheckNotServed(config_, region_->own_segment()); }

  std::shared_ptr<Region> region_;
};

TEST_F(ServedElsewhere, AHeartThatBeatsIsAnothersNode) {
  std::atomic<bool> ends = false;
  std::thread heart([&] {
    for (uint64_t beats = 1; !ends; ++beats) {
      StoreControlWord(&region_->own_segment(), Heart(), beats);
      platform::SleepFor(std::chrono::milliseconds(1));
    }
  });
  const arrow::Status served = Check();
  const arrow::Status removed = RemoveSegment(config_, kNode1);
  const arrow::Status formatted = FormatAnyway(config_, kNode1);
  Say(format::NodeState::kUp, platform::BootNumber());  // The lock of this host tells.
  const arrow::Status here = Check();
  ends = true;
  heart.join();
  for (const arrow::Status& status : {served, removed, formatted}) {
    EXPECT_TRUE(status.IsAlreadyExists()) << status;
    EXPECT_THAT(status.message(), HasSubstr("node 1 of cluster 'test' runs on another"));
  }
  EXPECT_OK(here);
}

TEST_F(ServedElsewhere, AHeartThatStandsStillOrSaidThatItEndsIsNot) {
  EXPECT_OK(Check());
  Say(format::NodeState::kDown, platform::BootNumber() + 1);
  EXPECT_OK(Check());
  EXPECT_OK(RemoveSegment(config_, kNode1));
}

}  // namespace
}  // namespace sheaf::region
