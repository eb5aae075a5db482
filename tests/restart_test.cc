// Daemons that die and come back under processes that use their tables: sealed tables
// survive, readers read through the gap, sessions go on, and what died meanwhile leaves
// nothing.

#include <signal.h>
#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <ios>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <arrow/array/array_primitive.h>
#include <arrow/builder.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/test_folder.h"
#include "sheaf/cluster.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/peer.h"
#include "testing/test_cluster.h"
#include "tests/two_nodes.h"

namespace sheaf::testing {
namespace {

using arrow::Table;
using Restart = TwoNodes;

TEST(Peer, Serves) {
  if (!IsPeer()) GTEST_SKIP() << "started by other tests";
  ServePeer(AnswerAsHolder);
}

/// A leader that starts has no index until it has read all slots (C1).
TEST_P(Restart, NamesAreFoundWhileTheIndexIsMadeAnew) {
  {
    const auto source = MakeTable(1000, 7);
    ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(auto reader, cluster_->Connect(1));
    ASSERT_OK(writer->Put("t", *source));
    ASSERT_OK(cluster_->KillDaemon(0));
    std::atomic<bool> is_up = false;
    std::thread starting([&] {
      EXPECT_OK(cluster_->StartMissing("daemon.claim.after-epoch=delay:300"));
      is_up = true;
    });
    while (!is_up) {
      const auto opened = reader->Get("t");
      EXPECT_OK(opened.status());
      if (!opened.ok()) break;
      EXPECT_TRUE((*opened)->Equals(*source));
    }
    starting.join();
    ASSERT_OK(writer->Remove("t"));
    EXPECT_TRUE(reader->Get("t").status().IsKeyError());
  }
  ExpectAllBack();
}

TEST_P(Restart, ReadersReadThroughTheGapAndSessionsGoOn) {
  const auto source = MakeTable(50'000, 7);
  {
    ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(auto reader, cluster_->Connect(1));
    ASSERT_OK(writer->Put("t", *source));
    ASSERT_OK_AND_ASSIGN(const auto unnamed, writer->Share(*source));
    ASSERT_OK_AND_ASSIGN(auto held, reader->Get("t"));
    // Built before the daemon dies, published after it.
    const auto built = MakeTable(20'000, 3, writer->memory_pool());

    ASSERT_OK(cluster_->KillDaemon(0));
    EXPECT_TRUE(held->Equals(*source));
    ASSERT_OK_AND_ASSIGN(auto opened, reader->Get("t"));  // one-sided
    EXPECT_TRUE(opened->Equals(*source));
    ASSERT_OK(cluster_->StartMissing());

    EXPECT_TRUE(held->Equals(*source));
    ASSERT_OK_AND_ASSIGN(opened, reader->Get("t"));
    EXPECT_TRUE(opened->Equals(*source));
    ASSERT_OK_AND_ASSIGN(opened, reader->Open(unnamed.handle));
    EXPECT_TRUE(opened->Equals(*source));
    ASSERT_OK_AND_ASSIGN(const auto receipt, writer->Put("built", *built));
    EXPECT_EQ(receipt.bytes_copied, 0);
    ASSERT_OK_AND_ASSIGN(opened, reader->Get("built"));
    EXPECT_TRUE(opened->Equals(*built));
    EXPECT_TRUE(writer->Put("t", *source).status().IsAlreadyExists());
    PutOptions replacing;
    replacing.replace = true;
    ASSERT_OK(writer->Put("t", *built, replacing));
    ASSERT_OK(reader->Remove("t"));
    ASSERT_OK(reader->Remove("built"));
    EXPECT_TRUE(held->Equals(*source));
  }
  ExpectAllBack();
}

/// Model `restart`: it was done, its reply was lost, and the table was removed before it
/// was asked for again.
TEST_P(Restart, APutThatIsRepeatedDoesNotBringBackWhatWasRemovedSince) {
  ASSERT_OK(cluster_->KillDaemon(0));
  ASSERT_OK(cluster_->StartMissing("daemon.publish.after-retire=kill"));
  ASSERT_OK_AND_ASSIGN(const auto daemon, cluster_->OpenDaemon(0));
  ASSERT_OK_AND_ASSIGN(auto peer, Peer::Start({}));
  ASSERT_EQ(peer->Ask("connect " + cluster_->name()).ValueOrDie(), "OK");
  std::string answer;
  std::thread putting([&] { answer = peer->Ask("put t").ValueOr("no answer"); });
  EXPECT_TRUE(Eventually([&] { return platform::HasExited(daemon); }));
  EXPECT_EQ(::kill(peer->process_id(), SIGSTOP), 0);
  EXPECT_OK(cluster_->StartMissing());
  {
    ASSERT_OK_AND_ASSIGN(auto other, cluster_->Connect(0));
    EXPECT_OK(other->Remove("t"));
    EXPECT_EQ(::kill(peer->process_id(), SIGCONT), 0);
    putting.join();
    EXPECT_EQ(answer, "OK");
    EXPECT_TRUE(other->Get("t").status().IsKeyError());
  }
  peer.reset();
  ExpectAllBack();
}

TEST_P(Restart, TheLeadersNodeAndTheOthersOneAfterTheOther) {
  const auto source = MakeTable(5'000, 7);
  {
    ASSERT_OK_AND_ASSIGN(auto first, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(auto second, cluster_->Connect(1));
    for (int round = 0; round < 3; ++round) {
      const std::string name = "t" + std::to_string(round);
      ASSERT_OK(first->Put(name, *source));
      ASSERT_OK(second->Put(name + "b", *source));
      KillAndRestart(round % 2);
      for (const auto& store : {first, second}) {
        for (const std::string& each : {name, name + "b"}) {
          ASSERT_OK_AND_ASSIGN(auto opened, store->Get(each));
          EXPECT_TRUE(opened->Equals(*source));
        }
      }
      ASSERT_OK(second->Remove(name));
      ASSERT_OK(first->Remove(name + "b"));
    }
  }
  ExpectAllBack();
}

TEST_P(Restart, WhatDiedWhileTheDaemonWasAwayLeavesNothing) {
  {
    ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(1));
    ASSERT_OK(writer->Put("t", *MakeTable(5'000, 1)));
  }
  ASSERT_OK_AND_ASSIGN(auto peer, Peer::Start({}));
  ASSERT_EQ(peer->Ask("connect " + cluster_->name()).ValueOrDie(), "OK");
  ASSERT_EQ(peer->Ask("hold t").ValueOrDie(), "OK");
  ASSERT_OK(cluster_->KillDaemon(0));
  peer->Kill();
  ASSERT_OK(cluster_->StartMissing());
  {
    ASSERT_OK_AND_ASSIGN(auto store, cluster_->Connect(1));
    EXPECT_TRUE(Eventually([&] {
      return store->Nodes().ValueOrDie()[0].sessions == 0 &&
             store->Stat("t").ValueOrDie().leases == 0;
    }));
    ASSERT_OK(store->Remove("t"));
  }
  ExpectAllBack();
}

TEST_P(Restart, WhatWasRemovedBeforeIsFreedByTheNextDaemon) {
  {
    ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(0));
    ASSERT_OK(writer->Put("t", *MakeTable(50'000, 1)));
  }
  ASSERT_OK_AND_ASSIGN(auto reader, cluster_->Connect(1));
  ASSERT_OK_AND_ASSIGN(auto held, reader->Get("t"));
  ASSERT_OK(reader->Remove("t"));
  EXPECT_TRUE(Eventually([&] { return reader->Nodes().ValueOrDie()[0].sessions == 0; }));
  ASSERT_OK(cluster_->KillDaemon(0));
  held.reset();
  ASSERT_OK(cluster_->StartMissing());
  // Nobody speaks to it.
  EXPECT_TRUE(Eventually(
      [&] { return reader->Nodes().ValueOrDie()[0].free_bytes == free_at_start_[0]; }));
}

TEST_P(Restart, AWaitingCallIsAnsweredByTheNextDaemon) {
  {
    ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(0));
    ASSERT_OK(writer->Put("t", *MakeTable(100, 1)));
    ASSERT_OK(cluster_->KillDaemon(0));
    std::thread starter([&] { SHEAF_CHECK(cluster_->StartMissing().ok()); });
    const arrow::Status removed = writer->Remove("t");  // waits for the starter
    starter.join();
    ASSERT_OK(removed);
  }
  ExpectAllBack();
}

/// Whoever ends a cluster does not wait for ever for a daemon that cannot hear.
TEST_P(Restart, ADaemonThatIsStoppedDoesNotEndAndThatIsSaid) {
  ASSERT_OK(cluster_->SignalDaemon(1, SIGSTOP));
  StopOptions options;
  options.timeout = std::chrono::milliseconds(300);
  const arrow::Status stopped = StopCluster(cluster_->name(), options);
  EXPECT_TRUE(IsTimeout(stopped)) << stopped;
  EXPECT_NE(stopped.message().find("kill -CONT"), std::string::npos) << stopped;
  ASSERT_OK(cluster_->SignalDaemon(1, SIGCONT));
  ASSERT_OK(StopCluster(cluster_->name()));
}

TEST_P(Restart, AfterAnEndOnPurposeNobodyWaits) {
  ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(0));
  ASSERT_OK(writer->Put("t", *MakeTable(100, 1)));
  ASSERT_OK_AND_ASSIGN(auto held, writer->Get("t"));
  ASSERT_OK(StopCluster(cluster_->name(), {.keep = true}));
  EXPECT_TRUE(IsDisconnected(writer->Put("u", *MakeTable(100, 1)).status()));
  EXPECT_EQ(held->num_rows(), 100);
  ASSERT_OK(cluster_->StartMissing());
  ASSERT_OK(writer->Put("u", *MakeTable(100, 1)));  // the same session
  ASSERT_OK_AND_ASSIGN(auto again, writer->Get("t"));
  EXPECT_TRUE(again->Equals(*held));
}

INSTANTIATE_TEST_SUITE_P(Backends, Restart, EveryBackend(), BackendName);

/// A daemon of another runtime folder (the first one was lost, say at a logout) finds the
/// memory and, beside it, who still uses it: their bytes stay theirs.
TEST(RuntimeFolder, ProcessesOfALostOneKeepWhatTheyHold) {
  TestClusterOptions options;
  options.nodes = 1;
  options.config_toml =
      "segment_size = \"64MiB\"\nslots_max = 4096\nrecords_size = \"16MiB\"\n";
  options.daemon_path = SHEAFD_BINARY;
  ASSERT_OK_AND_ASSIGN(auto cluster, TestCluster::Start(options));
  const auto source = MakeTable(50'000, 7);
  ASSERT_OK_AND_ASSIGN(auto store, cluster->Connect(0));
  ASSERT_OK(store->Put("t", *source));
  ASSERT_OK_AND_ASSIGN(auto held, store->Get("t"));
  ASSERT_OK(cluster->KillDaemon(0));
  const std::string first = cluster->folder() + "/run";
  ::setenv("SHEAF_RUNTIME_DIR", (cluster->folder() + "/other").c_str(), 1);
  ASSERT_OK(cluster->StartMissing());
  {
    ASSERT_OK_AND_ASSIGN(auto other, cluster->Connect(0));
    EXPECT_EQ(other->Stat("t").ValueOrDie().leases, 1U);
    EXPECT_EQ(other->Nodes().ValueOrDie()[0].sessions, 2U);
    ASSERT_OK(other->Remove("t"));
    for (int i = 0; i < 200; ++i) {
      ASSERT_OK_AND_ASSIGN(const auto unnamed, other->Share(*MakeTable(50'000, 8)));
      ASSERT_OK(other->Drop(unnamed.handle));
    }
    EXPECT_TRUE(held->Equals(*source));
  }
  ASSERT_OK(StopCluster(cluster->name()));
  ::setenv("SHEAF_RUNTIME_DIR", first.c_str(), 1);
}

/// What memory a home has it keeps, so it needs none to start, nor to use that again.
class FullMemory : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(platform::MakePrivateFolder(mount_));
    if (!platform::MountHugeTmpfs(mount_, uint64_t{24} << 20).ok()) {
      GTEST_SKIP() << "this user may not mount a tmpfs";
    }
  }
  void TearDown() override {
    cluster_.reset();
    ASSERT_OK(platform::Unmount(mount_));
  }
  void Start(const std::string& toml) {
    TestClusterOptions options;
    options.nodes = 1;
    options.config_toml = "memory_folder = \"" + mount_ + "\"\n" + toml;
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
  }
  // The last page of it.
  void TakeTheRest() {
    std::ofstream file(mount_ + "/rest", std::ios::binary);
    const std::string page(4096, 'x');
    while (file.write(page.data(), 4096).flush()) {
    }
  }

  platform::TestFolder folder_;
  const std::string mount_ = folder_.File("memory");
  std::unique_ptr<TestCluster> cluster_;
};

TEST_F(FullMemory, ADaemonStartsAndUsesItsMemoryAgain) {
  Start("segment_size = \"64MiB\"\nslots_max = 4096\nrecords_size = \"16MiB\"\n");
  const auto source = MakeTable(200'000, 7);
  ASSERT_OK_AND_ASSIGN(auto store, cluster_->Connect(0));
  int puts = 0;
  while (store->Put("t" + std::to_string(puts), *source).ok()) ++puts;
  ASSERT_GT(puts, 4);
  TakeTheRest();
  for (const bool on_purpose : {false, true}) {
    if (on_purpose) {
      ASSERT_OK(StopCluster(cluster_->name(), {.keep = true}));
    } else {
      ASSERT_OK(cluster_->KillDaemon(0));
    }
    ASSERT_OK(cluster_->StartMissing());
    ASSERT_OK_AND_ASSIGN(auto opened, store->Get("t0"));
    EXPECT_TRUE(opened->Equals(*source));
    opened.reset();
    ASSERT_OK(store->Remove("t0"));
    ASSERT_OK(store->Put("t0", *source));
  }
  store.reset();
}

TEST_F(FullMemory, WhatWasAllocatedAtOnceIsThereForTheNextDaemon) {
  Start(
      "segment_size = \"16MiB\"\nslots_max = 4096\nrecords_size = \"1MiB\"\n"
      "prealloc = true\n");
  for (const bool on_purpose : {false, true}) {
    if (on_purpose) {
      ASSERT_OK(StopCluster(cluster_->name(), {.keep = true}));
    } else {
      ASSERT_OK(cluster_->KillDaemon(0));
    }
    ASSERT_OK(cluster_->StartMissing());
  }
  ASSERT_OK_AND_ASSIGN(auto store, cluster_->Connect(0));
  ASSERT_OK(store->Put("t", *MakeTable(1'000'000, 7)));
}

}  // namespace
}  // namespace sheaf::testing
