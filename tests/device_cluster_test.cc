// A cluster whose segments are windows of one device, on the command line. The device is
// a file here; real ones are in tests/kernels.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "platform/file.h"
#include "region/cluster_config.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "tests/command_line.h"
#include "tests/joined_nodes.h"

namespace sheaf::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr uint64_t kWindowBytes = uint64_t{40} << 20;

class DeviceCluster : public JoinedNodes {
 protected:
  void SetUp() override {
    JoinedNodes::SetUp();
    ASSERT_OK(platform::CreateFile(Device(), 2 * kWindowBytes));
    std::string text =
        "name = '" + cluster_ +
        "'\nbackend = 'file'\ncoherence = 'software'\nsettle_class = 'arrived'\n"
        "segment_size = '32MiB'\nslots_max = 256\nrecords_size = '1MiB'\n"
        "lease_pages_max = 8\nnodes_max = 4\nheartbeat_ms = 10\nsuspect_after_ms = 500\n";
    for (int node = 0; node < 2; ++node) {
      text += "[[node]]\nid = " + std::to_string(node) + "\npath = '" + Device() +
              "'\noffset = '" + std::to_string(node * 40) + "MiB'\n";
    }
    WriteText("lab.toml", text);
  }
  std::string Device() const { return Path("device"); }
  std::string Config() const { return " --config " + Path("lab.toml"); }
  // As after a reboot of the host.
  void ForgetTheHost() {
    fs::remove_all(MemoryFolder());
    fs::remove_all(Path("run"));
  }
  bool IsFormatted(int node) {
    std::ifstream file(Device(), std::ios::binary);
    return file.seekg(static_cast<std::streamoff>(node * kWindowBytes)).get() != 0;
  }
};

TEST_F(DeviceCluster, TablesStayInTheDeviceUntilTheClusterIsGivenUp) {
  Start(0);
  Start(1);
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 1000)).code, 0);
  EXPECT_THAT(Sheaf("--node 1 head t").out, HasSubstr("name 0"));
  EXPECT_EQ(SheafJson("nodes")[1]["size_bytes"], 32 << 20);
  ASSERT_EQ(Sheaf("down --keep").code, 0);
  EXPECT_EQ(Sheaf("fsck").code, 0);
  ForgetTheHost();
  Start(1);
  Start(0);
  EXPECT_EQ(Sheaf("--node 1 verify t").code, 0);
  const Ran down = Sheaf("down");
  EXPECT_EQ(down.code, 0) << down.out;
  EXPECT_FALSE(IsFormatted(0) || IsFormatted(1));
  EXPECT_FALSE(fs::exists(MemoryFolder()));
  EXPECT_EQ(fs::file_size(Device()), 2 * kWindowBytes);
}

TEST_F(DeviceCluster, UpStartsAllAndGoesOnWithWhatWasKept) {
  const Ran up = Sheaf("up" + Config());
  ASSERT_EQ(up.code, 0) << up.out;
  EXPECT_THAT(up.out, Not(HasSubstr("warning")));
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 1000)).code, 0);
  ASSERT_EQ(Sheaf("down --keep").code, 0);
  ForgetTheHost();
  ASSERT_EQ(Sheaf("up" + Config()).code, 0);
  EXPECT_EQ(Sheaf("--node 1 verify t").code, 0);
}

TEST_F(DeviceCluster, ADaemonThatDiesIsFollowedByOneThatGoesOn) {
  Start(0);
  Start(1);
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 1000)).code, 0);
  EndDaemon(0);
  EXPECT_THAT(Sheaf("--node 1 head t").out, HasSubstr("name 0"));
  Start(0);
  ASSERT_EQ(Sheaf("put u " + Path("t.parquet")).code, 0);
}

TEST_F(DeviceCluster, FormatOverwritesOnlyWhatItIsToldTo) {
  std::fstream(Device(), std::ios::in | std::ios::out) << "not Sheaf's";
  const std::string format = "format --node 0" + Config();
  const Ran refused = Sheaf(format);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.out, HasSubstr("sheaf format --force"));
  const Ran daemon = Run(Command(0));
  EXPECT_EQ(daemon.code, 1);
  EXPECT_THAT(daemon.out, HasSubstr("sheaf format --force"));
  EXPECT_FALSE(fs::exists(MemoryFolder()));
  EXPECT_EQ(Sheaf(format + " --force").code, 0);
  EXPECT_THAT(Sheaf(format).out, HasSubstr("there is a segment of this cluster"));
  Start(0);
  EXPECT_THAT(Sheaf(format + " --force").out, HasSubstr("a daemon runs on it"));
  EXPECT_EQ(Sheaf("format" + Config()).code, 1);
}

TEST_F(DeviceCluster, AnotherClusterOnTheSameBytesIsRefused) {
  Start(0);
  std::string text =
      (std::stringstream() << std::ifstream(Path("lab.toml")).rdbuf()).str();
  text.replace(text.find(cluster_), cluster_.size(), "x" + cluster_);
  WriteText("other.toml", text);
  EXPECT_THAT(Run(Command(0, "other.toml")).out,
              HasSubstr("a daemon of another cluster of this host runs on it"));
  EXPECT_FALSE(fs::exists(region::DefaultMemoryFolder("x" + cluster_)));
  ASSERT_EQ(Sheaf("down --keep").code, 0);
  EXPECT_THAT(Run(Command(0, "other.toml")).out, HasSubstr("cluster id"));
  EXPECT_TRUE(IsFormatted(0));
}

TEST_F(DeviceCluster, DoctorLooksAtDevices) {
  const Json report = SheafJson("doctor" + Config());
  ASSERT_EQ(report["devices"].size(), 1);
  EXPECT_EQ(report["devices"][0]["size_bytes"], 2 * kWindowBytes);
  EXPECT_TRUE(report["devices"][0]["self_test_passed"]);
  EXPECT_GT(report["devices"][0]["load_after_flush_ns"], 0);
  EXPECT_THAT(report["problems"], IsEmpty());
  fs::resize_file(Device(), kWindowBytes);
  const Ran small = Sheaf("doctor" + Config());
  EXPECT_EQ(small.code, 1);
  EXPECT_THAT(small.out, AllOf(HasSubstr("node 1: its segment takes"),
                               HasSubstr("which has 40MiB")));
  EXPECT_THAT(Sheaf("doctor --device /dev/null").out, HasSubstr("no DAX device"));
}

TEST_F(DeviceCluster, IsNotGivenUpWhileAProcessHasItMapped) {
  Start(0);
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 1000)).code, 0);
  ASSERT_OK_AND_ASSIGN(auto store, Store::Connect({.cluster = cluster_, .node = 0}));
  const Ran down = Sheaf("down");
  EXPECT_EQ(down.code, 1);
  EXPECT_THAT(down.out, AllOf(HasSubstr("still uses node 0"), HasSubstr("are kept")));
  EXPECT_TRUE(IsFormatted(0));
  store = nullptr;
  EXPECT_EQ(Sheaf("down").code, 0);
  EXPECT_FALSE(IsFormatted(0));
}

}  // namespace
}  // namespace sheaf::testing
