// Deaths in the middle of a table in parts, and barriers (sheaf/parts.h).

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/client_faults.h"
#include "base/fault_info.h"
#include "base/fault_point.h"
#include "client/staged_object.h"
#include "client/staging.h"
#include "client/store_session.h"
#include "sheaf/sheaf.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/peer.h"
#include "tests/four_nodes.h"

namespace sheaf::testing {
namespace {

using ::testing::IsEmpty;

TEST(Peer, Serves) {
  if (!IsPeer()) GTEST_SKIP() << "started by other tests";
  ServePeer(AnswerAsWriter);
}

using PartsDeathTest = FourNodes;
INSTANTIATE_TEST_SUITE_P(, PartsDeathTest, FourNodesBackends(), BackendCaseName);

// At each pass of each step: the table is there as a whole or not at all, and one call
// ends what the dead began.
TEST_P(PartsDeathTest, ADeathAtAnyStepLeavesNothing) {
  int deaths = 0;
  for (const FaultPointInfo& point : kClientFaultPoints) {
    const std::string name(point.name);
    if (!name.starts_with("client.part.") && !name.starts_with("client.staging.") &&
        !name.starts_with("client.barrier.")) {
      continue;
    }
    for (int pass = 1;; ++pass) {
      const std::string fault = fmt::format("SHEAF_FAULT={}=kill@{}", name, pass);
      ASSERT_OK_AND_ASSIGN(auto dying, Peer::Start({fault}));
      ASSERT_OK(dying->Ask(fmt::format("connect {} 0", cluster_->name())));
      const bool lived = dying->Ask("all " + cluster_->name()).ok();
      dying.reset();
      deaths += !lived;
      const auto table = stores_[2]->Get("t");
      if (table.ok()) {
        EXPECT_THAT((*table)->num_rows(), ::testing::AnyOf(2 * kPartRows, 3 * kPartRows))
            << fault;
        EXPECT_TRUE((*table)->Equals(*Lineitem(0, (*table)->num_rows()))) << fault;
      }
      for (const char* removed : {"t", "u"}) {
        const arrow::Status status = stores_[3]->Remove(removed);
        EXPECT_TRUE(status.ok() || status.IsKeyError()) << status.ToString();
      }
      // Once the end of its session is seen.
      EXPECT_TRUE(
          Eventually([&] { return Barrier(stores_[3], "b", 1, milliseconds(0)).ok(); }));
      if (lived) break;
    }
  }
  EXPECT_GT(deaths, 20);
  ExpectNothingLeft();
}

// The node of the writer that brings the last part is silent for long while it makes the
// whole, and is declared off. Others do what the list says without it; once it is back it
// finds what it was about to do done.
TEST_P(PartsDeathTest, AWriterWhoseNodeIsFencedInMidSealLeavesAllOrNothing) {
  constexpr uint32_t kFenced = kNodes - 1;
  stores_.pop_back();  // A node that was off ends all of its sessions.
  const auto await_state = [&](const std::string& state) {
    EXPECT_TRUE(Eventually([&] {
      return stores_[0]->Nodes().ValueOrDie()[kFenced].state == state;
    })) << state;
  };
  // A part is missing; all are there; complete.
  for (const std::string point :
       {"client.part.before-prepare", "client.staging.before-complete",
        "client.part.before-table"}) {
    SCOPED_TRACE(point);
    for (uint32_t i = 0; i < kFenced; ++i) {
      ASSERT_OK(PutPart(stores_[i], "t", *Part(i), i, kNodes));
    }
    ASSERT_OK_AND_ASSIGN(auto writer, Peer::Start({"SHEAF_FAULT=" + point + "=pause"}));
    ASSERT_OK(writer->Ask(fmt::format("connect {} {}", cluster_->name(), kFenced)));
    arrow::Result<std::string> answer("none");
    std::thread asks(
        [&] { answer = writer->Ask(fmt::format("part t {} {}", kFenced, kNodes)); });
    siginfo_t stopped{};
    EXPECT_EQ(::waitid(P_PID, static_cast<id_t>(writer->process_id()), &stopped,
                       WSTOPPED | WEXITED | WNOWAIT),
              0);
    EXPECT_EQ(stopped.si_code, CLD_STOPPED);
    EXPECT_OK(cluster_->SignalDaemon(kFenced, SIGSTOP));
    ::kill(writer->process_id(), SIGCONT);
    await_state("withdrawn");
    EXPECT_TRUE(Eventually([&] {  // once it is silent for each home
      return stores_[0]->ForgetNode(kFenced).ok();
    }));
    await_state("off");
    EXPECT_TRUE(stores_[0]->Get("t").status().IsKeyError());
    const arrow::Status meanwhile = AbortParts(stores_[1], "t");
    const bool was_whole = point != "client.part.before-prepare";
    EXPECT_EQ(meanwhile.IsKeyError(), was_whole) << meanwhile.ToString();
    EXPECT_EQ(stores_[0]->Get("t").ok(), was_whole);
    EXPECT_OK(cluster_->SignalDaemon(kFenced, SIGCONT));
    asks.join();
    EXPECT_NE(answer.ValueOr("the writer ended"), "OK");
    writer.reset();
    // It may be off still for others, as for the home of what is left of the list.
    EXPECT_TRUE(Eventually(
        [&] { return !client::IsHomeOff(*SessionOf(*stores_[2]), {{kFenced}, 0, 1}); }));
    const auto table = stores_[2]->Get("t");
    if (was_whole) {
      ASSERT_OK(table);
      EXPECT_TRUE((*table)->Equals(*Lineitem(0, kNodes * kPartRows)));
      ASSERT_OK(stores_[2]->Remove("t"));
    } else {
      EXPECT_TRUE(table.status().IsKeyError()) << table.status().ToString();
    }
    await_state("up");
    // Whoever meets what it left cleans it up, once the node is there for its own.
    EXPECT_TRUE(Eventually([&] {
      EXPECT_RAISES(KeyError, AbortParts(stores_[1], "t"));
      return !*client::LoadStaging(SessionOf(*stores_[1]), client::PartsName("t"));
    }));
  }
  ExpectNothingLeft();
}

TEST_P(PartsDeathTest, ABarrierOpensForAllAtOnceAndAgain) {
  for (int round = 0; round < 5; ++round) {
    std::atomic<uint32_t> arrived = 0;
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < kNodes; ++i) {
      threads.emplace_back([&, i] {
        ++arrived;
        EXPECT_OK(Barrier(stores_[i], "start", kNodes, kLong));
        EXPECT_EQ(arrived, kNodes);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  ASSERT_OK_AND_ASSIGN(const auto listed, stores_[0]->List());
  EXPECT_THAT(listed, IsEmpty());
  ExpectNothingLeft();
}

/// The last one finds a list whose former version is being retired.
TEST_P(PartsDeathTest, ABarrierThatOpensAtOnceLeavesNoList) {
  const auto session = SessionOf(*stores_[0]);
  const auto list = [&] {
    return client::LoadStaging(session, client::BarrierName("b")).ValueOrDie();
  };
  std::vector<std::thread> threads;
  for (const uint32_t k : {1U, 2U, 3U}) {
    threads.emplace_back([&, k] { EXPECT_OK(Barrier(stores_[k], "b", 3, kLong)); });
    if (k == 3) break;
    EXPECT_TRUE(Eventually([&] {
      const auto found = list();
      return found && found->staging.entries.size() == k;
    }));
    if (k == 1) {  // It has the first version.
      EXPECT_OK(cluster_->SignalDaemon(1, SIGSTOP));
      EXPECT_OK(ArmFaults("client.staging.before-erase=kill@1000"));  // to count
    }
  }
  EXPECT_TRUE(Eventually([&] { return ArmedFaults()[0].passes > 0; }));
  EXPECT_OK(ArmFaults(""));
  EXPECT_OK(cluster_->SignalDaemon(1, SIGCONT));
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(list().has_value());
  ExpectNothingLeft();
}

TEST_P(PartsDeathTest, WhoTimesOutOrDiesHasNotArrived) {
  const arrow::Status alone = Barrier(stores_[0], "b", 2, milliseconds(1));
  EXPECT_TRUE(IsTimeout(alone)) << alone.ToString();
  ASSERT_OK_AND_ASSIGN(auto dead, Peer::Start({}));
  ASSERT_OK_AND_ASSIGN(const std::string connected,
                       dead->Ask(fmt::format("connect {} 1", cluster_->name())));
  ASSERT_EQ(connected, "OK");
  std::thread asks([&] { EXPECT_FALSE(dead->Ask("arrive b 2").ok()); });
  const auto arrivals = [&] {
    const auto session = SessionOf(*stores_[2]);
    const auto list = client::LoadStaging(session, client::BarrierName("b")).ValueOrDie();
    if (!list) return int64_t{0};
    return std::ranges::count_if(list->staging.entries, [&](const auto& entry) {
      return client::IsThere(*session, entry.object);
    });
  };
  EXPECT_TRUE(Eventually([&] { return arrivals() == 1; }));
  EXPECT_RAISES(Invalid, Barrier(stores_[2], "b", 3, milliseconds(0)));
  ::kill(dead->process_id(), SIGKILL);
  asks.join();
  EXPECT_TRUE(Eventually([&] { return arrivals() == 0; }));
  EXPECT_TRUE(IsTimeout(Barrier(stores_[3], "b", 2, milliseconds(1))));
  EXPECT_OK(Barrier(stores_[3], "b", 1, milliseconds(0)));
  dead.reset();
  ExpectNothingLeft();
}

}  // namespace
}  // namespace sheaf::testing
