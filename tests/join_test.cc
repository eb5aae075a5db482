// Nodes that are started one by one from one cluster file, as on the hosts of a cluster:
// they join, leave and come back while the others work on.

#include <stdlib.h>

#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "tests/command_line.h"
#include "tests/joined_nodes.h"
#include "tests/two_nodes.h"

namespace sheaf::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Join : public JoinedNodes {
 protected:
  void SetUp() override {
    JoinedNodes::SetUp();
    WriteText("lab.toml", File(""));
  }

  std::string File(const std::string& more) const {
    return "name = '" + cluster_ + "'\nsegment_size = '64MiB'\nslots_max = 256\n" +
           "heartbeat_ms = 10\nsuspect_after_ms = 1000\n" + more +
           "[[node]]\nid = 2\nsize = '32MiB'\n[[node]]\nid = 3\nhost = 'elsewhere'\n";
  }
  // As node 0 sees it.
  std::string StateOf(int node) {
    return SheafJson("--node 0 nodes")[static_cast<size_t>(node)]["state"];
  }
  void AwaitState(int node, const std::string& state) {
    EXPECT_TRUE(Eventually([&] { return StateOf(node) == state; })) << StateOf(node);
  }
};

TEST_F(Join, NodesJoinLeaveAndComeBackWhileTheOthersWork) {
  Start(0);
  const Ran put = Sheaf("put t " + WriteParquet("t.parquet", 1000));
  ASSERT_EQ(put.code, 0) << put.out;
  EXPECT_EQ(StateOf(2), "down");
  Start(2);
  AwaitState(2, "up");
  EXPECT_THAT(Sheaf("--node 2 head t").out, HasSubstr("name 0"));
  ASSERT_EQ(Sheaf("--node 2 put u " + Path("t.parquet")).code, 0);
  EXPECT_EQ(SheafJson("nodes")[2]["size_bytes"], 32 << 20);
  EndDaemon(2);
  AwaitState(2, "withdrawn");
  EXPECT_THAT(Sheaf("head u").out, HasSubstr("name 0"));
  Start(2);
  AwaitState(2, "up");
  EXPECT_EQ(Sheaf("--node 2 rm t").code, 0);
  EXPECT_EQ(Sheaf("--node 2 rm u").code, 0);
  EndDaemon(2);
  AwaitState(2, "withdrawn");
  const Ran forget = Sheaf("node forget 2");
  EXPECT_EQ(forget.code, 0) << forget.out;
  EXPECT_EQ(StateOf(2), "off");
  ASSERT_EQ(Sheaf("put v " + Path("t.parquet")).code, 0);
}

TEST_F(Join, WhoClaimsANodeThatIsThereIsRefused) {
  Start(0);
  const Ran second = Run(Command(0));
  EXPECT_EQ(second.code, 1);
  EXPECT_THAT(second.out, HasSubstr("a daemon of node 0 runs already"));
}

TEST_F(Join, AFileThatCannotBeReadIsRefusedWithTheReason) {
  const std::string absent = Path("absent.toml");
  EXPECT_THAT(Run(Command(0, "absent.toml")).out,
              HasSubstr("cannot read " + absent + ": No such file or directory"));
  EXPECT_THAT(Run(Command(0, "")).out, HasSubstr("Is a directory"));
}

TEST_F(Join, ANodeOfAnotherHostIsRefused) {
  const Ran other = Run(Command(3));
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.out,
              AllOf(HasSubstr("node 3 is on another host, 'elsewhere'"),
                    HasSubstr("uname"), HasSubstr("see `host` in " + Path("lab.toml"))));
  EXPECT_THAT(Run(Command(4)).out,
              HasSubstr("there is no node 4: " + Path("lab.toml") + " has nodes 0 to 3"));
  const std::string here = "SHEAF_HOST=elsewhere ";
  EXPECT_THAT(Run(here + SHEAF_BINARY + " up --config " + Path("lab.toml")).out,
              HasSubstr("4 nodes"));
  EXPECT_EQ(Run(here + SHEAF_BINARY + " down").code, 0);
  WriteText("lab.toml", "name = '" + cluster_ + "'\n[[node]]\nid = 0\nhost = 'x'\n");
  EXPECT_THAT(Sheaf("up --config " + Path("lab.toml")).out,
              HasSubstr("has no node on this host"));
}

