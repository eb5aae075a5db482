#include "region/cluster_config.h"

#include <stdlib.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "platform/cache.h"
#include "region/test_cluster.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::region {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string ErrorOf(const std::string& toml) {
  const auto config = ClusterConfig::FromToml(toml, "c.toml");
  EXPECT_TRUE(config.status().IsInvalid()) << toml;
  return config.status().message();
}

TEST(ClusterConfig, TomlRoundTripKeepsEveryValue) {
  ClusterConfig config;
  config.name = "a-b_c.d";
  config.cluster_id = 0xFEDCBA9876543210;
  config.backend = Backend::kSim;
  config.sim = {.chaos = true, .posted = true, .seed = ~uint64_t{0}, .line_bytes = 128};
  config.posted_delay_us = 17;
  config.base_address = 0x300000000000;
  config.nodes = 3;
  config.nodes_max = 5;
  config.memory_folder = "/dev/shm/\"quoted\" \\ \n\x7F ü";
  config.runtime_folder = "/run/x";
  config.segment_size_bytes = uint64_t{6} << 20;
  config.session_quota_bytes = uint64_t{3} << 20;
  config.user_quota_bytes = uint64_t{5} << 30;
  config.slots_max = 7;
  config.lease_pages_max = 9;
  config.records_size_bytes = 12288;
  config.prealloc = true;
  config.huge_pages = false;
  config.messages = Messages::kRings;
  config.spin_us = 40;
  config.node_tables = {
      {.id = 2,
       .segment_size_bytes = uint64_t{2} << 20,
       .host = "b",
       .address = "b.lab:7100"},
      {.id = 0, .segment_size_bytes = uint64_t{4} << 20, .host = "", .address = ""}};
  config.etcd = {.access = {.endpoints = "https://a:1,https://b:2",
                            .tls = {"/ca", "/cert", "/key"},
                            .user = "sheaf",
                            .password_file = "/secret"},
                 .prefix = "/x",
                 .time_to_live_s = 3,
                 .fence_command = "/fence"};
  config.ApplyDefaults();
  EXPECT_EQ(config.coherence, Coherence::kSoftware);
  EXPECT_EQ(config.settle_class, platform::SettleClass::kPosted);
  ASSERT_OK(config.Validate());
  ASSERT_OK_AND_ASSIGN(const ClusterConfig read,
                       ClusterConfig::FromToml(config.ToToml(), "c.toml"));
  EXPECT_EQ(read, config) << config.ToToml();
}

TEST(ClusterConfig, MessagesGoThroughRingsWhereNodesNameHosts) {
  const auto kind = [](const std::string& text) {
    return ClusterConfig::FromToml(text, "c").ValueOrDie().messages_kind();
  };
  const std::string hosts =
      "[[node]]\nid = 0\nhost = 'a'\n[[node]]\nid = 1\nhost = 'b'\n";
  EXPECT_EQ(kind(""), Messages::kSockets);
  EXPECT_EQ(kind("messages = 'rings'"), Messages::kRings);
  EXPECT_EQ(kind(hosts), Messages::kRings);
  EXPECT_EQ(kind("messages = 'sockets'\n[[node]]\nid = 0\nhost = 'a'"),
            Messages::kSockets);
  EXPECT_THAT(ErrorOf("messages = 'sockets'\n" + hosts),
              HasSubstr("messages: \"sockets\" reach no other host"));
  EXPECT_THAT(ErrorOf("messages = 'pigeons'"), HasSubstr("none of sockets, rings"));
  EXPECT_THAT(ErrorOf("spin_us = -1"), HasSubstr("spin_us"));
  for (const char* address : {"a", "a:", ":7", "a:0", "a:65536", "a:7x"}) {
    EXPECT_THAT(ErrorOf(std::string("[[node]]\nid = 0\naddress = '") + address + "'"),
                HasSubstr("node[0].address: '"))
        << address;
  }
  ASSERT_OK_AND_ASSIGN(
      const auto config,
      ClusterConfig::FromToml("[[node]]\nid = 1\naddress = '[::1]:7100'", "c"));
  EXPECT_EQ(config.address_of({1}), "[::1]:7100");
  EXPECT_EQ(config.address_of({0}), "");
}

