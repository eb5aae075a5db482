// Memory of other nodes while daemons die, nodes fall silent, come back or are forgotten;
// and what would be seen if a rule of it were left out.

#include <signal.h>

#include <csignal>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <arrow/memory_pool.h>
#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/plant.h"
#include "sheaf/handle.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/peer.h"
#include "tests/armed_daemon.h"
#include "tests/remote_nodes.h"
#include "tests/two_nodes.h"

namespace sheaf::testing {
namespace {

constexpr int64_t kRows = 200'000;

TEST(Peer, Serves) {
  if (!IsPeer()) GTEST_SKIP() << "started by other tests";
  ServePeer(AnswerAsBuilder);
}

class RemoteRestart : public RemoteNodes {
 protected:
  /// `node`'s daemon dies at `point`, and the next one goes on.
  void PutWhileItDies(uint32_t node, const std::string& point) {
    SCOPED_TRACE("node " + std::to_string(node) + " at " + point);
    const auto writer = Connect(0);
    const auto table = MakeTable(kRows, 7);
    ASSERT_OK_AND_ASSIGN(const auto first, writer->Put("t", *table, {.on = 1}));
    ASSERT_OK(cluster_->KillDaemon(node));
    PutReceipt again;
    {
      ArmedDaemon armed(cluster_->name(), node, point + "=kill",
                        cluster_->folder() + "/daemon.log");
      ASSERT_TRUE(Eventually([&] { return cluster_->OpenDaemon(node).ok(); }));
      arrow::Status put;
      std::thread putting([&] {
        const auto receipt =
            writer->Put("t", *MakeTable(kRows, 8), {.replace = true, .on = 1});
        put = receipt.status();
        if (receipt.ok()) again = *receipt;
      });
      EXPECT_TRUE(Eventually([&] { return armed.Look() == ArmedDaemon::State::kEnded; }));
      EXPECT_OK(cluster_->StartMissing());
      putting.join();
      ASSERT_OK(put);
    }
    EXPECT_EQ(again.version, first.version + 1) << "done once";
    ExpectEverywhere("t", *MakeTable(kRows, 8));
    ASSERT_OK(Connect(2)->Remove("t"));
  }