// Two hosts that share a folder.
TEST_F(Join, UpAndDownLeaveNodesOfOtherHostsAlone) {
  std::string text = File("");
  text = text.substr(0, text.find("[[node]]"));
  for (const char* node : {"0", "1", "2", "3"}) {
    const bool is_there = *node == '3';
    text += std::string("[[node]]\nid = ") + node + "\nhost = '" +
            (is_there ? "elsewhere" : "here") + "'\n";
  }
  WriteText("lab.toml", text);
  const auto there = [&](const std::string& arguments) {
    return Run("SHEAF_HOST=elsewhere SHEAF_RUNTIME_DIR=" + Path("there") + " " +
               SHEAF_BINARY + " " + arguments);
  };
  const auto here = [&](const std::string& arguments) {
    return Run("SHEAF_HOST=here " + std::string(SHEAF_BINARY) + " " + arguments);
  };
  EXPECT_THAT(here("up --config " + Path("lab.toml")).out, HasSubstr("3 nodes"));
  const std::string kept = MemoryFolder() + "/.sheaf-cluster.toml";
  ASSERT_TRUE(std::filesystem::exists(kept));
  EXPECT_EQ(Run("SHEAF_HOST=nowhere " + std::string(SHEAFD_BINARY) + " --config " +
                Path("lab.toml") + " --node 3")
                .code,
            1);
  Start(3, "SHEAF_HOST=elsewhere SHEAF_RUNTIME_DIR=" + Path("there") + " ");
  EXPECT_EQ(there("ls").code, 0);  // through its own node
  const Ran other = there("--node 0 ls");
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.out,
              AllOf(HasSubstr("node 0 is on another host, 'here'"),
                    HasSubstr("speak through node 3 (--node 3, or SHEAF_NODE=3)")));
  const Ran checked = there("--node 0 fsck");
  EXPECT_EQ(checked.code, 1);
  EXPECT_THAT(checked.out, HasSubstr("node 0 is on another host, 'here'"));
  EXPECT_THAT(here("node forget 9").out,
              HasSubstr("there is no node 9: the cluster has nodes 0 to 3"));
  EXPECT_EQ(here("down").code, 0);
  EXPECT_FALSE(std::filesystem::exists(MemoryFolder() + "/node0"));
  EXPECT_TRUE(std::filesystem::exists(MemoryFolder() + "/node3/control"));
  EXPECT_TRUE(std::filesystem::exists(kept));
  EXPECT_EQ(there("--node 3 ls").code, 0);
  EXPECT_EQ(there("down").code, 0);
  EXPECT_FALSE(std::filesystem::exists(MemoryFolder()));
}

// Through rings in what both map, with doorbells over the network, or without any.
TEST_F(Join, DaemonsOfTwoHostsTalk) {
  for (const bool has_addresses : {true, false}) {
    SCOPED_TRACE(has_addresses);
    std::string text = "name = '" + cluster_ + "'\nsegment_size = '64MiB'\n";
    for (const char* node : {"0", "1"}) {
      text += std::string("[[node]]\nid = ") + node + "\nhost = 'host" + node + "'\n";
      if (has_addresses) text += std::string("address = '127.0.0.1:2712") + node + "'\n";
    }
    WriteText("lab.toml", text);
    const auto of = [&](const std::string& node) {
      return "SHEAF_HOST=host" + node + " SHEAF_RUNTIME_DIR=" + Path("run" + node) + " ";
    };
    const auto on = [&](const std::string& node, const std::string& arguments) {
      return Run(of(node) + SHEAF_BINARY + " " + arguments);
    };
    Start(0, of("0"));
    Start(1, of("1"));
    const std::string file = WriteParquet("t.parquet", 1000);
    // The names are kept by node 0.
    const Ran put = on("1", "--node 1 put t " + file);
    EXPECT_EQ(put.code, 0) << put.out;
    EXPECT_THAT(on("0", "--node 0 head t").out, HasSubstr("name 0"));
    const Ran removed = on("0", "--node 0 rm t");  // Its home is node 1.
    EXPECT_EQ(removed.code, 0) << removed.out;
    EXPECT_EQ(on("1", "down").code, 0);
    EXPECT_EQ(on("0", "down").code, 0);
  }
}