TEST(ClusterConfig, TomlRoundTripKeepsGroups) {
  ClusterConfig config;
  config.group = "some \"readers\"";
  config.group_write = "17";
  config.ApplyDefaults();
  ASSERT_OK_AND_ASSIGN(const ClusterConfig read,
                       ClusterConfig::FromToml(config.ToToml(), "c.toml"));
  EXPECT_EQ(read, config) << config.ToToml();
  EXPECT_EQ(read.socket_group(), config.group);
}

TEST(ClusterConfig, RefusesBadTablesOfEtcd) {
  const std::string begin = "[etcd]\nendpoints = 'http://a:1'\n";
  ASSERT_OK_AND_ASSIGN(const ClusterConfig config, ClusterConfig::FromToml(begin, "c"));
  EXPECT_TRUE(config.etcd.is_used());
  EXPECT_EQ(config.etcd.prefix, "/sheaf");
  EXPECT_THAT(ErrorOf("[etcd]\nprefix = '/a'"), HasSubstr("etcd.endpoints: is missing"));
  EXPECT_THAT(ErrorOf(begin + "prefix = '/a/'"), HasSubstr("c.toml:3: etcd.prefix"));
  EXPECT_THAT(ErrorOf(begin + "time_to_live_s = 0"),
              HasSubstr("c.toml:3: etcd.time_to_live_s"));
  EXPECT_THAT(ErrorOf(begin + "cert_file = '/c'"), HasSubstr("c.toml:3: etcd.cert_file"));
  EXPECT_THAT(ErrorOf(begin + "fence_command = 'off'"),
              HasSubstr("c.toml:3: etcd.fence_command: 'off' is not an absolute path"));
  EXPECT_THAT(ErrorOf(begin + "user = 'x'"), HasSubstr("c.toml:3: etcd.user"));
  EXPECT_THAT(ErrorOf(begin + "user = 'x'\npassword_file = 'p'"),
              HasSubstr("c.toml:4: etcd.password_file: 'p' is not an absolute path"));
  EXPECT_THAT(ErrorOf(begin + "password = 'secret'"),
              AllOf(HasSubstr("c.toml:3: etcd.password"), Not(HasSubstr("secret"))));
}

TEST(ClusterConfig, EmptyFileGivesDefaults) {
  ASSERT_OK_AND_ASSIGN(const ClusterConfig config, ClusterConfig::FromToml("", "c.toml"));
  EXPECT_EQ(config.name, "default");
  EXPECT_EQ(config.memory_folder, DefaultMemoryFolder("default"));
  EXPECT_EQ(config.runtime_folder, RuntimeRoot() + "/default");
  EXPECT_EQ(config.posted_delay_us, 1000);
}

TEST(ClusterConfig, SizesAreTextOrIntegers) {
  ASSERT_OK_AND_ASSIGN(
      ClusterConfig config,
      ClusterConfig::FromToml("segment_size = '64 MiB'\nrecords_size = 8192", "c"));
  EXPECT_EQ(config.segment_size_bytes, uint64_t{64} << 20);
  EXPECT_EQ(config.records_size_bytes, 8192);
}

TEST(ClusterConfig, ErrorsNameFileLineAndKey) {
  EXPECT_THAT(ErrorOf("\nnodez = 2"), HasSubstr("c.toml:2: nodez: is not a known key"));
  EXPECT_THAT(ErrorOf("[sim]\n\nfoo = 1"), HasSubstr("c.toml:3: sim.foo"));
  EXPECT_THAT(ErrorOf("name = 3"), HasSubstr("c.toml:1: name: must be a string"));
  EXPECT_THAT(ErrorOf("nodes = '2'"), HasSubstr("nodes: must be an integer"));
  EXPECT_THAT(ErrorOf("nodes = -1"), HasSubstr("nodes: must be an integer in 1 .. 4096"));
  EXPECT_THAT(ErrorOf("prealloc = 1"), HasSubstr("prealloc: must be true or false"));
  EXPECT_THAT(ErrorOf("sim = 1"), HasSubstr("sim: must be a table"));
  EXPECT_THAT(ErrorOf("backend = 'gpu'"), HasSubstr("'gpu' is none of shm, file, sim"));
  EXPECT_THAT(ErrorOf("segment_size = '4 GB'"), HasSubstr("'4 GB' is not a size"));
  EXPECT_THAT(ErrorOf("segment_size = -4"), HasSubstr("segment_size: must be"));
  EXPECT_THAT(ErrorOf("\nname = "), HasSubstr("c.toml:2: "));
}

