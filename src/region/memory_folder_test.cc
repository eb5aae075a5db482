// What a cluster makes in its memory folder, and that nothing else is ever removed.

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/math.h"
#include "format/layout.h"
#include "platform/file.h"
#include "platform/process.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::region {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr NodeId kNode0{0};
constexpr uint64_t kVersionOffset = 8;  // docs/format.md, section 2

class MemoryFolderTest : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    config_.backend = GetParam();
    config_.ApplyDefaults();
  }

  static void Write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << text;
    ASSERT_EQ(Read(path), text);
  }
  static std::string Read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  std::string File(const std::string& name) const {
    return config_.memory_folder + "/" + name;
  }
  bool IsMounted() const {
    return platform::IsMountPoint(config_.memory_folder).ValueOrDie();
  }
  void PrepareAndFormat() {
    ASSERT_OK(PrepareMemoryFolder(config_));
    for (uint32_t k = 0; k < config_.nodes; ++k) {
      ASSERT_OK(FormatSegment(config_, NodeId{k}));
    }
  }
  void MakeUsersFolder() {
    ASSERT_OK(platform::MakePrivateFolder(config_.memory_folder));
    Write(File("thesis.txt"), "years of work");
  }

  TestMemory memory_;
  ClusterConfig config_ = memory_.Config();
};

INSTANTIATE_TEST_SUITE_P(Backends, MemoryFolderTest,
                         ::testing::Values(Backend::kShm, Backend::kFile, Backend::kSim),
                         [](const auto& backend) { return ToString(backend.param); });

TEST_P(MemoryFolderTest, WhatItMadeGoes) {
  PrepareAndFormat();
  ASSERT_OK(RemoveMemoryFolder(config_));
  EXPECT_FALSE(fs::exists(config_.memory_folder));
  ASSERT_OK(RemoveMemoryFolder(config_));
}

TEST_P(MemoryFolderTest, DraftsOfTheClusterFileGo) {
  PrepareAndFormat();
  Write(KeptClusterFilePath(config_), "name = 'test'");
  Write(KeptClusterFilePath(config_) + ".17.new", "nam");  // of a starter that died
  ASSERT_OK(RemoveMemoryFolder(config_));
  EXPECT_FALSE(fs::exists(config_.memory_folder));
}

TEST_P(MemoryFolderTest, NodesOfOtherHostsTakeNoMemoryHere) {
  config_.messages = Messages::kRings;  // as where nodes name hosts
  const uint64_t all_bytes = FullBytes(config_);
  config_.node_tables.resize(1);
  config_.node_tables[0].id = 1;
  config_.node_tables[0].host = "elsewhere";
  EXPECT_EQ(FullBytes(config_), all_bytes / 2);
}

TEST_P(MemoryFolderTest, FilesOfOthersStay) {
  MakeUsersFolder();
  Write(File("node0/notes.txt"), "mine");
  Write(File("node0/data.csv"), "1,2");
  Write(File("node7/nested/more.txt"), "mine");
  PrepareAndFormat();
  ASSERT_OK(Region::Attach(config_, {kNode0}));
  ASSERT_OK(RemoveMemoryFolder(config_));
  EXPECT_EQ(Read(File("thesis.txt")), "years of work");
  EXPECT_EQ(Read(File("node0/notes.txt")), "mine");
  EXPECT_EQ(Read(File("node0/data.csv")), "1,2");
  EXPECT_EQ(Read(File("node7/nested/more.txt")), "mine");
  EXPECT_FALSE(fs::exists(File("node0/control")));
  EXPECT_FALSE(fs::exists(File("node1")));
}

TEST_P(MemoryFolderTest, AnEmptyFolderOfTheUserStays) {
  ASSERT_OK(platform::MakePrivateFolder(config_.memory_folder));
  PrepareAndFormat();
  EXPECT_FALSE(IsMounted());
  ASSERT_OK(RemoveMemoryFolder(config_));
  EXPECT_TRUE(fs::is_empty(config_.memory_folder));
}

TEST_P(MemoryFolderTest, WhatTheUserPutIntoOursStays) {
  PrepareAndFormat();
  Write(File("thesis.txt"), "years of work");
  ASSERT_OK(RemoveMemoryFolder(config_));
  EXPECT_EQ(Read(File("thesis.txt")), "years of work");
  EXPECT_FALSE(fs::exists(File("node0")));
  fs::remove(File("thesis.txt"));
  ASSERT_OK(RemoveMemoryFolder(config_));
  EXPECT_FALSE(fs::exists(config_.memory_folder));
}