/// #5: files of a shared folder, of which others keep what they have mapped.
TEST_F(Join, MemoryThatIsFormattedAnewIsMetByDaemonsAndNotBySessions) {
  WriteText("lab.toml",
            "name = '" + cluster_ +
                "'\nsegment_size = '64MiB'\nheartbeat_ms = 10\nsuspect_after_ms = 1000\n"
                "[[node]]\nid = 0\nhost = 'host0'\n[[node]]\nid = 1\nhost = 'host1'\n");
  const auto of = [&](const std::string& node) {
    return "SHEAF_HOST=host" + node + " SHEAF_RUNTIME_DIR=" + Path("run" + node) + " ";
  };
  const auto on = [&](const std::string& node, const std::string& arguments) {
    return Run(of(node) + SHEAF_BINARY + " --node " + node + " " + arguments);
  };
  Start(0, of("0"));
  Start(1, of("1"));
  const std::string file = WriteParquet("t.parquet", 1000);
  ASSERT_EQ(on("1", "put t " + file).code, 0);
  ::setenv("SHEAF_RUNTIME_DIR", Path("run0").c_str(), 1);
  ASSERT_OK_AND_ASSIGN(auto store, Store::Connect({.cluster = cluster_, .node = 0}));
  ::unsetenv("SHEAF_RUNTIME_DIR");
  ASSERT_OK(store->Get("t"));
  const Ran down = on("1", "down");
  ASSERT_EQ(down.code, 0) << down.out;
  Start(1, of("1"));
  const Ran put = on("1", "put u " + file);  // The names are kept by node 0.
  EXPECT_EQ(put.code, 0) << put.out;
  EXPECT_THAT(on("0", "head u").out, HasSubstr("name 0"));
  EXPECT_EQ(on("0", "put v --on 1 " + file).code, 0);
  EXPECT_EQ(on("0", "--json ls").out.find("\"t\""), std::string::npos);
  const arrow::Status met = store->Get("u").status();
  EXPECT_THAT(met.ToString(), HasSubstr("connect again"));
  EXPECT_FALSE(store->Get("t").ok());
  const arrow::Status built = store->Put("w", *MakeTable(10, 0), {.on = 1}).status();
  EXPECT_THAT(built.ToString(), HasSubstr("connect again"));
  store = nullptr;
  EXPECT_EQ(on("1", "down").code, 0);
  EXPECT_EQ(on("0", "down").code, 0);
}

TEST_F(Join, AFileThatListsFewerNodesIsRefused) {
  Start(0);
  Start(2);
  ASSERT_EQ(Sheaf("down --keep").code, 0);
  WriteText("fewer.toml", "name = '" + cluster_ + "'\nsegment_size = '64MiB'\n" +
                              "slots_max = 256\nheartbeat_ms = 10\n" +
                              "suspect_after_ms = 1000\nnodes = 2\n");
  const Ran fewer = Run(Command(0, "fewer.toml"));
  EXPECT_EQ(fewer.code, 1);
  EXPECT_THAT(fewer.out, HasSubstr("there is memory of node 2"));
  Start(0);
}

TEST_F(Join, AnotherFileThanTheOthersHaveIsRefused) {
  Start(0);
  WriteText("other.toml", File("posted_delay_us = 17\n"));
  const Ran running = Run(Command(1, "other.toml"));
  EXPECT_EQ(running.code, 1);
  EXPECT_THAT(running.out, AllOf(HasSubstr("runs on this host with another file than"),
                                 HasSubstr("down --keep")));
  ASSERT_EQ(Sheaf("down --keep").code, 0);
  const Ran kept = Run(Command(0, "other.toml"));
  EXPECT_EQ(kept.code, 1);
  EXPECT_THAT(kept.out, HasSubstr("was made with another file than"));
  // As on another host, whose folders are others: the header of the segment tells.
  std::filesystem::remove(MemoryFolder() + "/.sheaf-cluster.toml");
  std::filesystem::remove_all(folder_ + "/run");
  const Ran apart = Run(Command(0, "other.toml"));
  EXPECT_EQ(apart.code, 1);
  EXPECT_THAT(apart.out, AllOf(HasSubstr("segment 0"), HasSubstr("posted_delay_us")));
  EXPECT_THAT(Run(Command(0, "none.toml")).out, HasSubstr("cannot read"));
  Start(0);
}

}  // namespace
}  // namespace sheaf::testing
