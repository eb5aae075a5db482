// Users of a group that a cluster lets read, or write: real processes of another user.

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "platform/process.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"
#include "tests/group_cluster.h"
#include "tests/member.h"
#include "tests/seeded_table.h"

namespace sheaf::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// ---- What a member does, in its own process.

arrow::Status Read() {
  for (const uint32_t node : {0U, 1U}) {
    ARROW_ASSIGN_OR_RAISE(const auto store, Store::Connect({"", node}));
    ARROW_RETURN_NOT_OK(OpenAndCheck(store, "t"));
    ARROW_RETURN_NOT_OK(OpenAndCheck(store, "referring"));
    ARROW_RETURN_NOT_OK(store->Stat("t").status());
    ARROW_RETURN_NOT_OK(store->Nodes().status());
  }
  return arrow::Status::OK();
}

// All that a session may ask for and this one may not.
arrow::Status AskForMore() {
  ARROW_ASSIGN_OR_RAISE(const auto store, Store::Connect());
  ARROW_ASSIGN_OR_RAISE(const TableInfo info, store->Stat("t"));
  const auto table = SeededTable(1, 10);
  for (const arrow::Status& status :
       {store->Put("x", *table).status(), store->Share(*table).status(),
        store->Remove("t"), store->Drop(info.handle), store->Keep(info.handle),
        store->ForgetNode(1)}) {
    Member::Say(status.message());
  }
  return arrow::Status::OK();
}

arrow::Status Hold() {
  ARROW_ASSIGN_OR_RAISE(const auto store, Store::Connect());
  ARROW_ASSIGN_OR_RAISE(auto table, store->Get("t"));
  Member::Say("holding");
  Member::AwaitWord();
  ARROW_RETURN_NOT_OK(CheckSeededTable(*table));
  // A daemon may have died meanwhile, or die now.
  ARROW_ASSIGN_OR_RAISE(auto second, store->Get("u"));
  ARROW_RETURN_NOT_OK(CheckSeededTable(*second));
  Member::Say("both");
  Member::AwaitWord();
  table.reset();
  Member::Say("one");
  Member::AwaitWord();
  ARROW_RETURN_NOT_OK(CheckSeededTable(*second));
  second.reset();
  Member::Say("none");
  Member::AwaitWord();
  return arrow::Status::OK();
}

