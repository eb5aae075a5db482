// What `sheaf doctor` says of a machine, and of a cluster that is well or not.

#include <signal.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include <arrow/buffer.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/live_check.h"
#include "lease/lease.h"
#include "platform/process.h"
#include "platform/shared_word.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/sheaf.h"
#include "testing/arrow_test.h"
#include "tests/command_line.h"

namespace sheaf::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class Doctor : public CommandLine {
 protected:
  region::ClusterConfig Config() const {
    return region::ClusterConfig::Load(region::ClusterFilePath(cluster_)).ValueOrDie();
  }
};

TEST_F(Doctor, SaysWhatTheMachineOffersAndStartsNothing) {
  const Json report = SheafJson("doctor");
  EXPECT_GE(report["machine"]["page_bytes"], 4096);
  EXPECT_TRUE(report["machine"]["cache_self_test_passed"]);
  EXPECT_GT(report["machine"]["memory_bytes"], 0);
  EXPECT_THAT(report["problems"], IsEmpty());
  EXPECT_THAT(Sheaf("doctor").out, HasSubstr("no '" + cluster_ + "' on this host"));
  EXPECT_EQ(Sheaf("down").code, 1) << "it started a cluster";
}

TEST_F(Doctor, ALimitThatIsTooLowIsAProblem) {
  Up("--nodes 1");
  const Ran ran =
      Run("bash -c 'ulimit -f 1024; " + std::string(SHEAF_BINARY) + " doctor'");
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.out, HasSubstr("a file may have 1.0 MiB here"));
}

TEST_F(Doctor, WhatIsInUseIsNotWrong) {
  Up("--nodes 2");
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 1000)).code, 0);
  ASSERT_OK_AND_ASSIGN(const auto node0, Store::Connect({cluster_, 0}));
  ASSERT_OK_AND_ASSIGN(const auto node1, Store::Connect({cluster_, 1}));
  ASSERT_OK_AND_ASSIGN(const auto opened, node1->Get("t"));
  ASSERT_OK(node1->Put("foreign", *opened));
  ASSERT_OK(node0->Remove("t"));  // Retired, and read by a process and by node 1.
  const Ran ran = Sheaf("doctor");
  EXPECT_EQ(ran.code, 0) << ran.out;
  EXPECT_THAT(ran.out, HasSubstr("nothing is wrong"));
}

TEST_F(Doctor, ADaemonThatDoesNotRunIsNamed) {
  Up("--nodes 2");
  EndDaemon(1);
  const Ran one = Sheaf("doctor");
  EXPECT_EQ(one.code, 1);
  EXPECT_THAT(one.out,
              HasSubstr("no daemon answers for node 1: start it with: sheaf up"));
  EXPECT_THAT(one.out, Not(HasSubstr("for node 0")));
  EndDaemon(0);
  EXPECT_THAT(Sheaf("doctor").out, HasSubstr("is down: sheaf up starts its daemons"));
  ASSERT_EQ(Sheaf("up").code, 0);
  const Ran all = Sheaf("doctor");
  EXPECT_EQ(all.code, 0) << all.out;
}

/// Its socket takes connections all the same.
TEST_F(Doctor, ADaemonThatIsStoppedIsNamedAndNobodyWaitsForEver) {
  Up("--nodes 1");
  ASSERT_OK_AND_ASSIGN(const auto socket,
                       platform::ConnectUnix(Config().socket_path({0})));
  ASSERT_OK_AND_ASSIGN(const auto peer, platform::GetPeerCredentials(socket.get()));
  ASSERT_EQ(::kill(peer.process_id, SIGSTOP), 0);
  const std::string advice = "kill -CONT " + std::to_string(peer.process_id);
  const Ran stopped = Sheaf("doctor");
  EXPECT_EQ(stopped.code, 1);
  EXPECT_THAT(stopped.out, HasSubstr("problem: the daemon at "));
  EXPECT_THAT(stopped.out, HasSubstr(advice));
  EXPECT_THAT(Sheaf("ls").out, HasSubstr(advice));
  ASSERT_EQ(::kill(peer.process_id, SIGCONT), 0);
  EXPECT_THAT(Sheaf("doctor").out, HasSubstr("nothing is wrong"));
}

