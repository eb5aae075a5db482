// The node that leads the catalog dies, stops, or comes back: another one leads, and
// names stay what they were.

#include <signal.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "tests/armed_daemon.h"
#include "tests/two_nodes.h"

namespace sheaf::testing {
namespace {

class LeaderChange : public TwoNodes {
 protected:
  void AwaitLeader(const std::shared_ptr<Store>& store, uint32_t node) {
    EXPECT_TRUE(Eventually([&] { return store->Nodes().ValueOrDie()[node].is_leader; }));
  }
  PutOptions Replacing() const { return {.replace = true, .expected_version = {}}; }
};

TEST_P(LeaderChange, TheOtherNodeLeadsWhenTheLeaderIsKilled) {
  {
    ASSERT_OK_AND_ASSIGN(auto store, cluster_->Connect(1));
    AwaitLeader(store, 0);
    ASSERT_OK(store->Put("before", *MakeTable(1000, 7)));
    ASSERT_OK(cluster_->KillDaemon(0));
    // Waits for the next leader, which is found by the clients as well.
    ASSERT_OK(store->Put("t", *MakeTable(1000, 8)));
    ASSERT_OK(store->Put("t", *MakeTable(1000, 9), Replacing()));
    AwaitLeader(store, 1);
    EXPECT_RAISES(AlreadyExists, store->Put("before", *MakeTable(1, 1)));
    EXPECT_RAISES(KeyError, store->Get("nothing"));
    ASSERT_OK_AND_ASSIGN(auto opened, store->Get("t"));
    EXPECT_TRUE(opened->Equals(*MakeTable(1000, 9)));
    opened.reset();  // before daemons are forked

    // The last leader comes back, and follows.
    ASSERT_OK(cluster_->StartMissing());
    ASSERT_OK_AND_ASSIGN(auto back, cluster_->Connect(0));
    AwaitState(store, 0, "up");
    EXPECT_TRUE(back->Nodes().ValueOrDie()[1].is_leader);
    EXPECT_OK(back->Get("t"));
    ASSERT_OK(back->Put("t", *MakeTable(1000, 10), Replacing()));
    EXPECT_TRUE(store->Get("t").ValueOrDie()->Equals(*MakeTable(1000, 10)));
    ASSERT_OK(back->Remove("t"));
    ASSERT_OK(back->Remove("before"));
    EXPECT_RAISES(KeyError, store->Get("t"));
  }
  ExpectAllBack();
}

/// It does not know how long it stood still.
TEST_P(LeaderChange, ALeaderThatWasPausedStepsDown) {
  {
    ASSERT_OK_AND_ASSIGN(auto first, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(auto store, cluster_->Connect(1));
    ASSERT_OK(store->Put("t", *MakeTable(1000, 7)));
    ASSERT_OK(cluster_->SignalDaemon(0, SIGSTOP));
    // Asked before it stops for good, answered when it goes on.
    arrow::Status late;
    std::thread putting(
        [&] { late = first->Put("t", *MakeTable(1000, 5), Replacing()).status(); });
    AwaitLeader(store, 1);
    ASSERT_OK(store->Put("t", *MakeTable(1000, 8), Replacing()));
    ASSERT_OK(store->Put("u", *MakeTable(1000, 9)));
    ASSERT_OK(cluster_->SignalDaemon(0, SIGCONT));
    putting.join();
    ASSERT_OK(late);
    EXPECT_TRUE(store->Get("t").ValueOrDie()->Equals(*MakeTable(1000, 5)));
    EXPECT_RAISES(AlreadyExists, first->Put("u", *MakeTable(1, 1)));
    EXPECT_TRUE(first->Nodes().ValueOrDie()[1].is_leader);
    EXPECT_EQ(store->List().ValueOrDie().size(), 2);
    ASSERT_OK(first->Remove("t"));
    ASSERT_OK(first->Remove("u"));
  }
  ExpectAllBack();
}

/// Between a put's look at the epochs and its table another node led, and put the next
/// version: it found none before that to retire.
TEST_P(LeaderChange, AFirstVersionThatComesLateGoes) {
  ASSERT_OK(cluster_->KillDaemon(0));
  ArmedDaemon armed(cluster_->name(), 0, "daemon.publish.after-check=pause",
                    cluster_->folder() + "/armed.log");
  {
    std::shared_ptr<Store> first;
    ASSERT_TRUE(Eventually([&] {
      auto connected = cluster_->Connect(0);
      if (connected.ok()) first = *connected;
      return connected.ok();
    }));
    ASSERT_OK_AND_ASSIGN(auto store, cluster_->Connect(1));
    AwaitLeader(store, 0);
    arrow::Status late;
    std::thread putting([&] { late = first->Put("t", *MakeTable(1000, 7)).status(); });
    EXPECT_TRUE(Eventually([&] { return armed.Look() == ArmedDaemon::State::kStopped; }));
    AwaitLeader(store, 1);
    EXPECT_OK(store->Put("t", *MakeTable(1000, 8), Replacing()));
    armed.Continue();
    putting.join();
    EXPECT_OK(late);
    EXPECT_TRUE(Eventually([&] { return store->Nodes().ValueOrDie()[0].objects == 0; }));
    EXPECT_TRUE(store->Get("t").ValueOrDie()->Equals(*MakeTable(1000, 8)));
    EXPECT_OK(store->Remove("t"));
    EXPECT_RAISES(KeyError, first->Get("t"));
  }
  ExpectAllBack();
}

INSTANTIATE_TEST_SUITE_P(Backends, LeaderChange, EveryBackend(), BackendName);

}  // namespace
}  // namespace sheaf::testing
