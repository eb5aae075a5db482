// How a cluster begins and ends, as a user meets it: what `sheaf up` and `sheaf down`
// make, remove and leave alone, and what crashes and signals leave behind.

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "platform/file.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "tests/command_line.h"

namespace sheaf::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kMiB = uint64_t{1} << 20;

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

class ClusterLife : public CommandLine {
 protected:
  std::string RuntimeFolder() const { return folder_ + "/run/" + cluster_; }
  static uint64_t AllocatedBytes(const std::string& path) {
    struct stat status = {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }
  // The cluster named in the environment, with another runtime folder.
  Ran Elsewhere(const std::string& arguments) const {
    return Run("SHEAF_RUNTIME_DIR=" + folder_ + "/elsewhere " + SHEAF_BINARY + " " +
               arguments);
  }
};

TEST_F(ClusterLife, FilesInAFolderOfTheUserStay) {
  for (const std::string backend : {"shm", "sim", "file"}) {
    fs::create_directories(Path("precious"));
    WriteText("precious/thesis.txt", "years of work");
    WriteText("c.toml", "memory_folder = \"" + Path("precious") + "\"\nbackend = \"" +
                            backend + "\"\nslots_max = 256\n");
    Up("--config " + Path("c.toml"));
    ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 10)).code, 0);
    EXPECT_EQ(Sheaf("down").code, 0);
    EXPECT_EQ(Read(Path("precious/thesis.txt")), "years of work") << backend;
    ASSERT_EQ(::chmod(Path("precious").c_str(), 0777), 0);
    const Ran open = Sheaf("up --config " + Path("c.toml"));
    EXPECT_EQ(open.code, 1);
    EXPECT_THAT(open.out, HasSubstr("is not private"));
    EXPECT_EQ(Read(Path("precious/thesis.txt")), "years of work") << backend;
    EXPECT_FALSE(fs::exists(RuntimeFolder()));
    fs::remove_all(Path("precious"));
  }
}

TEST_F(ClusterLife, AMemoryFolderOfAnotherUserStays) {
  fs::create_directory(MemoryFolder());
  std::ofstream(MemoryFolder() + "/thesis.txt") << "years of work";
  const bool given = ::chown(MemoryFolder().c_str(), 65534, 65534) == 0;
  if (given) {
    EXPECT_EQ(Sheaf("up").code, 1);
    EXPECT_EQ(Read(MemoryFolder() + "/thesis.txt"), "years of work");
  }
  fs::remove_all(MemoryFolder());
  if (!given) GTEST_SKIP() << "this user may not give a folder away";
}

TEST_F(ClusterLife, FilesInTheRuntimeFolderStay) {
  fs::create_directories(RuntimeFolder());
  WriteText("run/" + cluster_ + "/letter.txt", "dear");
  Up();
  EXPECT_EQ(Sheaf("down").code, 0);
  EXPECT_EQ(Sheaf("up --size 20TiB --prealloc").code, 1);
  EXPECT_EQ(Read(RuntimeFolder() + "/letter.txt"), "dear");
  EXPECT_EQ(std::distance(fs::directory_iterator(RuntimeFolder()), {}), 1);
}

TEST_F(ClusterLife, DownLeavesNothing) {
  Up("--nodes 2");
  EXPECT_TRUE(fs::exists(MemoryFolder()));
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 10)).code, 0);
  EXPECT_EQ(Sheaf("down").code, 0);
  EXPECT_TRUE(fs::is_empty(Path("run")));
  EXPECT_FALSE(fs::exists(MemoryFolder()));
  fs::create_directory(Path("files"));
  Up("--backend file --folder " + Path("files"));
  EXPECT_FALSE(fs::is_empty(Path("files")));
  EXPECT_EQ(Sheaf("down").code, 0);
  EXPECT_TRUE(fs::is_empty(Path("files")));
  EXPECT_EQ(Sheaf("down").code, 1);
  EXPECT_TRUE(fs::is_empty(Path("run")));
}

TEST_F(ClusterLife, FirstCommandsAtOnceStartOneCluster) {
  std::string together;
  for (int i = 0; i < 6; ++i) together += std::string(SHEAF_BINARY) + " ls & ";
  const Ran ran = Run("{ " + together + " wait; }");
  const size_t first = ran.out.find("started cluster");
  ASSERT_NE(first, std::string::npos) << ran.out;
  EXPECT_EQ(ran.out.find("started cluster", first + 1), std::string::npos) << ran.out;
  EXPECT_EQ(Sheaf("ls").code, 0);
  EXPECT_FALSE(fs::exists(Path("run/" + cluster_ + ".control")));
}

