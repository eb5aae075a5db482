#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/checksum.h"
#include "format/layout.h"
#include "platform/file.h"
#include "region/region.h"
#include "region/segment_header.h"
#include "region/test_cluster.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::region {
namespace {

using format::SegmentHeader;
using platform::Access;
using ::testing::HasSubstr;

constexpr NodeId kNode0{0};
constexpr SegmentId kSegment0{0};

class SegmentFormatTest : public ::testing::Test {
 protected:
  SegmentHeader Header() {
    auto region = Region::Attach(config_, {kNode0});
    EXPECT_OK(region);
    return region.ok() ? (*region)->own_segment().header() : SegmentHeader{};
  }

  /// Change the header in the file; `reseal` as one who means it would.
  template <typename Change>
  void Tamper(Change change, bool reseal = true) {
    const std::string path = config_.segment_folder(kSegment0) + "/control";
    auto fd = platform::OpenFile(path, Access::kReadWrite);
    ASSERT_OK(fd);
    auto mapping = platform::Mapping::Map(fd->get(), 4096, Access::kReadWrite);
    ASSERT_OK(mapping);
    SegmentHeader header;
    std::memcpy(&header, mapping->data(), sizeof(header));
    change(&header);
    if (reseal) {
      header.checksum = format::Checksum(
          {reinterpret_cast<const uint8_t*>(&header), offsetof(SegmentHeader, checksum)});
    }
    std::memcpy(mapping->data(), &header, sizeof(header));
  }

  std::string AttachError() {
    const auto region = Region::Attach(config_, {kNode0});
    EXPECT_TRUE(region.status().IsInvalid()) << region.status();
    return region.status().message();
  }