// A store to memory that is somebody else's: does it end the process?
bool Faults(const uint8_t* address) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGSEGV, SIG_DFL);
    *const_cast<volatile uint8_t*>(address) = 1;
    ::_exit(0);
  }
  int status = 0;
  SHEAF_CHECK(::waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

const uint8_t* FirstByte(const arrow::Table& table) {
  return table.column(0)->chunk(0)->data()->buffers[1]->data();
}

arrow::Status Write() {
  for (const uint32_t node : {0U, 1U}) {
    ARROW_ASSIGN_OR_RAISE(const auto store, Store::Connect({"", node}));
    const std::string name = "of-member-" + std::to_string(node);
    ARROW_RETURN_NOT_OK(
        store->Put(name, *SeededTable(7, kRows), {.checksum = true}).status());
    ARROW_RETURN_NOT_OK(OpenAndCheck(store, name));
    ARROW_ASSIGN_OR_RAISE(const auto table, store->Get("t"));
    SHEAF_CHECK(Faults(FirstByte(*table)));
    const auto shared = store->Share(*table);
    ARROW_RETURN_NOT_OK(shared.status());
    ARROW_RETURN_NOT_OK(store->Drop(shared->handle));
    ARROW_RETURN_NOT_OK(store->Remove("removed-" + std::to_string(node)));
  }
  Member::Say("written");
  ARROW_ASSIGN_OR_RAISE(const auto store, Store::Connect());
  Member::Say(store->ForgetNode(1).message());
  return arrow::Status::OK();
}

const std::map<std::string, arrow::Status (*)()> kTasks = {
    {"read", Read},
    {"ask-for-more", AskForMore},
    {"hold", Hold},
    {"write", Write},
};

TEST(Member, Runs) {
  if (Member::task() == nullptr) GTEST_SKIP() << "runs in the processes of other tests";
  ::alarm(120);  // a watchdog
  EXPECT_OK(kTasks.at(Member::task())());
}

// ---- The tests.

TEST_F(GroupTest, AReaderOpensTablesOfAllNodes) {
  for (const char* coherence : {"coherent", "software"}) {
    StartForReaders(std::string("coherence = \"") + coherence + "\"\n");
    ASSERT_OK_AND_ASSIGN(auto table, node1_->Get("t"));
    ASSERT_OK(node1_->Put("referring", *table, {.checksum = true}));
    Member member = Member::Start("read", {kReaders});
    EXPECT_EQ(member.Await(), 0) << member.output();
    table.reset();
    for (auto* store : {&node0_, &node1_}) store->reset();
    cluster_.reset();
  }
}

TEST_F(GroupTest, AReaderMayOnlyRead) {
  StartForReaders();
  Member member = Member::Start("ask-for-more", {kReaders});
  for (int i = 0; i < 5; ++i) EXPECT_THAT(member.Hear(), HasSubstr("may only read"));
  EXPECT_THAT(member.Hear(), HasSubstr("only user 0, whose cluster this is"));
  EXPECT_EQ(member.Await(), 0) << member.output();
  EXPECT_OK(OpenAndCheck(node1_, "t"));
}

TEST_F(GroupTest, ALeaseOfAReaderKeepsATableUntilItIsGivenBackOrItsProcessIsKilled) {
  StartForReaders();
  Member member = Member::Start("hold", {kReaders});
  ASSERT_EQ(member.Hear(), "holding");
  ASSERT_OK(node0_->Remove("t"));
  AwaitReclaim(0);
  EXPECT_EQ(Objects(0), 1U);
  member.Tell();
  ASSERT_EQ(member.Hear(), "both");
  ASSERT_OK(node1_->Remove("u"));
  member.Tell();
  ASSERT_EQ(member.Hear(), "one");
  EXPECT_TRUE(ComeTo(0, 0));
  AwaitReclaim(1);
  EXPECT_EQ(Objects(1), 1U);
  member.Kill();
  EXPECT_TRUE(ComeTo(1, 0));
  EXPECT_TRUE(Eventually([&] { return node1_->Nodes().ValueOrDie()[0].sessions == 1; }));
}

TEST_F(GroupTest, AReaderGoesOnWithTheNextDaemon) {
  StartForReaders();
  Member member = Member::Start("hold", {kReaders});
  ASSERT_EQ(member.Hear(), "holding");
  ASSERT_OK(cluster_->KillDaemon(0));
  ASSERT_OK(cluster_->StartMissing());
  ASSERT_OK(node0_->Remove("t"));
  AwaitReclaim(0);
  EXPECT_EQ(Objects(0), 1U);
  for (const char* word : {"both", "one"}) {
    member.Tell();
    ASSERT_EQ(member.Hear(), word);
  }
  EXPECT_TRUE(ComeTo(0, 0));
  member.Tell();
  ASSERT_EQ(member.Hear(), "none");
  member.Tell();
  EXPECT_EQ(member.Await(), 0) << member.output();
}

TEST_F(GroupTest, NoLeaseIsLostOrLeftWhenADaemonDiesAtIt) {
  for (const char* point :
       {"daemon.reader-lease.before-cell", "daemon.reader-lease.after-cell",
        "daemon.reader-lease.before-clear", "daemon.reader-lease.after-clear"}) {
    StartForReaders();
    Member member = Member::Start("hold", {kReaders});
    ASSERT_EQ(member.Hear(), "holding");
    ASSERT_OK(cluster_->KillDaemon(0));
    ASSERT_OK(cluster_->StartMissing(std::string(point) + "=kill"));
    ASSERT_OK_AND_ASSIGN(const auto pidfd, cluster_->OpenDaemon(0));
    std::thread starter([&] {
      EXPECT_TRUE(Eventually([&] { return platform::HasExited(pidfd); })) << point;
      EXPECT_OK(cluster_->StartMissing());
    });
    for (const char* word : {"both", "one"}) {
      member.Tell();
      EXPECT_EQ(member.Hear(), word);
    }
    starter.join();
    // The next request of the session says what it let go of while nobody was there.
    member.Tell();
    EXPECT_EQ(member.Hear(), "none");
    ASSERT_OK(node0_->Remove("t"));
    ASSERT_OK(node1_->Remove("u"));
    EXPECT_TRUE(ComeTo(0, 0)) << point;
    EXPECT_TRUE(ComeTo(1, 0)) << point;
    member.Tell();
    EXPECT_EQ(member.Await(), 0) << member.output();
    for (auto* store : {&node0_, &node1_}) store->reset();
    cluster_.reset();
  }
}

TEST_F(GroupTest, OthersAreTurnedAway) {
  StartForReaders();
  Member outsider = Member::Start("read", {kWriters});
  EXPECT_EQ(outsider.Await(), 1);
  EXPECT_THAT(outsider.output(), HasSubstr("is not in a group that may use it"));
}

TEST_F(GroupTest, NobodyComesToAClusterWithoutAGroup) {
  StartCluster("");
  Member outsider = Member::Start("read", {kReaders});
  EXPECT_EQ(outsider.Await(), 1);
  EXPECT_THAT(outsider.output(), HasSubstr("is not in a group that may use it"));
}

TEST_F(GroupTest, AWriterPutsAndCannotStoreIntoTablesOfOthers) {
  StartForWriters();
  for (const uint32_t node : {0U, 1U}) {
    ASSERT_OK(node0_->Put("removed-" + std::to_string(node), *SeededTable(6, 10)));
  }
  Member member = Member::Start("write", {kWriters});
  EXPECT_EQ(member.Hear(), "written");
  EXPECT_THAT(member.Hear(), HasSubstr("only user 0"));
  EXPECT_EQ(member.Await(), 0) << member.output();
  EXPECT_OK(OpenAndCheck(node0_, "of-member-0"));
  EXPECT_OK(OpenAndCheck(node0_, "of-member-1"));
  EXPECT_OK(OpenAndCheck(node0_, "t"));
  // Nor can this user's own sessions.
  ASSERT_OK_AND_ASSIGN(const auto of_member, node0_->Get("of-member-0"));
  EXPECT_TRUE(Faults(FirstByte(*of_member)));
}

TEST_F(GroupTest, BothGroupsAreToldApart) {
  StartCluster("group = \"" + std::to_string(kReaders) + "\"\ngroup_write = \"" +
               std::to_string(kWriters) + "\"\n");
  for (const uint32_t node : {0U, 1U}) {
    ASSERT_OK(node0_->Put("removed-" + std::to_string(node), *SeededTable(6, 10)));
  }
  Member reader = Member::Start("ask-for-more", {kReaders});
  EXPECT_THAT(reader.Hear(), HasSubstr("may only read"));
  EXPECT_EQ(reader.Await(), 0) << reader.output();
  Member writer = Member::Start("write", {kReaders, kWriters});
  EXPECT_EQ(writer.Await(), 0) << writer.output();
}

TEST_F(GroupTest, AnotherUsersFolderIsTakenOnlyIfItIsNamed) {
  StartForReaders();
  // As somebody else could who is faster: a folder of the name that this user's has.
  const std::string name = "/tmp/sheaf-" + std::to_string(kMemberUser);
  ASSERT_TRUE(std::filesystem::create_directory(name));
  const std::string runtime = std::getenv("SHEAF_RUNTIME_DIR");
  ::unsetenv("SHEAF_RUNTIME_DIR");
  Member member = Member::Start("read", {kReaders});
  EXPECT_EQ(member.Await(), 1);
  EXPECT_THAT(member.output(), HasSubstr("is not private"));
  ::setenv("SHEAF_RUNTIME_DIR", runtime.c_str(), 1);
  std::filesystem::remove(name);
}

TEST_F(GroupTest, TheCommandLineReads) {
  StartForReaders();
  const std::string copy = "/tmp/" + cluster_->name() + "-copy.arrow";
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"ls"}, {"verify", "t"}, {"head", "t"}, {"nodes"}, {"get", "t", "-o", copy}}) {
    std::vector<std::string> command = {SHEAF_BINARY};
    command.insert(command.end(), arguments.begin(), arguments.end());
    Member member = Member::Start(command, {kReaders});
    EXPECT_EQ(member.Await(), 0) << arguments[0] << ": " << member.output();
  }
  EXPECT_GT(std::filesystem::file_size(copy), 0U);
  std::filesystem::remove(copy);
  Member writes = Member::Start({SHEAF_BINARY, "rm", "t"}, {kReaders});
  EXPECT_EQ(writes.Await(), 1);
  EXPECT_THAT(writes.output(), HasSubstr("may only read"));
  const std::string csv = "/tmp/" + cluster_->name() + ".csv";
  std::ofstream(csv) << "id,text\n1,one\n2,two\n";
  std::filesystem::permissions(csv, std::filesystem::perms{0644});
  Member puts = Member::Start({SHEAF_BINARY, "put", "v", csv}, {kReaders});
  EXPECT_EQ(puts.Await(), 1);
  EXPECT_THAT(puts.output(), HasSubstr("cannot put table 'v' from '" + csv + "'"));
  EXPECT_THAT(puts.output(), HasSubstr("may only read"));
  EXPECT_THAT(puts.output(), Not(HasSubstr("as CSV")));
  std::filesystem::remove(csv);
}

TEST_F(GroupTest, AGroupThatCannotComeThereIsAnErrorOfTheStart) {
  TestClusterOptions options;
  options.config_toml = "segment_size = \"64MiB\"\ngroup = \"64242\"\n";
  options.daemon_path = SHEAFD_BINARY;
  const auto closed = TestCluster::Start(options);
  EXPECT_THAT(closed.status().message(), HasSubstr("only its owner may search"));
  options.config_toml = "segment_size = \"64MiB\"\ngroup = \"no-such-group\"\n";
  options.others_may_enter = true;
  const auto unknown = TestCluster::Start(options);
  EXPECT_THAT(unknown.status().message(), HasSubstr("no group 'no-such-group'"));
}

}  // namespace
}  // namespace sheaf::testing