  /// All memory of a node is written anew.
  void FillAndFree(uint32_t node) {
    const auto writer = Connect(node);
    std::vector<Handle> handles;
    for (;;) {
      const auto shared = writer->Share(*MakeTable(kRows, 99));
      if (!shared.ok()) break;
      handles.push_back(shared->handle);
    }
    EXPECT_GT(handles.size(), 8U);
    for (const Handle& handle : handles) {
      ASSERT_OK_AND_ASSIGN(const auto opened, writer->Open(handle));
      EXPECT_TRUE(opened->Equals(*MakeTable(kRows, 99)));
    }
    for (const Handle& handle : handles) ASSERT_OK(writer->Drop(handle));
  }
};

TEST_P(RemoteRestart, APutIsDoneOnceOverTheDeathOfEitherDaemon) {
  for (const char* point : {"daemon.guest-reply.before-send",
                            "daemon.guest-reply.after-send", "daemon.grant.after-line",
                            "daemon.seal.after-slot", "daemon.publish.after-note"}) {
    PutWhileItDies(1, point);
  }
  for (const char* point :
       {"daemon.guest-request.before-send", "daemon.guest-request.after-send"}) {
    PutWhileItDies(0, point);
  }
  ExpectAllBack();
}

TEST_P(RemoteRestart, WhoBuildsElsewhereGoesOnWithTheNextDaemons) {
  const auto peer = StartBuilder(0);
  Ask(*peer, "build 1 200000 3");
  for (const std::vector<uint32_t>& who :
       {std::vector<uint32_t>{0}, std::vector<uint32_t>{1},
        std::vector<uint32_t>{0, 1}}) {
    for (const uint32_t node : who) ASSERT_OK(cluster_->KillDaemon(node));
    ASSERT_OK(cluster_->StartMissing());
    AwaitState(2, 0, "up");
  }
  Ask(*peer, "put 1 t");
  ExpectEverywhere("t", *MakeTable(kRows, 3));
  Ask(*peer, "build 1 200000 4");
  // Both daemons and the session at once: what they held is free again.
  ASSERT_OK(cluster_->KillDaemon(0));
  ASSERT_OK(cluster_->KillDaemon(1));
  peer->Kill();
  ASSERT_OK(cluster_->StartMissing());
  ExpectEverywhere("t", *MakeTable(kRows, 3));
  ASSERT_OK(Connect(2)->Remove("t"));
  ExpectAllBack();
}

/// D3, by a daemon that dies in the middle of it: the next one says it all again.
TEST_P(RemoteRestart, WhatADeadSessionHeldComesBackOverTheDeathOfItsDaemon) {
  for (const char* point :
       {"daemon.guests-request.before-send", "daemon.guests.before-settle",
        "daemon.guests.after-settle"}) {
    SCOPED_TRACE(point);
    ASSERT_OK(cluster_->KillDaemon(0));
    // At its start it tells both other homes.
    const bool tells = std::string(point).ends_with("before-send");
    const std::string pass = tells ? "=kill@3" : "=kill";
    ArmedDaemon armed(cluster_->name(), 0, point + pass,
                      cluster_->folder() + "/daemon.log");
    ASSERT_TRUE(Eventually([&] { return cluster_->OpenDaemon(0).ok(); }));
    const auto peer = StartBuilder(0);
    Ask(*peer, "build 1 200000 3");
    Ask(*peer, "share 1");
    Ask(*peer, "build 1 400000 3");
    peer->Kill();
    ASSERT_TRUE(Eventually([&] { return armed.Look() == ArmedDaemon::State::kEnded; }));
    EXPECT_LT(Connect(1)->Nodes().ValueOrDie()[1].free_bytes, free_at_start_[1]);
    ASSERT_OK(cluster_->StartMissing());
    AwaitState(1, 0, "up");
    ExpectAllBack();
  }
}

/// F3: what a silent node's sessions may still write is nobody else's.
TEST_P(RemoteRestart, ANodeThatIsWithdrawnKeepsWhatItsSessionsHoldElsewhere) {
  const auto peer = StartBuilder(2);
  Ask(*peer, "build 1 400000 3");
  const uint64_t held = Free(1);
  EXPECT_LT(held, free_at_start_[1]);
  ASSERT_OK(cluster_->SignalDaemon(2, SIGSTOP));
  ASSERT_EQ(::kill(peer->process_id(), SIGSTOP), 0);
  AwaitState(1, 2, "withdrawn");
  EXPECT_EQ(Free(1), held);
  FillAndFree(1);
  ASSERT_OK(Connect(1)->Put("other", *MakeTable(kRows, 4)));
  ASSERT_OK(cluster_->SignalDaemon(2, SIGCONT));
  ASSERT_EQ(::kill(peer->process_id(), SIGCONT), 0);
  AwaitState(1, 2, "up");
  AwaitState(0, 2, "up");
  Ask(*peer, "put 1 t");  // late stores, under the incarnation before
  ExpectEverywhere("t", *MakeTable(400'000, 3));
  ExpectEverywhere("other", *MakeTable(kRows, 4));
  peer->Kill();
  for (const char* name : {"t", "other"}) ASSERT_OK(Connect(0)->Remove(name));
  ExpectAllBack();
}

TEST_P(RemoteRestart, WhatAForgottenNodeHeldElsewhereIsFree) {
  const auto peer = StartBuilder(2);
  Ask(*peer, "build 1 200000 3");
  Ask(*peer, "put 1 t");
  Ask(*peer, "build 1 400000 4");
  ASSERT_OK(cluster_->SignalDaemon(2, SIGSTOP));
  peer->Kill();
  ASSERT_OK(cluster_->KillDaemon(2));
  {
    const auto store = Connect(0);
    AwaitState(0, 2, "withdrawn");
    AwaitState(1, 2, "withdrawn");
    EXPECT_LT(Free(1), free_at_start_[1]);
    ASSERT_OK(store->ForgetNode(2));
    ASSERT_OK(store->Get("t"));
    ASSERT_OK(store->Remove("t"));
  }
  EXPECT_TRUE(Eventually([&] { return Free(1) == free_at_start_[1]; }));
  ASSERT_OK(cluster_->StartMissing());
  AwaitState(0, 2, "up");
  AwaitState(1, 2, "up");
  ASSERT_OK(Connect(2)->Put("t", *MakeTable(kRows, 5), {.on = 1}));
  ASSERT_OK(Connect(0)->Remove("t"));
  ExpectAllBack();
}

INSTANTIATE_TEST_SUITE_P(Backends, RemoteRestart, EveryRemoteBackend(),
                         RemoteBackendName);

/// Where nothing moves unless it is told to: a rule that is left out shows.
class RemotePlants : public RemoteRestart {
 protected:
  void TearDown() override { SetPlants(""); }
  void StartWith(const std::string& daemon_plants) {
    cluster_.reset();
    free_at_start_.clear();
    StartCluster(daemon_plants);
  }
  /// Bytes of a dead session of node 0 are, or are not, in the way of who gets its
  /// memory.
  bool IsRightAfterADeath() {
    const auto peer = StartBuilder(0);
    Ask(*peer, "build 1 200000 3");
    peer->Kill();
    EXPECT_TRUE(Eventually([&] { return Free(1) == free_at_start_[1]; }));
    FillAndFree(1);
    EXPECT_OK(Connect(1)->Put("t", *MakeTable(kRows, 4)));
    // Whoever reads there writes back what is dirty, and drops it.
    EXPECT_OK(Connect(0)->Get("t"));
    const auto opened = Connect(2)->Get("t").ValueOrDie();
    return opened->Equals(*MakeTable(kRows, 4));
  }
  /// The same of a node that was silent, and goes on writing when it is back.
  bool IsRightAfterAWithdrawal() {
    const auto peer = StartBuilder(2);
    Ask(*peer, "build 1 200000 3");
    EXPECT_OK(cluster_->SignalDaemon(2, SIGSTOP));
    AwaitState(1, 2, "withdrawn");
    EXPECT_OK(Connect(1)->Put("t", *MakeTable(kRows, 4)));
    EXPECT_OK(cluster_->SignalDaemon(2, SIGCONT));
    AwaitState(1, 2, "up");
    EXPECT_OK(peer->Ask("put 1 late"));  // flushes
    EXPECT_OK(Connect(2)->Get("t"));
    const auto opened = Connect(0)->Get("t").ValueOrDie();
    return opened->Equals(*MakeTable(kRows, 4));
  }
};

TEST_P(RemotePlants, BytesThatAreNotFlushedElsewhereAreNotRead) {
  const auto writer = Connect(0);
  ASSERT_OK_AND_ASSIGN(arrow::MemoryPool* const pool, writer->memory_pool(1));
  SetPlants("no-flush-remote");
  const auto table = MakeTable(kRows, 3, pool);  // given back it would be flushed
  ASSERT_OK(writer->Put("t", *table, {.on = 1}));
  ASSERT_OK_AND_ASSIGN(const auto opened, Connect(2)->Get("t"));
  EXPECT_FALSE(opened->Equals(*MakeTable(kRows, 3)));
}

TEST_P(RemotePlants, WhatADeadSessionWroteElsewhereMustBeSettled) {
  EXPECT_TRUE(IsRightAfterADeath());
  StartWith("no-settle-remote");
  EXPECT_FALSE(IsRightAfterADeath());
}

TEST_P(RemotePlants, WhatAWithdrawnNodeHoldsElsewhereMustStay) {
  EXPECT_TRUE(IsRightAfterAWithdrawal());
  StartWith("no-quarantine");
  EXPECT_FALSE(IsRightAfterAWithdrawal());
}

INSTANTIATE_TEST_SUITE_P(Backends, RemotePlants, ::testing::Values("backend = \"sim\"\n"),
                         RemoteBackendName);

}  // namespace
}  // namespace sheaf::testing
