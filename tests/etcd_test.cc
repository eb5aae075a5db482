// A cluster with an etcd beside it: what that adds, and that nothing stops without it.

#include <signal.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <memory>
#include <optional>
#include <string>

#include <arrow/table.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arbiter/entries.h"
#include "arbiter/etcd_client.h"
#include "base/etcd_access.h"
#include "client/store_session.h"
#include "platform/test_folder.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/store.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/etcd_server.h"
#include "testing/eventually.h"
#include "testing/peer.h"
#include "testing/test_cluster.h"
#include "tests/armed_daemon.h"
#include "tests/command_line.h"
#include "tests/two_nodes.h"

namespace sheaf::testing {
namespace {

constexpr uint32_t kNodes = 3;

/// A reader on node 2.
std::string AnswerAsReader(const std::string& request) {
  static auto* store = new std::shared_ptr<Store>();
  static auto* held = new std::shared_ptr<arrow::Table>();
  if (!request.starts_with("get ")) {
    auto connected = Store::Connect({.cluster = request, .node = 2});
    if (connected.ok()) *store = *connected;
    return connected.status().ToString();
  }
  auto got = (*store)->Get(request.substr(4));
  if (got.ok()) *held = *got;
  return got.status().ToString();
}

TEST(Peer, Serves) {
  if (!IsPeer()) GTEST_SKIP() << "started by other tests";
  ServePeer(AnswerAsReader);
}

class WithEtcd : public ::testing::Test {
 protected:
  void SetUp() override { Begin(""); }
  void Begin(const std::string& keys) {
    if (EtcdServer::FindProgram().empty()) {
      GTEST_SKIP() << "no etcd on this machine: tools/setup.sh test unpacks one";
    }
    ASSERT_OK_AND_ASSIGN(etcd_, EtcdServer::Start());
    access_.endpoints = etcd_->url();
    if (!access_.user.empty()) {
      ASSERT_OK(etcd_->DemandUser(access_.user, kPassword, "/"));
    }
    TestClusterOptions options;
    options.nodes = kNodes;
    options.config_toml =
        "segment_size = \"64MiB\"\nslots_max = 4096\nrecords_size = \"16MiB\"\n"
        "heartbeat_ms = 10\nsuspect_after_ms = 1500\nsuspect_samples = 4\n"
        "[etcd]\nendpoints = \"" +
        etcd_->url() + "\"\ntime_to_live_s = 1\n" + keys;
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    ASSERT_OK_AND_ASSIGN(client_, arbiter::EtcdClient::Make(access_));
    ASSERT_OK_AND_ASSIGN(store_, cluster_->Connect(0));
  }

  uint64_t Free(uint32_t node) { return store_->Nodes().ValueOrDie()[node].free_bytes; }
  void AwaitState(uint32_t node, const std::string& state) {
    EXPECT_TRUE(Eventually([&] {
      return store_->Nodes().ValueOrDie()[node].state == state;
    })) << store_->Nodes().ValueOrDie()[node].state;
  }
  /// How many daemons are registered.
  size_t Registered() { return client_->List(Prefix() + "/node/").ValueOrDie().size(); }
  std::string Prefix() const {
    return "/sheaf/" + cluster_->name() + "-" + std::to_string(store_->cluster_id());
  }
  bool AllAreRegistered() {
    return Eventually([&] { return Registered() == kNodes; });
  }