TEST_F(ClusterLife, AnotherRuntimeFolderDoesNotReachIntoItsMemory) {
  Up();
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 10)).code, 0);
  EXPECT_EQ(Elsewhere("up --nodes 3").code, 1);
  for (const std::string command : {"ls", "up"}) {
    const Ran ran = Elsewhere(command);
    EXPECT_EQ(ran.code, 1) << command;
    EXPECT_THAT(ran.out, HasSubstr("process "));
    EXPECT_THAT(ran.out, HasSubstr("end it with: SHEAF_RUNTIME_DIR=" + folder_ +
                                   "/run sheaf --cluster " + cluster_ + " down --keep"));
  }
  EXPECT_EQ(Elsewhere("down").code, 1);
  // Also not when a cluster file of a former life says that the memory is its own.
  fs::create_directories(Path("elsewhere/" + cluster_));
  std::string text = Read(RuntimeFolder() + "/cluster.toml");
  text.replace(text.find("/run/"), 5, "/elsewhere/");
  WriteText("elsewhere/" + cluster_ + "/cluster.toml", text);
  EXPECT_EQ(Elsewhere("down").code, 1);
  EXPECT_EQ(Elsewhere("ls").code, 1);
  EXPECT_EQ(SheafJson("ls").size(), 1U);
  EXPECT_EQ(Sheaf("head t").code, 0);
  EXPECT_EQ(Sheaf("down").code, 0);
  EXPECT_EQ(Elsewhere("down").code, 0);
  EXPECT_TRUE(fs::is_empty(Path("elsewhere")));
}

TEST_F(ClusterLife, ASegmentOfAnotherVersionStays) {
  Up();
  EndDaemon(0);
  fs::remove_all(RuntimeFolder());
  const std::string control = MemoryFolder() + "/node0/control";
  std::fstream(control, std::ios::binary | std::ios::in | std::ios::out).seekp(8).put(9);
  const Ran up = Sheaf("up");
  EXPECT_EQ(up.code, 1);
  EXPECT_THAT(up.out, HasSubstr("format version is 9"));
  const std::string advice = "rm -r " + MemoryFolder() + "/node0";
  EXPECT_THAT(up.out, HasSubstr(advice));
  EXPECT_TRUE(fs::exists(control));
  EXPECT_TRUE(fs::exists(MemoryFolder() + "/node0/data"));
  ASSERT_EQ(Run(advice).code, 0);
  Up();
}

TEST_F(ClusterLife, WhatACrashLeftIsFoundAlsoWithoutItsClusterFile) {
  Up("--nodes 3");
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 10)).code, 0);
  for (const int node : {0, 1, 2}) EndDaemon(node);
  fs::remove_all(RuntimeFolder());
  ASSERT_EQ(Sheaf("up").code, 0);
  EXPECT_EQ(SheafJson("nodes").size(), 3U);
  EXPECT_EQ(Sheaf("verify t").code, 0);
  EXPECT_EQ(Sheaf("down").code, 0);
  EXPECT_FALSE(fs::exists(MemoryFolder()));
}

TEST_F(ClusterLife, MemoryOfAnotherClusterIsRefusedUntilItIsGivenUp) {
  Up("--nodes 2");
  for (const int node : {0, 1}) EndDaemon(node);
  fs::remove_all(RuntimeFolder());
  fs::remove(MemoryFolder() + "/.sheaf-cluster.toml");
  const Ran up = Sheaf("up");
  EXPECT_EQ(up.code, 1);
  EXPECT_THAT(up.out, HasSubstr("cluster id is"));
  EXPECT_THAT(up.out, HasSubstr("sheaf --cluster " + cluster_ + " down"));
  EXPECT_TRUE(fs::exists(MemoryFolder() + "/node1/control"));
  EXPECT_EQ(Sheaf("down").code, 0);
  EXPECT_FALSE(fs::exists(MemoryFolder()));
  Up();
}

TEST_F(ClusterLife, AfterACrashTheFirstCommandRestartsTheClusterAsItWas) {
  Up("--nodes 2");
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 10)).code, 0);
  for (const int node : {0, 1}) EndDaemon(node);
  const Ran ls = Sheaf("ls");
  EXPECT_EQ(ls.code, 0);
  EXPECT_THAT(ls.out, HasSubstr("restarted cluster '" + cluster_ + "' (2 nodes)"));
  EXPECT_THAT(ls.out, HasSubstr("with the tables that were in it"));
  EXPECT_EQ(Sheaf("verify t").code, 0);
  const Json nodes = SheafJson("nodes");
  ASSERT_EQ(nodes.size(), 2U);
  EXPECT_EQ(nodes[1]["size_bytes"], 64 * kMiB);
}

