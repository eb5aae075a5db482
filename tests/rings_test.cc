// Daemons that talk through rings, of which one dies or stops in the middle.

#include <signal.h>

#include <atomic>
#include <csignal>
#include <memory>
#include <string>
#include <thread>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "tests/armed_daemon.h"
#include "tests/two_nodes.h"

namespace sheaf::testing {
namespace {

using Rings = TwoNodes;

/// So many messages that a ring is acknowledged: the next daemon, or the same one, goes
/// on, and each put is done once.
TEST_P(Rings, AReaderThatDiesOrStopsWhereItMakesRoomIsWaitedFor) {
  for (const char* point : {"before-position", "after-position"}) {
    for (const char* action : {"kill", "pause"}) {
      SCOPED_TRACE(std::string(point) + " " + action);
      ASSERT_OK(cluster_->KillDaemon(0));
      {
        ArmedDaemon leader(cluster_->name(), 0,
                           std::string("daemon.ring.") + point + "=" + action,
                           cluster_->folder() + "/log");
        ASSERT_TRUE(Eventually([&] { return cluster_->OpenDaemon(0).ok(); }));
        ASSERT_OK_AND_ASSIGN(const auto store, cluster_->Connect(1));
        const auto table = MakeTable(1, 0);
        std::atomic<bool> is_reached = false;
        arrow::Status restarted;
        std::thread puts([&] {
          // One more after it.
          for (int left = 1; left >= 0; left -= is_reached ? 1 : 0) {
            EXPECT_OK(store->Put("t", *table));
            EXPECT_OK(store->Remove("t"));
          }
        });
        is_reached =
            Eventually([&] { return leader.Look() != ArmedDaemon::State::kRuns; });
        EXPECT_TRUE(is_reached);
        if (leader.Look() == ArmedDaemon::State::kStopped) {
          leader.Continue();
        } else {
          restarted = cluster_->StartMissing();
        }
        puts.join();
        ASSERT_OK(restarted);
        EXPECT_TRUE(store->List().ValueOrDie().empty());
      }
      ASSERT_OK(cluster_->StartMissing());
    }
  }
  ExpectAllBack();
}

/// What is asked of a daemon that stops is done when it goes on.
TEST_P(Rings, ARequestWaitsForALeaderThatIsStopped) {
  {
    ASSERT_OK_AND_ASSIGN(const auto store, cluster_->Connect(1));
    ASSERT_OK(store->Put("a", *MakeTable(10, 0)));
    ASSERT_OK(cluster_->SignalDaemon(0, SIGSTOP));
    arrow::Status status = arrow::Status::UnknownError("not yet");
    std::thread put([&] { status = store->Put("b", *MakeTable(10, 1)).status(); });
    // Others see that it is under way: sealed, and not bound.
    EXPECT_TRUE(Eventually([&] { return store->Nodes().ValueOrDie()[1].objects == 2; }));
    ASSERT_OK(cluster_->SignalDaemon(0, SIGCONT));
    put.join();
    EXPECT_OK(status);
    ASSERT_OK(store->Remove("a"));
    ASSERT_OK(store->Remove("b"));
  }
  ExpectAllBack();
}

INSTANTIATE_TEST_SUITE_P(
    Backends, Rings,
    ::testing::Values("messages = \"rings\"\n", "messages = \"rings\"\nspin_us = 100\n",
                      "messages = \"rings\"\nbackend = \"sim\"\n[sim]\nchaos = true\n"),
    [](const auto& backend) {
      const std::string text = backend.param;
      if (text.find("sim") != std::string::npos) return "SimChaos";
      return text.find("spin") != std::string::npos ? "ShmSpinning" : "Shm";
    });

}  // namespace
}  // namespace sheaf::testing