// toml++ asserts, or has the compiler assume, that these do not come: #4.
/// A home that looks more often than its own clock ticks would find a gap in its sampling
/// each time, and suspect nobody (F1).
TEST(ClusterConfig, TooManyLooksInTooShortATimeAreRefused) {
  EXPECT_THAT(ErrorOf("heartbeat_ms = 1\nsuspect_after_ms = 499\nsuspect_samples = 10\n"),
              HasSubstr("suspect_after_ms"));
  ASSERT_OK(ClusterConfig::FromToml(
      "heartbeat_ms = 1\nsuspect_after_ms = 500\nsuspect_samples = 10\n", "c.toml"));
  EXPECT_THAT(
      ErrorOf("heartbeat_ms = 100\nsuspect_after_ms = 999\nsuspect_samples = 10\n"),
      HasSubstr("suspect_after_ms"));
}

TEST(ClusterConfig, WhatTheParserDoesNotSurviveIsRefused) {
  for (const char* text : {"[&", "nodes = 1\n [[ [", "[\r0", "x=1115-02-ss 0\r4"}) {
    EXPECT_THAT(ErrorOf(text), HasSubstr("c.toml: this is not TOML"));
  }
  for (const char* text :
       {"ü", "nodes = 1 ü", "'\\'ü = 1", "nodes = 0\"ü\"", "nodes = '' ü",
        "nodes = \"\\\"\" ü", "\"ü\" = 1", "\"#\"ü = 1", "sim = {\"#\"ü"}) {
    EXPECT_THAT(ErrorOf(text), HasSubstr("c.toml:1: only strings and comments"));
  }
  EXPECT_THAT(ErrorOf("x = [\n1=\"ü\"]"), HasSubstr("c.toml:1: arrays"));
  EXPECT_THAT(ErrorOf("name = \"\"\"x\"\"\""), HasSubstr("c.toml:1: strings of several"));
}

TEST(ClusterConfig, CharactersBeyondAsciiAreForStringsAndComments) {
  ASSERT_OK_AND_ASSIGN(
      const ClusterConfig config,
      ClusterConfig::FromToml(
          "memory_folder = \"/tmp/\\\"[ü\" # ä[\n# ß[\nruntime_folder='/\\'#[ü\n [sim]",
          "c.toml"));
  EXPECT_EQ(config.memory_folder, "/tmp/\"[ü");
  EXPECT_EQ(config.runtime_folder, "/\\");
}

TEST(ClusterConfig, TheSimulatorIsForItsOwnUser) {
  EXPECT_THAT(ErrorOf("backend = 'sim'\ngroup = 'x'"),
              HasSubstr("c.toml:2: group: backend sim is for its own user"));
  EXPECT_THAT(ErrorOf("backend = 'sim'\ngroup_write = 'x'"),
              HasSubstr("c.toml:2: group_write: backend sim"));
}