  TestMemory memory_;
  ClusterConfig config_ = memory_.Config();
};

TEST_F(SegmentFormatTest, EachFlippedByteOfTheHeaderIsRefused) {
  ASSERT_OK(FormatSegment(config_, kNode0));
  for (size_t i = 0; i < sizeof(SegmentHeader); ++i) {
    const auto flip = [i](SegmentHeader* h) { reinterpret_cast<uint8_t*>(h)[i] ^= 0x10; };
    Tamper(flip, false);
    EXPECT_THAT(AttachError(), HasSubstr("segment 0 in " + config_.memory_folder));
    Tamper(flip, false);
  }
  EXPECT_EQ(Header().magic, format::kSegmentMagic);
}

TEST_F(SegmentFormatTest, EachWrongFieldIsNamed) {
  ASSERT_OK(FormatSegment(config_, kNode0));
  const auto error_of = [&](auto member) {
    Tamper([&](SegmentHeader* h) { h->*member += 1; });
    std::string message = AttachError();
    Tamper([&](SegmentHeader* h) { h->*member -= 1; });
    return message;
  };
  EXPECT_THAT(error_of(&SegmentHeader::magic), HasSubstr("magic"));
  EXPECT_THAT(error_of(&SegmentHeader::version),
              HasSubstr("format version is 4, expected 3"));
  EXPECT_THAT(error_of(&SegmentHeader::segment), HasSubstr("segment is 1, expected 0"));
  EXPECT_THAT(error_of(&SegmentHeader::cluster_id), HasSubstr("cluster id"));
  EXPECT_THAT(error_of(&SegmentHeader::base_address), HasSubstr("base address"));
  EXPECT_THAT(error_of(&SegmentHeader::control_size_bytes), HasSubstr("control size"));
  EXPECT_THAT(error_of(&SegmentHeader::leases_size_bytes), HasSubstr("leases size"));
  EXPECT_THAT(error_of(&SegmentHeader::data_size_bytes), HasSubstr("data size"));
  EXPECT_THAT(error_of(&SegmentHeader::nodes_max),
              HasSubstr("nodes_max is 5, expected 4"));
  EXPECT_THAT(error_of(&SegmentHeader::slots_max), HasSubstr("slots_max"));
  EXPECT_THAT(error_of(&SegmentHeader::grants_max), HasSubstr("grants_max"));
  EXPECT_THAT(error_of(&SegmentHeader::lease_pages_max), HasSubstr("lease_pages_max"));
  EXPECT_THAT(error_of(&SegmentHeader::records_size_bytes), HasSubstr("records size"));
  EXPECT_THAT(error_of(&SegmentHeader::user_id), HasSubstr("user id"));
  EXPECT_THAT(error_of(&SegmentHeader::coherence), HasSubstr("coherence"));
  EXPECT_THAT(error_of(&SegmentHeader::agreement_hash), HasSubstr("hash over backend"));
  Tamper([](SegmentHeader* h) { h->format_epoch = uint64_t{1} << 31; });
  EXPECT_THAT(AttachError(), HasSubstr("format epoch"));
}

TEST_F(SegmentFormatTest, LeftoverIsTakenOverWithARisingEpoch) {
  ASSERT_OK(FormatSegment(config_, kNode0));
  const uint64_t first = Header().format_epoch;
  {
    ASSERT_OK_AND_ASSIGN(const auto region,
                         Region::Attach(config_, {kNode0, Role::kDaemon}));
    *region->own_segment().SlotLine(0) = 1;
  }
  ASSERT_OK(FormatSegment(config_, kNode0));
  const uint64_t second = Header().format_epoch;
  EXPECT_GT(second, first);
  ASSERT_OK_AND_ASSIGN(const auto region, Region::Attach(config_, {kNode0}));
  EXPECT_EQ(*region->own_segment().SlotLine(0), 0);
  Tamper([](SegmentHeader* h) { h->format_epoch = 2'000'000'000; });
  config_.segment_size_bytes *= 2;  // Another size and cluster may follow.
  config_.cluster_id = 99;
  ASSERT_OK(FormatSegment(config_, kNode0));
  EXPECT_EQ(Header().format_epoch, 2'000'000'001);
  Tamper([](SegmentHeader* h) { h->format_epoch = kFormatEpochMax; });
  const arrow::Status used_up = FormatSegment(config_, kNode0);
  EXPECT_TRUE(used_up.IsInvalid());
  EXPECT_THAT(used_up.message(), HasSubstr("rm -r " + config_.segment_folder(kSegment0)));
  // One that nobody can have had is lost.
  Tamper([](SegmentHeader* h) { h->format_epoch = kFormatEpochMax + 1; });
  ASSERT_OK(FormatSegment(config_, kNode0));
  EXPECT_LE(Header().format_epoch, kFormatEpochMax);
}

TEST_F(SegmentFormatTest, ReaderOfAFormerLifeKeepsItsBytes) {
  ASSERT_OK(FormatSegment(config_, kNode0));
  ASSERT_OK_AND_ASSIGN(const auto region, Region::Attach(config_, {kNode0}));
  ASSERT_OK(region->own_segment().data().SetWritable(0, 4096, true));
  region->own_segment().data().data()[7] = 77;
  ASSERT_OK(FormatSegment(config_, kNode0));
  ASSERT_OK(RemoveSegment(config_, kNode0));
  EXPECT_EQ(region->own_segment().data().data()[7], 77);
}

TEST_F(SegmentFormatTest, TornAndBlankLeftoversAreTakenOver) {
  ASSERT_OK(FormatSegment(config_, kNode0));
  Tamper([](SegmentHeader* h) { h->reserved[3] = 1; }, false);
  ASSERT_OK(FormatSegment(config_, kNode0));
  Tamper([](SegmentHeader* h) { h->magic = 0; }, false);
  ASSERT_OK(FormatSegment(config_, kNode0));
  ASSERT_EQ(::truncate((config_.segment_folder(kSegment0) + "/control").c_str(), 17), 0);
  ASSERT_OK(FormatSegment(config_, kNode0));
  EXPECT_NE(Header().format_epoch, 0);
}

TEST_F(SegmentFormatTest, OtherVersionsUsersAndFilesAreRefused) {
  ASSERT_OK(FormatSegment(config_, kNode0));
  const auto error = [&] {
    const auto status = FormatSegment(config_, kNode0);
    EXPECT_TRUE(status.IsInvalid()) << status;
    return status.message();
  };
  Tamper([](SegmentHeader* h) { h->version = format::kFormatVersion + 1; });
  EXPECT_THAT(error(), HasSubstr("another version of Sheaf made it"));
  Tamper([](SegmentHeader* h) { h->version = format::kFormatVersion, h->user_id += 1; });
  EXPECT_THAT(error(), HasSubstr("belongs to user id"));
  Tamper([](SegmentHeader* h) { h->magic = 1; });
  EXPECT_THAT(error(), HasSubstr("not Sheaf's files"));
}

TEST_F(SegmentFormatTest, BadArgumentsAreRefused) {
  EXPECT_RAISES(Invalid, FormatSegment(config_, NodeId{2}));
  config_.cluster_id = 0;
  EXPECT_RAISES(Invalid, FormatSegment(config_, kNode0));
}

TEST_F(SegmentFormatTest, RemoveIsIdempotent) {
  ASSERT_OK(FormatSegment(config_, kNode0));
  ASSERT_OK(RemoveSegment(config_, kNode0));
  ASSERT_OK(RemoveSegment(config_, kNode0));
  EXPECT_RAISES(IOError, Region::Attach(config_, {kNode0}));
}

TEST(FormatEpoch, RisesAndIsNeverReused) {
  constexpr int64_t kNow = 1577836800 + 1'000'000;
  EXPECT_EQ(NextFormatEpoch(5, kNow, 0), 1'000'000);
  EXPECT_EQ(NextFormatEpoch(1'000'000, kNow, 0), 1'000'001);
  EXPECT_EQ(NextFormatEpoch(2'000'000, kNow, 0), 2'000'001);
  EXPECT_EQ(NextFormatEpoch(0, kNow, 0x123456), (1'000'000 & ~0xFF) | 0x56);
  EXPECT_GT(NextFormatEpoch(0, 0, 0), 0);  // A clock before 2020.
}

/// A tmpfs of 1 MiB, for what happens when memory ends. Only root may mount.
class FullMemoryTest : public SegmentFormatTest {
 protected:
  void SetUp() override {
    ASSERT_OK(platform::MakePrivateFolder(config_.memory_folder));
    if (!platform::MountHugeTmpfs(config_.memory_folder, uint64_t{1} << 20).ok()) {
      GTEST_SKIP() << "this user may not mount a tmpfs";
    }
  }
};

TEST_F(FullMemoryTest, AllocateSaysWhatIsFreeAndWhatToDo) {
  ASSERT_OK(FormatSegment(config_, kNode0));
  ASSERT_OK_AND_ASSIGN(const auto region, Region::Attach(config_, {kNode0}));
  Part& data = region->own_segment().data();
  ASSERT_OK(data.Allocate(0, 64 << 10));
  ASSERT_OK(data.SetWritable(0, 64 << 10, true));
  data.data()[0] = 1;
  const auto status = data.Allocate(0, uint64_t{2} << 20);
  ASSERT_RAISES(OutOfMemory, status);
  EXPECT_THAT(status.message(), HasSubstr("free there: "));
  EXPECT_THAT(status.message(), HasSubstr("--size"));
  EXPECT_EQ(data.data()[0], 1);
  ASSERT_OK(data.Allocate(64 << 10, 64 << 10));
}

TEST_F(FullMemoryTest, FormatLeavesNothingHalfMade) {
  config_.segment_size_bytes = uint64_t{4} << 30;  // Its grant lines take 4 MiB.
  const auto status = FormatSegment(config_, kNode0);
  ASSERT_RAISES(OutOfMemory, status);
  EXPECT_THAT(status.message(), HasSubstr("free there: "));
  EXPECT_FALSE(std::filesystem::exists(config_.segment_folder(kSegment0)));
}

TEST_F(SegmentFormatTest, PreparedFolderGivesHugePagesWhereWeMayMount) {
  ASSERT_OK(PrepareMemoryFolder(config_));
  ASSERT_OK(PrepareMemoryFolder(config_));
  ASSERT_OK(FormatSegment(config_, kNode0));
  ASSERT_OK(PrepareMemoryFolder(config_));
  ASSERT_OK_AND_ASSIGN(const auto region, Region::Attach(config_, {kNode0}));
  Part& data = region->own_segment().data();
  ASSERT_OK(data.Allocate(0, uint64_t{2} << 20));
  volatile uint8_t first = data.data()[0];
  EXPECT_EQ(first, 0);
  ASSERT_OK_AND_ASSIGN(const bool mounted, platform::IsMountPoint(config_.memory_folder));
  if (mounted) {
    ASSERT_OK_AND_ASSIGN(const uint64_t page_bytes,
                         platform::BackingPageSize(data.data()));
    EXPECT_GT(page_bytes, 4096);
  }
  ASSERT_OK(RemoveMemoryFolder(config_));
  ASSERT_OK(RemoveMemoryFolder(config_));
  EXPECT_FALSE(std::filesystem::exists(config_.memory_folder));
}

TEST_F(SegmentFormatTest, FolderThatCannotHoldTheClusterIsRefused) {
  config_.segment_size_bytes = uint64_t{20} << 40;
  config_.prealloc = true;
  const auto status = PrepareMemoryFolder(config_);
  ASSERT_RAISES(OutOfMemory, status);
  EXPECT_THAT(status.message(), HasSubstr("needs 419"));  // 40 TiB and what leads to it.
  EXPECT_THAT(status.message(), HasSubstr("2 segments of 20TiB"));
  EXPECT_THAT(status.message(), HasSubstr("available there: "));
  EXPECT_THAT(status.message(), HasSubstr("smaller --size"));
  EXPECT_FALSE(std::filesystem::exists(config_.memory_folder));
}

}  // namespace
}  // namespace sheaf::region