TEST_P(MemoryFolderTest, AFolderThatOthersMayWriteIsRefusedAndStays) {
  MakeUsersFolder();
  ASSERT_EQ(::chmod(config_.memory_folder.c_str(), 0777), 0);
  const auto prepared = PrepareMemoryFolder(config_);
  ASSERT_RAISES(IOError, prepared);
  EXPECT_THAT(prepared.message(), HasSubstr("is not private"));
  EXPECT_RAISES(IOError, RemoveMemoryFolder(config_));
  EXPECT_EQ(Read(File("thesis.txt")), "years of work");
}

TEST_P(MemoryFolderTest, AMountOfTheUserStays) {
  ASSERT_OK(platform::MakePrivateFolder(config_.memory_folder));
  if (!platform::MountHugeTmpfs(config_.memory_folder, uint64_t{1} << 30).ok()) {
    GTEST_SKIP() << "this user may not mount a tmpfs";
  }
  PrepareAndFormat();
  ASSERT_OK(RemoveMemoryFolder(config_));
  EXPECT_TRUE(IsMounted());
  EXPECT_TRUE(fs::is_empty(config_.memory_folder));
}

TEST_P(MemoryFolderTest, ALivingDaemonIsNamedAndNotTouched) {
  PrepareAndFormat();
  config_.runtime_folder = "/somewhere/run/test";
  std::optional<platform::FileLock> daemon;
  ASSERT_OK_AND_ASSIGN(daemon, LockSegment(config_, NodeId{1}));
  config_.runtime_folder = "/elsewhere/test";
  for (const arrow::Status& refused :
       {RemoveMemoryFolder(config_), LockSegment(config_, NodeId{1}).status()}) {
    ASSERT_RAISES(AlreadyExists, refused);
    EXPECT_THAT(refused.message(),
                HasSubstr("process " + std::to_string(platform::CurrentProcessId())));
    EXPECT_THAT(refused.message(),
                HasSubstr("SHEAF_RUNTIME_DIR=/somewhere/run sheaf --cluster test down"));
  }
  ASSERT_OK(Region::Attach(config_, {kNode0}));
  daemon.reset();
  ASSERT_OK(RemoveMemoryFolder(config_));
  EXPECT_FALSE(fs::exists(config_.memory_folder));
}

TEST_P(MemoryFolderTest, NodesOfALargerFormerClusterGo) {
  config_.nodes = 4;
  PrepareAndFormat();
  config_.nodes = 1;
  config_.cluster_id = 99;
  ASSERT_OK(RemoveMemoryFolder(config_));
  EXPECT_FALSE(fs::exists(config_.memory_folder));
}

TEST_P(MemoryFolderTest, ASegmentThatIsRefusedStays) {
  PrepareAndFormat();
  std::fstream control(File("node0/control"),
                       std::ios::binary | std::ios::in | std::ios::out);
  control.seekp(kVersionOffset).put(77);
  control.close();
  const std::string bytes = Read(File("node0/control"));
  for (const arrow::Status& refused :
       {RemoveSegment(config_, kNode0), FormatSegment(config_, kNode0),
        RemoveMemoryFolder(config_)}) {
    ASSERT_RAISES(Invalid, refused);
    EXPECT_THAT(refused.message(), HasSubstr("rm -r " + File("node0")));
  }
  EXPECT_TRUE(Read(File("node0/control")) == bytes);
  EXPECT_TRUE(fs::exists(File("node0/data")));
  EXPECT_FALSE(fs::exists(File("node1")));
  fs::remove_all(File("node0"));
  ASSERT_OK(RemoveMemoryFolder(config_));
  EXPECT_FALSE(fs::exists(config_.memory_folder));
}

TEST_P(MemoryFolderTest, FilesThatOnlyHaveTheNamesOfOursStay) {
  MakeUsersFolder();
  for (const std::string name : {"control", "data", "leases"}) {
    Write(File("node0/" + name), "mine");
    const auto refused = FormatSegment(config_, kNode0);
    ASSERT_RAISES(Invalid, refused);
    EXPECT_THAT(refused.message(), HasSubstr("not Sheaf's files"));
    EXPECT_RAISES(Invalid, RemoveMemoryFolder(config_));
    EXPECT_EQ(Read(File("node0/" + name)), "mine");
    fs::remove(File("node0/" + name));
  }
}