TEST(ClusterConfig, ValuesOutOfRangeNameLineAndKey) {
  EXPECT_THAT(ErrorOf("\nnodes = 65"),
              HasSubstr("c.toml:2: nodes: 65 is not in 1 .. 64"));
  EXPECT_THAT(ErrorOf("nodes_max = 4097"), HasSubstr("nodes_max: 4097"));
  EXPECT_THAT(ErrorOf("segment_size = '3MiB'"), HasSubstr("multiple of 2MiB"));
  EXPECT_THAT(ErrorOf("segment_size = 0"), HasSubstr("segment_size"));
  EXPECT_THAT(ErrorOf("records_size = 100"), HasSubstr("records_size"));
  EXPECT_THAT(ErrorOf("slots_max = 0"), HasSubstr("slots_max"));
  EXPECT_THAT(ErrorOf("posted_delay_us = -1"), HasSubstr("posted_delay_us"));
  EXPECT_THAT(ErrorOf("base_address = 4097"), HasSubstr("base_address"));
  EXPECT_THAT(ErrorOf("base_address = '0x7FFFFFE00000'"), HasSubstr("base_address"));
  EXPECT_THAT(ErrorOf("name = ''"), HasSubstr("name"));
  EXPECT_THAT(ErrorOf("name = 'a/b'"), HasSubstr("name"));
  EXPECT_THAT(ErrorOf("name = '..'"), HasSubstr("name"));
  EXPECT_THAT(ErrorOf("memory_folder = 'here'"), HasSubstr("absolute"));
  EXPECT_THAT(ErrorOf("backend = 'file'"),
              HasSubstr("memory_folder: backend file needs"));
  EXPECT_THAT(ErrorOf("\ncoherence = 'coherent'\nbackend = 'sim'"),
              HasSubstr("c.toml:2: coherence: backend sim has coherence \"software\""));
  EXPECT_THAT(ErrorOf("\n[sim]\nline_bytes = 32"), HasSubstr("c.toml:3: sim.line_bytes"));
}

TEST(ClusterConfig, TablesOfNodesSayHowManyThereAre) {
  ASSERT_OK_AND_ASSIGN(
      ClusterConfig config,
      ClusterConfig::FromToml("segment_size = '8MiB'\n[[node]]\nid = 2\nsize = '2MiB'\n"
                              "[[node]]\nid = 0\n",
                              "c"));
  EXPECT_EQ(config.nodes, 3);
  EXPECT_EQ(config.size_bytes_of({0}), uint64_t{8} << 20);
  EXPECT_EQ(config.size_bytes_of({1}), uint64_t{8} << 20);
  EXPECT_EQ(config.size_bytes_of({2}), uint64_t{2} << 20);
  EXPECT_EQ(config.total_size_bytes(), uint64_t{18} << 20);
  config.segment_size_bytes = uint64_t{4} << 20;  // as an option may say
  ASSERT_OK(config.Validate());
  EXPECT_EQ(config.size_bytes_of({0}), uint64_t{4} << 20);
  ASSERT_OK_AND_ASSIGN(config,
                       ClusterConfig::FromToml("nodes = 5\n[[node]]\nid = 1", "c"));
  EXPECT_EQ(config.nodes, 5);
}

TEST(ClusterConfig, BadTablesOfNodesAreRefused) {
  EXPECT_THAT(ErrorOf("\n[[node]]\nsize = '2MiB'"),
              HasSubstr("c.toml:2: node[0].id: is missing"));
  EXPECT_THAT(ErrorOf("[[node]]\nid = 0\n\nfoo = 1"),
              HasSubstr("c.toml:4: node[0].foo: is not a known key"));
  EXPECT_THAT(ErrorOf("[node]\nid = 0"), HasSubstr("c.toml:1: node: must be tables"));
  EXPECT_THAT(ErrorOf("nodes = 2\n[[node]]\nid = 0\n[[node]]\nid = 2"),
              HasSubstr("c.toml:5: node[1].id: 2 of a cluster with nodes 0 to 1"));
  EXPECT_THAT(ErrorOf("[[node]]\nid = 1\n[[node]]\nid = 1"),
              HasSubstr("c.toml:4: node[1].id: there are two tables for node 1"));
  EXPECT_THAT(ErrorOf("nodes_max = 4\n[[node]]\nid = 0\n[[node]]\nid = 9"),
              HasSubstr("c.toml:5: node[1].id: 9 is not below nodes_max (4)"));
  EXPECT_THAT(ErrorOf("[[node]]\nid = 64"), HasSubstr("c.toml:2: node[0].id: 64 is not"));
  EXPECT_THAT(ErrorOf("[[node]]\nid = 4294967295"), HasSubstr("node[0].id: 4294967295"));
  EXPECT_THAT(ErrorOf("[[node]]\nid = 0\nsize = '1MiB'"),
              HasSubstr("c.toml:3: node[0].size: 1MiB is not a positive multiple"));
  EXPECT_THAT(ErrorOf("segment_size = '4MiB'\n[[node]]\nid = 0\nsize = '6MiB'"),
              HasSubstr("c.toml:4: node[0].size: 6MiB is more than segment_size, 4MiB"));
}