  static constexpr const char* kPassword = "correct horse";
  EtcdAccess access_;
  std::unique_ptr<EtcdServer> etcd_;
  std::unique_ptr<TestCluster> cluster_;
  std::unique_ptr<arbiter::EtcdClient> client_;
  std::shared_ptr<Store> store_;
};

using Etcd = WithEtcd;

TEST_F(Etcd, DaemonsAreRegisteredUntilTheyEnd) {
  EXPECT_TRUE(AllAreRegistered());
  ASSERT_OK(cluster_->SignalDaemon(1, SIGTERM));
  EXPECT_TRUE(Eventually([&] { return Registered() == kNodes - 1; }));
  ASSERT_OK(cluster_->KillDaemon(2));  // silent for the time to live
  EXPECT_TRUE(Eventually([&] { return Registered() == kNodes - 2; }));
  ASSERT_OK(cluster_->StartMissing());
  EXPECT_TRUE(AllAreRegistered());
}

/// What asks etcd is another thread than what serves.
TEST_F(Etcd, ADaemonThatHangsIsRegisteredNoMore) {
  ASSERT_OK(cluster_->KillDaemon(1));
  AwaitState(1, "withdrawn");
  const ArmedDaemon hangs(cluster_->name(), 1,
                          "daemon.heartbeat.before-beat=delay:600000@100",
                          cluster_->folder() + "/log");
  AwaitState(1, "up");
  AwaitState(1, "withdrawn");
  EXPECT_TRUE(Eventually([&] { return Registered() == kNodes - 1; }));
}

/// Without etcd the operator would have to say it again when node 1 is back.
TEST_F(Etcd, AHomeThatWasAwayLearnsThatANodeIsOff) {
  const uint64_t free_at_start = Free(1);
  ASSERT_OK_AND_ASSIGN(auto peer, Peer::Start({}));
  ASSERT_EQ(peer->Ask(cluster_->name()).ValueOrDie(), "OK");
  {
    ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(1));
    ASSERT_OK(writer->Put("t", *MakeTable(50'000, 7)));
    ASSERT_EQ(peer->Ask("get t").ValueOrDie(), "OK");
    ASSERT_OK(writer->Remove("t"));
  }
  ASSERT_OK(cluster_->SignalDaemon(2, SIGSTOP));  // else it clears the dead one's cells
  peer->Kill();
  ASSERT_OK(cluster_->KillDaemon(2));
  ASSERT_OK(cluster_->KillDaemon(1));
  AwaitState(2, "withdrawn");
  EXPECT_LT(Free(1), free_at_start);
  ASSERT_OK(store_->ForgetNode(2));
  const ArmedDaemon home(cluster_->name(), 1, "", cluster_->folder() + "/log");
  EXPECT_TRUE(Eventually([&] { return Free(1) == free_at_start; }));
  AwaitState(2, "off");
}

/// Its ids and incarnations are not used again, whatever the clock says.
TEST_F(Etcd, MemoryThatWasLostIsFormattedAboveAllThatWas) {
  const auto epoch_in_etcd = [&] {
    return arbiter::LoadFormatEpoch(client_.get(), Prefix(), NodeId{1}).ValueOrDie();
  };
  ASSERT_TRUE(Eventually([&] { return epoch_in_etcd() != 0; }));
  const uint64_t far_ahead = epoch_in_etcd() + 1'000'000;  // As if the clock went back.
  ASSERT_OK(arbiter::RaiseFormatEpoch(client_.get(), Prefix(), NodeId{1}, far_ahead));
  ASSERT_OK(cluster_->KillDaemon(1));
  std::filesystem::remove_all(SessionOf(*store_)->region().config().segment_folder({1}));
  ASSERT_OK(cluster_->StartMissing());
  EXPECT_TRUE(Eventually([&] { return epoch_in_etcd() > far_ahead; })) << epoch_in_etcd();
}

/// The node that etcd knows as the leader is the one that leads in memory.
TEST_F(Etcd, TheLeaderOfTheCatalogIsKnown) {
  const auto leader_in_etcd = [&]() -> std::optional<uint32_t> {
    const auto entry = client_->Get(arbiter::LeaderKey(Prefix())).ValueOrDie();
    if (!entry) return std::nullopt;
    return arbiter::ParseDaemon(entry->value).ValueOrDie().node.value;
  };
  const auto leader_in_memory = [&]() -> std::optional<uint32_t> {
    for (const NodeInfo& node : store_->Nodes().ValueOrDie()) {
      if (node.is_leader) return node.id;
    }
    return std::nullopt;
  };
  const auto agree = [&](uint32_t not_node) {
    return Eventually([&] {
      const auto leader = leader_in_memory();
      return leader && *leader != not_node && leader_in_etcd() == leader;
    });
  };
  ASSERT_TRUE(agree(kNodes));
  ASSERT_OK_AND_ASSIGN(store_, cluster_->Connect(2));
  const uint32_t first = *leader_in_memory();
  ASSERT_NE(first, 2);
  ASSERT_OK(cluster_->KillDaemon(first));
  EXPECT_TRUE(agree(first));
  ASSERT_OK(store_->Put("t", *MakeTable(1000, 7)));
}

/// An etcd that lets nobody in but one user.
class EtcdWithUser : public WithEtcd {
 protected:
  void SetUp() override {
    access_.user = "sheaf";
    access_.password_file = folder_.path() + "/password";
    std::ofstream(access_.password_file) << kPassword << "\n";
    Begin("user = \"sheaf\"\npassword_file = \"" + access_.password_file + "\"\n");
  }

  platform::TestFolder folder_;
};

TEST_F(EtcdWithUser, DaemonsSignInAndNoFileTellsHow) {
  EXPECT_TRUE(AllAreRegistered());
  ASSERT_OK(etcd_->ChangePassword("sheaf", "another"));
  std::ofstream(access_.password_file) << "another\n";
  ASSERT_OK(cluster_->KillDaemon(2));
  EXPECT_TRUE(Eventually([&] { return Registered() == kNodes - 1; }));
  ASSERT_OK(cluster_->StartMissing());
  EXPECT_TRUE(AllAreRegistered());
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(cluster_->folder())) {
    if (!entry.is_regular_file() || entry.file_size() > (1 << 20)) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    EXPECT_THAT(text, ::testing::Not(::testing::HasSubstr(kPassword))) << entry.path();
  }
}

/// What an operator would have to say, the fence command says.
class Fenced : public WithEtcd {
 protected:
  void SetUp() override {
    const std::string program = folder_.path() + "/fence";
    std::ofstream(program) << "#!/bin/sh\necho \"$1 '$2'\" >> " << folder_.path()
                           << "/calls\nexec test -e " << folder_.path() << "/works\n";
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    Begin("fence_command = \"" + program + "\"\n");
  }
  void MakeItWork() { std::ofstream(folder_.path() + "/works"); }
  std::string Calls() {
    std::ifstream file(folder_.path() + "/calls");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  platform::TestFolder folder_;
};

TEST_F(Fenced, ANodeThatIsSilentForMemoryAndForEtcdIsPoweredOff) {
  MakeItWork();
  ASSERT_OK(cluster_->SignalDaemon(1, SIGTERM));  // in order: nobody's suspect
  AwaitState(1, "down");
  ASSERT_OK(cluster_->KillDaemon(2));
  AwaitState(2, "off");
  EXPECT_EQ(Calls(), "2 ''\n");
}

TEST_F(Fenced, ACommandThatFailsSaysNothingOfTheNode) {
  ASSERT_OK(cluster_->KillDaemon(2));
  EXPECT_TRUE(Eventually([&] { return !Calls().empty(); }));
  AwaitState(2, "withdrawn");
  ASSERT_OK(cluster_->StartMissing());
  AwaitState(2, "up");
}

/// No reader and no writer waits for it, and all are registered when it is back, also if
/// it has lost everything.
TEST_F(Etcd, WithoutItEverythingGoesOn) {
  ASSERT_OK(store_->Put("t", *MakeTable(1000, 7)));
  for (const bool loses_all : {false, true}) {
    etcd_->Kill();
    if (loses_all) etcd_->ForgetAll();
    ASSERT_OK(cluster_->KillDaemon(1));
    ASSERT_OK(cluster_->StartMissing());
    for (uint32_t node = 0; node < kNodes; ++node) {
      ASSERT_OK_AND_ASSIGN(auto store, cluster_->Connect(node));
      ASSERT_OK(store->Put("u", *MakeTable(1000, 9), {.replace = true}));
      ASSERT_OK_AND_ASSIGN(const auto table, store->Get("t"));
      EXPECT_TRUE(table->Equals(*MakeTable(1000, 7)));
    }
    ASSERT_OK(etcd_->Restart());
    EXPECT_TRUE(AllAreRegistered());
  }
}

TEST_F(Etcd, DoctorSaysWhetherItAnswers) {
  const std::string command =
      std::string(SHEAF_BINARY) + " --cluster " + cluster_->name() + " doctor";
  EXPECT_THAT(CommandLine::Run(command).out,
              ::testing::AllOf(::testing::HasSubstr(etcd_->url()),
                               ::testing::Not(::testing::HasSubstr("does not answer"))));
  etcd_->Kill();
  EXPECT_THAT(CommandLine::Run(command).out,
              ::testing::HasSubstr("problem: etcd does not answer"));
}

/// It takes connections and answers nothing.
TEST_F(Etcd, OneThatHangsHoldsNobodyUp) {
  EXPECT_TRUE(AllAreRegistered());
  etcd_->Pause();
  ASSERT_OK(store_->Put("t", *MakeTable(1000, 7)));
  ASSERT_OK(store_->Get("t"));
  ASSERT_OK(cluster_->KillDaemon(1));
  ASSERT_OK(cluster_->StartMissing());
  ASSERT_OK(cluster_->Connect(1));
  etcd_->Continue();
  EXPECT_TRUE(AllAreRegistered());
}

}  // namespace
}  // namespace sheaf::testing