TEST_F(ClusterLife, OptionsOfARunningClusterAreNotChanged) {
  Up("--nodes 2");
  const std::string before = Read(RuntimeFolder() + "/cluster.toml");
  WriteText("c.toml", "nodes = 2\nsegment_size = \"64MiB\"\nuser_quota = \"8MiB\"\n");
  const auto is_refused = [&](const std::string& options, const std::string& named) {
    const Ran ran = Sheaf("up " + options);
    EXPECT_EQ(ran.code, 1) << options;
    EXPECT_THAT(ran.out, HasSubstr("runs with other values of " + named + ":"));
    EXPECT_THAT(ran.out, HasSubstr(cluster_ + " down --keep; all else"));
    EXPECT_THAT(ran.out, HasSubstr(cluster_ + " down\n"));
    EXPECT_THAT(ran.out, Not(HasSubstr("SHEAF_RUNTIME_DIR")));
  };
  is_refused("--user-quota 8MiB", "--user-quota");
  EndDaemon(1);
  is_refused("--group daemon --user-quota 8MiB", "--group, --user-quota");
  is_refused("--group-write daemon", "--group-write");
  is_refused("--session-quota 8MiB", "--session-quota");
  is_refused("--prealloc", "--prealloc");
  is_refused("--nodes 3", "--nodes (there: 2)");
  is_refused("--nodes 3 --messages rings --size 32MiB",
             "--nodes (there: 2), --size (there: 64MiB), --messages (there: sockets)");
  is_refused("--config " + Path("c.toml"), "--config");
  EXPECT_EQ(Read(RuntimeFolder() + "/cluster.toml"), before);
  EXPECT_EQ(Sheaf("up --nodes 2 --size 64MiB").code, 0);
  ASSERT_EQ(Sheaf("down --keep").code, 0);
  EXPECT_EQ(Sheaf("up --user-quota 8MiB").code, 0);
  EXPECT_THAT(Read(RuntimeFolder() + "/cluster.toml"), HasSubstr("8MiB"));
  EndDaemon(1);
  EXPECT_EQ(Sheaf("up --user-quota 8MiB").code, 0);
}

TEST_F(ClusterLife, FsckOfARunningClusterSaysHowToEndItWithItsTables) {
  Up();
  const Ran fsck = Sheaf("fsck");
  EXPECT_EQ(fsck.code, 1);
  EXPECT_THAT(fsck.out, HasSubstr("sheaf --cluster " + cluster_ + " down --keep"));
}

TEST_F(ClusterLife, AnInterruptedUpLeavesNothing) {
  // Three daemons start; the fourth never comes so far.
  const std::string program = Path("sheafd");
  WriteText("sheafd", "#!/bin/sh\ncase \"$*\" in\n*'--node 3') echo $$ > " + Path("pid") +
                          "; exec sleep 1000000;;\nesac\nexec " + SHEAFD_BINARY +
                          " \"$@\"\n");
  ASSERT_EQ(::chmod(program.c_str(), 0700), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const int out = ::open(Path("out").c_str(), O_CREAT | O_WRONLY, 0600);
    ::dup2(out, STDERR_FILENO);
    ::setenv("SHEAFD", program.c_str(), 1);
    ::execl(SHEAF_BINARY, "sheaf", "up", "--nodes", "4", "--size", "64MiB", nullptr);
    ::_exit(127);
  }
  EXPECT_TRUE(Eventually([&] {
    return Read(Path("pid")).ends_with('\n') &&
           platform::ConnectUnix(RuntimeFolder() + "/node0.sock").ok();
  }));
  ASSERT_OK_AND_ASSIGN(const auto stuck,
                       platform::OpenPidFd(std::stoi(Read(Path("pid")))));
  ::kill(child, SIGINT);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(Read(Path("out")), HasSubstr("interrupted"));
  EXPECT_TRUE(platform::HasExited(stuck));
  EXPECT_TRUE(fs::is_empty(Path("run")));
  EXPECT_FALSE(fs::exists(MemoryFolder()));
}

TEST_F(ClusterLife, PreallocAllocatesAllOfTheMemory) {
  Up("--nodes 2 --prealloc");
  for (const std::string node : {"/node0", "/node1"}) {
    EXPECT_EQ(AllocatedBytes(MemoryFolder() + node + "/data"), 64 * kMiB);
  }
}