TEST(ClusterConfig, SocketPathsThatDoNotFitAreRefused) {
  const std::string folder = "/tmp/" + std::string(91, 'x');
  EXPECT_THAT(ErrorOf("runtime_folder = '" + folder + "'"),
              HasSubstr("SHEAF_RUNTIME_DIR"));
  ASSERT_OK_AND_ASSIGN(
      const ClusterConfig config,
      ClusterConfig::FromToml(
          "nodes_max = 9\nruntime_folder = '" + folder.substr(0, 90) + "'", "c"));
  EXPECT_LE(config.socket_path(NodeId{8}).size(), 107);
}

TEST(ClusterConfig, SegmentsLieSideBySide) {
  ClusterConfig config;
  EXPECT_EQ(config.segment_base_address(SegmentId{0}), config.base_address);
  EXPECT_EQ(config.segment_base_address(SegmentId{3}),
            config.base_address + 3 * config.segment_size_bytes);
  EXPECT_EQ(config.grants_max(), config.segment_size_bytes >> 16);
}

TEST(ClusterConfig, LoadOfMissingFileSaysWhatToDo) {
  const auto config = ClusterConfig::Load("/nonexistent/cluster.toml");
  ASSERT_RAISES(KeyError, config);
  EXPECT_THAT(config.status().message(), HasSubstr("sheaf up"));
}

TEST(ClusterConfig, LoadOfAFolderIsRefused) {
  EXPECT_RAISES(Invalid, ClusterConfig::Load("/tmp"));
}

TEST(ClusterConfig, LoadReadsWhatWasWritten) {
  const TestMemory memory;
  const ClusterConfig config = memory.Config();
  const std::string path = memory.Config().memory_folder + ".toml";
  std::ofstream(path) << config.ToToml();
  ASSERT_OK_AND_ASSIGN(const ClusterConfig read, ClusterConfig::Load(path));
  EXPECT_EQ(read, config);
}

TEST(RuntimeRoot, IsAbsolute) {
  ::setenv("SHEAF_RUNTIME_DIR", "here", 1);
  const std::string root = RuntimeRoot();
  ::unsetenv("SHEAF_RUNTIME_DIR");
  EXPECT_EQ(root, std::filesystem::current_path().string() + "/here");
}

TEST(Size, TextIsReadBackExactly) {
  for (const uint64_t size : {uint64_t{0}, uint64_t{1}, uint64_t{1023}, uint64_t{1} << 10,
                              uint64_t{3} << 30, uint64_t{5} << 40, ~uint64_t{0}}) {
    ASSERT_OK_AND_ASSIGN(const uint64_t read, ParseSize(FormatSize(size)));
    EXPECT_EQ(read, size);
  }
  EXPECT_EQ(FormatSize(uint64_t{4} << 30), "4GiB");
}

TEST(Size, FractionsOfAUnitAreUnderstood) {
  ASSERT_OK_AND_ASSIGN(const uint64_t half, ParseSize("4.5GiB"));
  EXPECT_EQ(half, uint64_t{9} << 29);
  ASSERT_OK_AND_ASSIGN(const uint64_t small, ParseSize("0.000001 TiB"));
  EXPECT_EQ(small, 1099511);  // Rounded down.
  ASSERT_OK_AND_ASSIGN(const uint64_t largest, ParseSize("16777215.999999TiB"));
  EXPECT_EQ(largest >> 40, 16777215);
}

TEST(Size, NonsenseIsRefused) {
  for (const char* text : {"", "GiB", "-1", "1.GiB", ".5GiB", "1.5", "1.5B", "1.5.5GiB",
                           "1.1234567GiB", "16777216.0TiB", "4gib", "4GiBs",
                           "99999999999TiB", "18446744073709551616", "0x10"}) {
    EXPECT_RAISES(Invalid, ParseSize(text)) << text;
  }
}