TEST_F(Doctor, SaysWhatCarriesMessagesAndWhetherItsDoorbellsAreThere) {
  Up("--nodes 2");
  EXPECT_EQ(SheafJson("doctor")["messages"], (Json{{"transport", "sockets"}}));
  ASSERT_EQ(Sheaf("down").code, 0);
  Up("--nodes 2 --messages rings");
  const Json messages = SheafJson("doctor")["messages"];
  EXPECT_EQ(messages["transport"], "rings");
  ASSERT_EQ(messages["doorbells"].size(), 2);
  EXPECT_EQ(messages["doorbells"][1],
            (Json{{"node", 1}, {"kind", "unix"}, {"address", ""}}));
  EXPECT_THAT(Sheaf("doctor").out, HasSubstr("rings in the nodes' memory"));
  fs::remove(Config().doorbell_path({1}));
  const Ran gone = Sheaf("doctor");
  EXPECT_EQ(gone.code, 1);
  EXPECT_THAT(gone.out, HasSubstr("the doorbell of node 1 is gone"));
}

TEST_F(Doctor, SaysWhoCanRingWhomOfAClusterFile) {
  const std::string head = "name = \"" + cluster_ + "\"\nmemory_folder = \"" + folder_ +
                           "/memory\"\nbackend = \"file\"\ncoherence = \"software\"\n"
                           "nodes = 3\n[[node]]\nid = 0\nhost = \"" +
                           platform::HostName() +
                           "\"\naddress = \"127.0.0.1:7100\"\n[[node]]\nid = 2\n"
                           "host = \"gamma\"\n[[node]]\nid = 1\nhost = \"beta\"\n";
  const std::string file = folder_ + "/lab.toml";
  const auto look = [&](const std::string& address) {
    std::ofstream(file) << head << "address = \"" << address << "\"\n";
    return Sheaf("--json doctor --config " + file);
  };
  const Ran good = look("127.0.0.1:7101");
  ASSERT_EQ(good.code, 0) << good.out;
  const Json doorbells = Json::parse(good.out)["messages"]["doorbells"];
  EXPECT_EQ(doorbells[0]["kind"], "unix");
  EXPECT_EQ(doorbells[1],
            (Json{{"node", 1}, {"kind", "udp"}, {"address", "127.0.0.1:7101"}}));
  EXPECT_EQ(doorbells[2]["kind"], "none");
  EXPECT_THAT(look("[::1]:7101").out, HasSubstr("nodes 0 and 1 cannot ring each other"));
}

TEST_F(Doctor, ADamagedSlotIsFoundWhileItsDaemonRuns) {
  Up();
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 1000)).code, 0);
  Damage(0, Layout().slots + 16);
  const Ran ran = Sheaf("doctor");
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.out, HasSubstr("slot 0:0"));
}

// Memory that is not free and not anybody's: a grant line that says more than is so.
TEST_F(Doctor, BytesThatNobodyHasAreFound) {
  Up();
  ASSERT_OK_AND_ASSIGN(const auto store, Store::Connect({cluster_, 0}));
  ASSERT_OK_AND_ASSIGN(const auto buffer,
                       arrow::AllocateBuffer(1000, store->memory_pool()));
  EXPECT_EQ(Sheaf("doctor").code, 0);
  Damage(0, Layout().grants + 16);
  const Ran ran = Sheaf("doctor");
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.out, HasSubstr("free bytes, but grants and tables leave"));
}

TEST_F(Doctor, ALeaseOnWhatIsGoneIsFound) {
  Up();
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 1000)).code, 0);
  ASSERT_OK_AND_ASSIGN(const auto store, Store::Connect({cluster_, 0}));
  ASSERT_OK_AND_ASSIGN(const auto opened, store->Get("t"));
  const auto region =
      region::Region::Attach(Config(), {.node = {0}, .relocate = true}).ValueOrDie();
  EXPECT_THAT(daemon::CheckLiveCluster(Config()).ValueOrDie(), IsEmpty());
  // The lease is the only one on any page.
  uint64_t* cell = nullptr;
  for (uint32_t page = 0; page < Config().lease_pages_max && cell == nullptr; ++page) {
    uint64_t* const first =
        region->own_segment().LeasePage(page) + lease::kPageHeaderWords;
    if (platform::SharedWord(first).LoadAcquire() != 0) cell = first;
  }
  ASSERT_NE(cell, nullptr);
  region::Part& leases = region->own_segment().leases();
  ASSERT_OK(leases.SetWritable(0, leases.size_bytes(), /*writable=*/true));
  const uint64_t lease = platform::SharedWord(cell).LoadAcquire();
  platform::SharedWord(cell).StoreRelease(lease + 1);  // the next generation
  EXPECT_THAT(daemon::CheckLiveCluster(Config()).ValueOrDie(),
              Contains(HasSubstr("there is a lease on object 0:0, which is gone")));
  platform::SharedWord(cell).StoreRelease(lease);
}

}  // namespace
}  // namespace sheaf::testing