TEST_P(MemoryFolderTest, PreallocCountsAllThatIsAllocated) {
  MakeUsersFolder();
  if (!platform::MountHugeTmpfs(config_.memory_folder, FullBytes(config_) - 4096).ok()) {
    GTEST_SKIP() << "this user may not mount a tmpfs";
  }
  ASSERT_OK(PrepareMemoryFolder(config_));  // Only what is granted has to fit.
  config_.prealloc = true;
  const auto refused = PrepareMemoryFolder(config_);
  ASSERT_RAISES(OutOfMemory, refused);
  EXPECT_THAT(refused.message(), HasSubstr("available there: "));
}

class OwnTmpfs : public MemoryFolderTest {
 protected:
  void SetUp() override {
    MemoryFolderTest::SetUp();
    ASSERT_OK(PrepareMemoryFolder(config_));
    if (!IsMounted()) GTEST_SKIP() << "this user may not mount a tmpfs";
  }
};

INSTANTIATE_TEST_SUITE_P(Backends, OwnTmpfs, ::testing::Values(Backend::kShm),
                         [](const auto& backend) { return ToString(backend.param); });

TEST_P(OwnTmpfs, IsAsLargeAsTheClusterCanBeAndNoLarger) {
  struct statvfs status = {};
  ASSERT_EQ(::statvfs(config_.memory_folder.c_str(), &status), 0);
  const uint64_t size_bytes = status.f_blocks * status.f_frsize;
  EXPECT_GE(size_bytes, FullBytes(config_));
  EXPECT_LE(size_bytes, 3 * FullBytes(config_));
  for (uint32_t k = 0; k < config_.nodes; ++k) {
    ASSERT_OK(FormatSegment(config_, NodeId{k}));
    ASSERT_OK_AND_ASSIGN(const auto region,
                         Region::Attach(config_, {NodeId{k}, Role::kDaemon}));
    const Segment& own = region->own_segment();
    for (Part* part : {&own.control(), &own.leases(), &own.data()}) {
      ASSERT_OK(part->Allocate(0, part->size_bytes()));
    }
  }
}

TEST_P(OwnTmpfs, AnAbandonedFolderIsMadeAnew) {
  ASSERT_OK(platform::Unmount(config_.memory_folder));
  ASSERT_OK(PrepareMemoryFolder(config_));
  EXPECT_FALSE(IsMounted());  // Any empty folder is the user's...
  config_.name = "test" + std::to_string(platform::RandomBits() % 1'000'000'000);
  config_.memory_folder = DefaultMemoryFolder(config_.name);
  ASSERT_OK(platform::MakePrivateFolder(config_.memory_folder));
  ASSERT_OK(PrepareMemoryFolder(config_));
  EXPECT_TRUE(IsMounted());  // ... but one of the default name.
  ASSERT_OK(RemoveMemoryFolder(config_));
  EXPECT_FALSE(fs::exists(config_.memory_folder));
}

TEST_P(OwnTmpfs, MoreThanTheHostHasIsAnErrorAtTheGrant) {
  ASSERT_OK_AND_ASSIGN(const uint64_t available_bytes,
                       platform::FileSystemFreeBytes("/dev/shm"));
  ASSERT_OK(RemoveMemoryFolder(config_));
  config_.segment_size_bytes = RoundUp(2 * available_bytes, format::kExtentBytes);
  ASSERT_OK(PrepareMemoryFolder(config_));
  ASSERT_OK(FormatSegment(config_, kNode0));
  ASSERT_OK_AND_ASSIGN(const auto region, Region::Attach(config_, {kNode0}));
  const auto refused =
      region->own_segment().data().Allocate(0, config_.segment_size_bytes);
  ASSERT_RAISES(OutOfMemory, refused);
  EXPECT_THAT(refused.message(), HasSubstr(std::to_string(config_.segment_size_bytes) +
                                           " bytes of memory are needed"));
  EXPECT_THAT(refused.message(), HasSubstr("free there: "));
  EXPECT_THAT(refused.message(), Not(HasSubstr("free there: unknown")));
}

}  // namespace
}  // namespace sheaf::region