TEST_F(ClusterLife, MoreThanTheHostHasIsSaidAtOnce) {
  ASSERT_OK_AND_ASSIGN(const uint64_t available,
                       platform::FileSystemFreeBytes("/dev/shm"));
  const std::string size = " --size " + std::to_string(2 * available);
  const Ran now = Sheaf("up --prealloc" + size);
  EXPECT_EQ(now.code, 1);
  EXPECT_THAT(now.out, HasSubstr("available there: "));
  EXPECT_THAT(now.out, HasSubstr("smaller --size"));
  EXPECT_FALSE(fs::exists(MemoryFolder()));
  const Ran later = Sheaf("up" + size);
  EXPECT_EQ(later.code, 0);
  EXPECT_THAT(later.out,
              HasSubstr("sheaf: warning: cluster '" + cluster_ + "' may take"));
  EXPECT_EQ(Sheaf("down").code, 0);
  const Ran fits = Sheaf("up --size 64MiB");
  EXPECT_THAT(fits.out, Not(HasSubstr("warning")));
}

TEST_F(ClusterLife, AFullMemoryFileSystemIsAnErrorOfThePut) {
  const std::string folder = Path("small");
  ASSERT_OK(platform::MakePrivateFolder(folder));
  if (!platform::MountHugeTmpfs(folder, 16 * kMiB).ok()) {
    GTEST_SKIP() << "this user may not mount a tmpfs";
  }
  WriteText("c.toml", "memory_folder = \"" + folder + "\"\nslots_max = 256\n");
  const Ran now = Sheaf("up --size 64MiB --prealloc --config " + Path("c.toml"));
  const Ran later = Sheaf("up --size 64MiB --config " + Path("c.toml"));
  const Ran put = Sheaf("put t " + WriteParquet("t.parquet", 1'000'000));
  const Ran small = Sheaf("put s " + WriteParquet("s.parquet", 100));
  const Ran down = Sheaf("down");
  ASSERT_OK(platform::Unmount(folder));
  EXPECT_EQ(now.code, 1);
  EXPECT_THAT(now.out, HasSubstr("needs 65MiB"));
  EXPECT_THAT(now.out, HasSubstr("available there: 16MiB"));
  EXPECT_EQ(later.code, 0) << later.out;
  EXPECT_THAT(later.out, HasSubstr("warning"));
  EXPECT_EQ(put.code, 1);
  EXPECT_THAT(put.out, HasSubstr("of memory left for what of it was never used"));
  EXPECT_THAT(put.out, HasSubstr("--size"));
  EXPECT_EQ(small.code, 0) << small.out;
  EXPECT_EQ(down.code, 0) << down.out;
}

TEST_F(ClusterLife, ThePageSizeIsKnownFromTheStart) {
  Up();
  const Json before = SheafJson("nodes");
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 100'000)).code, 0);
  ASSERT_OK_AND_ASSIGN(const bool own_tmpfs, platform::IsMountPoint(MemoryFolder()));
  EXPECT_EQ(before[0]["page_size"], SheafJson("nodes")[0]["page_size"]);
  if (own_tmpfs) {
    EXPECT_GT(before[0]["page_size"], 4096);
  }
}

TEST_F(ClusterLife, ABadNameMakesNoPath) {
  const std::string too_long(65, 'n');
  for (const std::string& name :
       {std::string("../x"), std::string("a/b"), std::string(".hidden"), too_long}) {
    for (const std::string command : {"up", "down", "ls"}) {
      const Ran ran = Sheaf("--cluster '" + name + "' " + command);
      EXPECT_EQ(ran.code, 2) << name;
      EXPECT_THAT(ran.out, HasSubstr("name: '" + name + "' must be"));
    }
  }
  EXPECT_FALSE(fs::exists(Path("run")));
  EXPECT_FALSE(fs::exists(Path("x.control")));
}

TEST_F(ClusterLife, OptionsThatContradictAreRefusedWithTheReason) {
  const Ran sim = Sheaf("up --backend sim --coherence coherent");
  EXPECT_EQ(sim.code, 1);
  EXPECT_THAT(sim.out, HasSubstr("not coherent between nodes"));
  const Ran file = Sheaf("up --backend file");
  EXPECT_EQ(file.code, 1);
  EXPECT_THAT(file.out, HasSubstr("--folder"));
  EXPECT_THAT(file.out, HasSubstr("memory_folder"));
}

TEST_F(ClusterLife, SizesMayHaveFractionsAndFoldersBeRelative) {
  fs::create_directory(Path("files"));
  const Ran up = Run("cd " + folder_ + " && " + SHEAF_BINARY +
                     " up --size 32.5MiB --backend file --folder files/../files");
  EXPECT_EQ(up.code, 0) << up.out;
  EXPECT_TRUE(fs::exists(Path("files/sheaf-" + cluster_ + "/node0/data")));
  EXPECT_EQ(SheafJson("nodes")[0]["size_bytes"], 34 * kMiB);  // Whole extents.
}

}  // namespace
}  // namespace sheaf::testing