/// Two nodes with 8 MiB windows.
std::string OnDevice(const std::string& more, const std::string& second) {
  return "backend = 'devdax'\nsegment_size = '4MiB'\nslots_max = 256\n"
         "records_size = '64KiB'\nlease_pages_max = 8\nnodes_max = 4\n" +
         more + "[[node]]\nid = 0\npath = '/dev/dax0.0'\n[[node]]\nid = 1\n" + second;
}
constexpr const char* kDeclared = "coherence = 'software'\nsettle_class = 'posted'\n";

TEST(ClusterConfigDevices, AreReadAndWrittenBack) {
  const std::string text = OnDevice(kDeclared, "path = '/dev/dax0.0'\noffset = '8MiB'\n");
  ASSERT_OK_AND_ASSIGN(const auto config, ClusterConfig::FromToml(text, "c.toml"));
  EXPECT_EQ(config.backend, Backend::kDevdax);
  EXPECT_TRUE(config.UsesDevices());
  EXPECT_EQ(config.FindNode(1)->offset_bytes, 8 << 20);
  EXPECT_EQ(config.memory_folder, DefaultMemoryFolder("default"));
  ASSERT_OK_AND_ASSIGN(const auto again,
                       ClusterConfig::FromToml(config.ToToml(), "c.toml"));
  EXPECT_EQ(again, config);
}

TEST(ClusterConfigDevices, VisibilityMustBeDeclared) {
  const std::string second = "path = '/dev/dax0.0'\noffset = '8MiB'\n";
  EXPECT_THAT(ErrorOf(OnDevice("settle_class = 'posted'\n", second)),
              HasSubstr("coherence: is missing: backend devdax"));
  EXPECT_THAT(ErrorOf(OnDevice("coherence = 'coherent'\n", second)),
              HasSubstr("settle_class: is missing"));
  const std::string in_file = "backend = 'file'\nmemory_folder = '/m'\n";
  const std::string window = "[[node]]\nid = 0\npath = '/f'\n";
  EXPECT_THAT(ErrorOf(in_file + window),
              HasSubstr("coherence: is missing: backend file with a `path`"));
  ASSERT_OK(ClusterConfig::FromToml(in_file, "c.toml"));
  ASSERT_OK(ClusterConfig::FromToml(in_file + kDeclared + window, "c.toml"));
}

TEST(ClusterConfigDevices, WindowsMayNotOverlap) {
  const auto error_of = [](const std::string& second) {
    return ErrorOf(OnDevice(kDeclared, second));
  };
  EXPECT_THAT(
      error_of("path = '/dev/dax0.0'\n"),
      HasSubstr("c.toml:12: node[1].offset: nodes 0 and 1 have the same segment"));
  EXPECT_THAT(error_of("path = '/dev/dax0.0'\noffset = '6MiB'\n"),
              AllOf(HasSubstr("the segments of nodes 0 and 1 overlap"),
                    HasSubstr("control 2MiB, leases 2MiB, data 4MiB")));
  EXPECT_THAT(error_of("path = '/dev/dax0.0'\noffset = '9MiB'\n"),
              HasSubstr("node[1].offset: 9MiB is not a multiple of 2MiB"));
  EXPECT_THAT(error_of("path = 'dax0.0'\n"), HasSubstr("must be an absolute path"));
  EXPECT_THAT(error_of("size = '2MiB'\n"), HasSubstr("there is no path for node 1"));
}

TEST(ClusterConfigDevices, AreNotForEveryBackendAndHaveNoGroups) {
  EXPECT_THAT(ErrorOf("[[node]]\nid = 0\npath = '/dev/dax0.0'\n"),
              HasSubstr("backend shm makes its memory itself"));
  EXPECT_THAT(ErrorOf("[[node]]\nid = 0\noffset = '2MiB'\n"),
              HasSubstr("node[0].offset: there is no path"));
  EXPECT_THAT(ErrorOf("backend = 'pci'\n" + std::string(kDeclared)),
              HasSubstr("there is no path for node 0"));
  EXPECT_THAT(ErrorOf(OnDevice(kDeclared + std::string("group = 'x'\n"),
                               "path = '/dev/dax1.0'\n")),
              HasSubstr("whoever may open a device"));
}

}  // namespace
}  // namespace sheaf::region
