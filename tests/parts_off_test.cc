// A table in parts whose last writer's node is declared off (F8) on the way: what its
// list says is done without that node, and what was left there goes once it is back.

#include <signal.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/put.h"
#include "client/staging.h"
#include "client/store_session.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/sheaf.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/peer.h"
#include "tests/four_nodes.h"

namespace sheaf::testing {
namespace {

TEST(Peer, Serves) {
  if (!IsPeer()) GTEST_SKIP() << "started by other tests";
  ServePeer(AnswerAsWriter);
}

class PartsOff : public FourNodes {
 protected:
  using StorePtr = std::shared_ptr<Store>;
  static constexpr uint32_t kOff = 1;

  void SetUp() override {
    FourNodes::SetUp();
    if (HasFatalFailure()) return;
    stores_[kOff].reset();  // A node that was off ends all of its sessions.
  }

  void AwaitState(const std::string& state) {
    for (const uint32_t node : {0, 2, 3}) {
      EXPECT_TRUE(Eventually([&] {
        return stores_[node]->Nodes().ValueOrDie()[kOff].state == state;
      })) << state;
    }
  }

  /// The node of who does `request` ends while that is stopped at `point`; then it is
  /// declared off.
  void LoseNode(const std::string& point, const std::string& request) {
    ASSERT_OK_AND_ASSIGN(auto peer, Peer::Start({"SHEAF_FAULT=" + point + "=pause"}));
    StopAndEnd(std::move(peer), request, [] {});
  }
  /// `meanwhile`: before it is declared off.
  template <typename Fn>
  void StopAndEnd(std::unique_ptr<Peer> peer, const std::string& request, Fn meanwhile) {
    ASSERT_OK(peer->Ask(fmt::format("connect {} {}", cluster_->name(), kOff)));
    std::thread asks([&] { EXPECT_FALSE(peer->Ask(request).ok()); });
    EXPECT_TRUE(Eventually([&] { return IsStopped(*peer); }));
    EXPECT_OK(cluster_->KillDaemon(kOff));
    ::kill(peer->process_id(), SIGKILL);
    asks.join();
    peer.reset();
    meanwhile();
    DeclareOff();
  }
  /// The same, while `next`, which stores the next version of `list` on node 0, waits for
  /// the node to retire its own.
  void LoseNodeUnder(const std::string& list, const std::string& point,
                     const std::string& request,
                     const std::function<arrow::Status(StorePtr)>& next,
                     std::future<arrow::Status>* waits) {
    ASSERT_OK_AND_ASSIGN(auto peer, Peer::Start({"SHEAF_FAULT=" + point + "=pause"}));
    ASSERT_OK_AND_ASSIGN(const auto store, cluster_->Connect(0, /*relocate=*/true));
    StopAndEnd(std::move(peer), request, [&] {
      *waits = std::async(std::launch::async, next, store);
      EXPECT_TRUE(Eventually([&] {
        const auto found = client::LoadStaging(SessionOf(*stores_[3]), list);
        return found.ok() && *found && (*found)->object.segment == SegmentId{0};
      }));
    });
  }
  void DeclareOff() {
    AwaitState("withdrawn");
    EXPECT_OK(stores_[0]->ForgetNode(kOff));
    AwaitState("off");
  }
  void BringBack() {
    ASSERT_OK(cluster_->StartMissing());
    AwaitState("up");
    ASSERT_OK_AND_ASSIGN(stores_[kOff], cluster_->Connect(kOff, /*relocate=*/true));
  }

  /// All but the one that is off: another one claims the catalog, of what is in memory.
  void RestartOthers() {
    for (const uint32_t node : {0, 2, 3}) stores_[node].reset();
    for (const uint32_t node : {0, 2, 3}) ASSERT_OK(cluster_->KillDaemon(node));
    ASSERT_OK(cluster_->StartMissing());
    for (const uint32_t node : {0, 2, 3}) {
      ASSERT_OK_AND_ASSIGN(stores_[node], cluster_->Connect(node, /*relocate=*/true));
    }
  }

  bool HasList() {
    return client::LoadStaging(SessionOf(*stores_[3]), client::PartsName("t"))
        .ValueOrDie()
        .has_value();
  }
  /// For all nodes that are there.
  void ExpectTable(const arrow::Table& expected) {
    GetOptions options;
    options.validate = Validation::kFull;
    for (const auto& store : stores_) {
      if (store == nullptr) continue;
      ASSERT_OK_AND_ASSIGN(const TablePtr table, store->Get("t", options));
      EXPECT_TRUE(table->Equals(expected));
    }
  }
  /// Whoever meets what is left of a list cleans it up.
  void ExpectCleanedUp() {
    EXPECT_RAISES(KeyError, AbortParts(stores_[2], "t"));
    EXPECT_FALSE(HasList());
  }

  /// When the node is back, and when the list is cleaned up.
  void ExpectTwoPartsUntilRemoved() {
    BringBack();
    ExpectTable(*Lineitem(0, 2 * kPartRows));
    ExpectCleanedUp();
    ExpectTable(*Lineitem(0, 2 * kPartRows));
    ASSERT_OK(stores_[2]->Remove("t"));
  }
  /// What lay at the node is retired by its home.
  void ExpectBarrierGone() {
    EXPECT_TRUE(Eventually([&] {
      EXPECT_OK(Barrier(stores_[2], "b", 1, kLong));
      return !client::LoadStaging(SessionOf(*stores_[3]), client::BarrierName("b"))
                  .ValueOrDie();
    }));
  }

  static bool IsStopped(const Peer& peer) {
    std::ifstream stat(fmt::format("/proc/{}/stat", peer.process_id()));
    std::string word;
    stat >> word >> word >> word;
    return word == "T";
  }
};
INSTANTIATE_TEST_SUITE_P(, PartsOff,
                         ::testing::Values(BackendCase{"Shm", ""},
                                           BackendCase{"SimStale",
                                                       "backend = \"sim\"\n"}),
                         BackendCaseName);

/// From the moment on when all parts are kept; before, that of the node is lost.
const std::vector<std::string> kWhole = {"client.staging.before-complete",
                                         "client.staging.after-complete",
                                         "client.part.before-table"};

TEST_P(PartsOff, ATableThatIsWholeIsPutByWhoeverMeetsIt) {
  for (const std::string& point : kWhole) {
    SCOPED_TRACE(point);
    ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
    LoseNode(point, "part t 1 2");
    EXPECT_RAISES(KeyError, AbortParts(stores_[2], "t"));
    ExpectTable(*Lineitem(0, 2 * kPartRows));
    ExpectTwoPartsUntilRemoved();
    stores_[kOff].reset();
  }
  ExpectNothingLeft();
}

/// Its version of the table is gone meanwhile.
TEST_P(PartsOff, AnAppendThatIsWholeIsAppendedToWhatIsThere) {
  for (const std::string& point : kWhole) {
    SCOPED_TRACE(point);
    ASSERT_OK(stores_[0]->Put("t", *Part(0)));
    ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2, {.append = true}));
    LoseNode(point, "append t 1 2");
    ASSERT_OK(stores_[2]->Put("t", *Part(0), {.replace = true, .expected_version = {}}));
    EXPECT_RAISES(KeyError, AbortParts(stores_[2], "t"));
    const auto expect = [&] {
      ASSERT_OK_AND_ASSIGN(const TablePtr table, stores_[3]->Get("t"));
      EXPECT_EQ(table->num_rows(), 3 * kPartRows);
    };
    expect();
    BringBack();
    expect();
    ExpectCleanedUp();
    expect();
    ASSERT_OK(stores_[2]->Remove("t"));
    stores_[kOff].reset();
  }
  ExpectNothingLeft();
}

/// Nobody else can put it, nor remove it: it is there, and so are the parts that keep its
/// bytes until its node leases them again.
TEST_P(PartsOff, ATableThatWasPutIsThereBeforeAndAfter) {
  ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
  LoseNode("client.part.after-table", "part t 1 2");
  ExpectTable(*Lineitem(0, 2 * kPartRows));
  const arrow::Status met = AbortParts(stores_[2], "t");
  EXPECT_TRUE(IsNodeLost(met)) << met.ToString();
  EXPECT_NE(met.message().find("node 1"), std::string::npos) << met.ToString();
  EXPECT_TRUE(HasList());
  ExpectTable(*Lineitem(0, 2 * kPartRows));
  ExpectTwoPartsUntilRemoved();
  ExpectNothingLeft();
}

/// A part that was not kept goes with the node of its writer: another one brings it.
TEST_P(PartsOff, APartThatWasNotKeptIsBroughtByAnother) {
  ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
  LoseNode("client.staging.after-store", "part t 1 2");
  ASSERT_OK_AND_ASSIGN(const auto last, PutPart(stores_[2], "t", *Part(1), 1, 2));
  EXPECT_NE(last.version, 0U);
  ExpectTable(*Lineitem(0, 2 * kPartRows));
  BringBack();
  ExpectCleanedUp();
  ExpectTable(*Lineitem(0, 2 * kPartRows));
  ASSERT_OK(stores_[2]->Remove("t"));
  ExpectNothingLeft();
}

/// What is there of it waits for the node under the list's name, which others may use.
TEST_P(PartsOff, ANameWhosePutWasAbortedIsFree) {
  for (const std::string point :
       {"client.staging.after-end", "client.staging.before-drop",
        "client.staging.before-erase"}) {
    SCOPED_TRACE(point);
    ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 3));
    ASSERT_OK_AND_ASSIGN(stores_[kOff], cluster_->Connect(kOff, /*relocate=*/true));
    ASSERT_OK(PutPart(stores_[kOff], "t", *Part(1), 1, 3));
    stores_[kOff].reset();
    LoseNode(point, "abort t");
    EXPECT_RAISES(KeyError, AbortParts(stores_[3], "t"));
    ASSERT_OK_AND_ASSIGN(const auto staged, ListStagedParts(stores_[2]));
    EXPECT_TRUE(staged.empty());
    EXPECT_TRUE(HasList());
    ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
    ASSERT_OK(AbortParts(stores_[3], "t"));
    ASSERT_OK(PutPart(stores_[2], "t", *Part(1), 1, 2));
    ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
    ExpectTable(*Lineitem(0, 2 * kPartRows));
    BringBack();
    ExpectCleanedUp();
    ExpectTable(*Lineitem(0, 2 * kPartRows));
    ASSERT_OK(stores_[2]->Remove("t"));
    stores_[kOff].reset();
  }
  ExpectNothingLeft();
}

/// The leader had granted it to what is void now: a list, which is complete, the table.
TEST_P(PartsOff, ANameThatWasGrantedToANodeThatIsOffIsFree) {
  for (const char* pass : {"1", "3", "5"}) {
    SCOPED_TRACE(pass);
    ASSERT_OK(cluster_->KillDaemon(kOff));
    ASSERT_OK(
        cluster_->StartMissing(std::string("daemon.publish.before-check=kill@") + pass));
    ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
    {
      ASSERT_OK_AND_ASSIGN(auto peer, Peer::Start({}));
      ASSERT_OK(peer->Ask(fmt::format("connect {} {}", cluster_->name(), kOff)));
      std::thread asks([&] { (void)peer->Ask("part t 1 2"); });
      EXPECT_TRUE(Eventually([&] { return !cluster_->OpenDaemon(kOff).ok(); }));
      ::kill(peer->process_id(), SIGKILL);
      asks.join();
    }
    DeclareOff();
    if (std::string(pass) == "1") {
      ASSERT_OK(PutPart(stores_[2], "t", *Part(1), 1, 2));
    } else {
      EXPECT_RAISES(KeyError, AbortParts(stores_[3], "t"));
    }
    ExpectTable(*Lineitem(0, 2 * kPartRows));
    BringBack();
    ExpectCleanedUp();
    ExpectTable(*Lineitem(0, 2 * kPartRows));
    ASSERT_OK(stores_[2]->Remove("t"));
    stores_[kOff].reset();
  }
  ExpectNothingLeft();
}

/// It comes back before anybody met the list: what it prepared is void all the same.
TEST_P(PartsOff, WhatANodePreparedBeforeItWasOffIsNeverPut) {
  ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
  LoseNode("client.part.before-table", "part t 1 2");
  ASSERT_OK_AND_ASSIGN(const auto list, client::LoadStaging(SessionOf(*stores_[3]),
                                                            client::PartsName("t")));
  ASSERT_TRUE(list && list->staging.manifest);
  const ObjectId manifest = list->staging.manifest->object;
  BringBack();
  EXPECT_RAISES(
      Invalid, client::PublishPrepared(*SessionOf(*stores_[3]), manifest, "t", false, 0));
  EXPECT_RAISES(KeyError, stores_[3]->Get("t"));
  EXPECT_RAISES(KeyError, AbortParts(stores_[2], "t"));
  ExpectTable(*Lineitem(0, 2 * kPartRows));
  EXPECT_EQ(stores_[3]->Stat("t").ValueOrDie().home_node, 2U);
  ExpectCleanedUp();
  ASSERT_OK(stores_[2]->Remove("t"));
  ExpectNothingLeft();
}

/// Its home is back for the own node, and not yet for that of a part: what it leases
/// there does not count yet.
TEST_P(PartsOff, WhoMeetsAListWhileItsNodeComesBackTakesNoPartTooEarly) {
  for (int round = 0; round < 4; ++round) {
    ASSERT_OK(PutPart(stores_[2], "t", *Part(0), 0, 2));
    LoseNode("client.part.after-table", "part t 1 2");
    std::thread meets([&] {
      const auto store = cluster_->Connect(0, /*relocate=*/true).ValueOrDie();
      while (!AbortParts(store, "t").IsKeyError()) std::this_thread::yield();
    });
    EXPECT_OK(cluster_->StartMissing());
    AwaitState("up");
    meets.join();
    ExpectTable(*Lineitem(0, 2 * kPartRows));
    ExpectCleanedUp();
    ASSERT_OK(stores_[3]->Remove("t"));
  }
  ExpectNothingLeft();
}

/// A version of a list that lies at a node which is off cannot be retired, and would be
/// met again once the catalog's leader is another one: as the list of a put that is over.
TEST_P(PartsOff, AListThatLiesAtANodeThatIsOffIsNotMetAgain) {
  ASSERT_OK(stores_[0]->Put("t", *Part(0)));
  LoseNode("client.staging.after-store", "append t 0 2");
  ASSERT_OK(PutPart(stores_[0], "t", *Part(1), 0, 2, {.append = true}));
  ASSERT_OK(PutPart(stores_[2], "t", *Part(2), 1, 2, {.append = true}));
  RestartOthers();
  ASSERT_OK_AND_ASSIGN(const auto staged, ListStagedParts(stores_[2]));
  EXPECT_TRUE(staged.empty());
  ASSERT_OK_AND_ASSIGN(const auto first,
                       PutPart(stores_[0], "t", *Part(3), 0, 2, {.append = true}));
  EXPECT_EQ(first.version, 0U);
  EXPECT_EQ(first.missing, std::vector<uint32_t>{1});
  ASSERT_OK_AND_ASSIGN(const auto last,
                       PutPart(stores_[2], "t", *Part(4), 1, 2, {.append = true}));
  EXPECT_EQ(last.version, 3U);
  BringBack();
  ExpectTable(*Lineitem(0, 5 * kPartRows));
  ExpectCleanedUp();
  ASSERT_OK(stores_[2]->Remove("t"));
  ExpectNothingLeft();
}

/// So it is if the next version of the list waited for it, when that was declared off.
TEST_P(PartsOff, AListWhoseNodeIsDeclaredOffUnderTheNextVersionIsNotMetAgain) {
  std::future<arrow::Status> first;
  LoseNodeUnder(
      client::PartsName("t"), "client.staging.after-store", "part t 2 3",
      [&](const auto& store) { return PutPart(store, "t", *Part(0), 0, 3).status(); },
      &first);
  ASSERT_OK(first.get());
  ASSERT_OK(PutPart(stores_[2], "t", *Part(1), 1, 3));
  ASSERT_OK(PutPart(stores_[3], "t", *Part(2), 2, 3));
  ASSERT_OK(AppendPart(stores_[0], "t", *Part(3)));
  RestartOthers();
  EXPECT_TRUE(ListStagedParts(stores_[2]).ValueOrDie().empty());
  ExpectTable(*Lineitem(0, 4 * kPartRows));
  BringBack();
  ExpectTable(*Lineitem(0, 4 * kPartRows));
  EXPECT_TRUE(
      Eventually([&] { return AbortParts(stores_[2], "t").IsKeyError() && !HasList(); }));
  ASSERT_OK(stores_[2]->Remove("t"));
  ExpectNothingLeft();
}

/// And so the list of a barrier.
TEST_P(PartsOff, ABarrierWhoseNodeIsDeclaredOffUnderTheNextArrivalOpens) {
  const auto arrive = [](const StorePtr& store) { return Barrier(store, "b", 3, kLong); };
  std::future<arrow::Status> first;
  LoseNodeUnder(client::BarrierName("b"), "client.barrier.after-arrival", "arrive b 3",
                arrive, &first);
  auto second = std::async(std::launch::async, arrive, stores_[2]);
  EXPECT_OK(arrive(stores_[3]));
  EXPECT_OK(first.get());
  EXPECT_OK(second.get());
  BringBack();
  ExpectBarrierGone();
  ExpectNothingLeft();
}

/// So it is with a barrier: one who waited all the while finds it open.
TEST_P(PartsOff, ABarrierThatOpenedIsOpenForAll) {
  ASSERT_OK_AND_ASSIGN(auto first,
                       Peer::Start({"SHEAF_FAULT=client.barrier.after-arrival=pause"}));
  ASSERT_OK(first->Ask(fmt::format("connect {} 0", cluster_->name())));
  arrow::Result<std::string> answer("none");
  std::thread waits([&] { answer = first->Ask("arrive b 3"); });
  EXPECT_TRUE(Eventually([&] { return IsStopped(*first); }));
  LoseNode("client.barrier.after-arrival", "arrive b 3");
  arrow::Status second;
  std::thread arrives([&] { second = Barrier(stores_[2], "b", 3, kLong); });
  EXPECT_OK(Barrier(stores_[3], "b", 3, kLong));
  arrives.join();
  EXPECT_OK(second);
  RestartOthers();
  ::kill(first->process_id(), SIGCONT);
  waits.join();
  EXPECT_EQ(answer.ValueOr("died"), "OK");
  first.reset();
  BringBack();
  ExpectBarrierGone();
  ExpectNothingLeft();
}

/// The table that is appended to was kept by the node that is off: nobody can make the
/// next version of it any more, and its name is not held for that.
TEST_P(PartsOff, AnAppendToWhatIsDamagedEnds) {
  ASSERT_OK_AND_ASSIGN(stores_[kOff], cluster_->Connect(kOff, /*relocate=*/true));
  ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
  ASSERT_OK(PutPart(stores_[kOff], "t", *Part(1), 1, 2));
  stores_[kOff].reset();
  ASSERT_OK(PutPart(stores_[0], "t", *Part(2), 0, 2, {.append = true}));
  LoseNode("client.part.before-table", "append t 1 2");
  BringBack();
  EXPECT_TRUE(IsDamaged(stores_[2]->Get("t").status()));
  EXPECT_RAISES(KeyError, AbortParts(stores_[2], "t"));
  ASSERT_OK(stores_[2]->Remove("t"));
  EXPECT_RAISES(KeyError, stores_[3]->Get("t"));
  ExpectCleanedUp();
  ExpectNothingLeft();
}

/// So it is with a part whose bytes lay in a table that only the node that is off kept.
TEST_P(PartsOff, AListWithAPartThatIsDamagedEnds) {
  ASSERT_OK(stores_[2]->Put("x", *Part(1)));
  ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
  ASSERT_OK_AND_ASSIGN(auto peer,
                       Peer::Start({"SHEAF_FAULT=client.part.before-table=pause"}));
  StopAndEnd(std::move(peer), "share t x 1 2",
             [&] { ASSERT_OK(stores_[2]->Remove("x")); });
  BringBack();
  EXPECT_RAISES(KeyError, AbortParts(stores_[2], "t"));
  EXPECT_RAISES(KeyError, stores_[3]->Get("t"));
  ASSERT_OK(stores_[2]->Put("t", *Part(0)));
  ASSERT_OK(stores_[2]->Remove("t"));
  ExpectCleanedUp();
  ExpectNothingLeft();
}

/// Its parts at a home are Retired, and kept by its lease alone: where that does not
/// count, whoever opens the table may come too late for a scan that is under way.
TEST_P(PartsOff, WhatOnlyANodeThatIsOffKeepsIsNotRead) {
  ASSERT_OK_AND_ASSIGN(stores_[kOff], cluster_->Connect(kOff, /*relocate=*/true));
  ASSERT_OK(PutPart(stores_[kOff], "t", *Part(0), 0, 2));
  ASSERT_OK(PutPart(stores_[3], "t", *Part(1), 1, 2));
  ExpectTable(*Lineitem(0, 2 * kPartRows));
  // Between its word and its scan. Node 3 would end its sessions: this process.
  for (const uint32_t k : {kOff, 3U}) ASSERT_OK(cluster_->SignalDaemon(k, SIGSTOP));
  ASSERT_OK_AND_ASSIGN(const auto config, region::ClusterConfig::Load(
                                              region::ClusterFilePath(cluster_->name())));
  ASSERT_OK_AND_ASSIGN(
      const auto as_daemon,
      region::Region::Attach(
          config, {.node = {kOff}, .role = region::Role::kDaemon, .relocate = true}));
  region::Segment* home = &as_daemon->own_segment();
  uint64_t* const line =
      region::AdmitWordOf(*home, NodeId{3}, region::AdmitWord::kIncarnation);
  const region::AdmitLine admitted = region::LoadAdmitLine(*home, NodeId{3});
  ASSERT_NE(admitted.incarnation, 0U);
  region::StoreWithdrawn(home, NodeId{3}, admitted.incarnation);
  region::StoreCertifiedOff(home, NodeId{3}, admitted.incarnation);
  const auto table = stores_[0]->Get("t");
  EXPECT_TRUE(IsDamaged(table.status())) << table.status().ToString();
  EXPECT_THAT(table.status().message(), ::testing::HasSubstr("node 3 was forgotten"));
  // The rows that lie at its own home are there.
  EXPECT_TRUE(GetPart(stores_[0], "t", 1).ValueOrDie()->Equals(*Part(1)));
  region::StoreControlWord(home, line + 2, admitted.off);
  region::StoreControlWord(home, line + 1, admitted.withdrawn);
  region::StoreControlWord(home, line, admitted.incarnation);
  for (const uint32_t k : {3U, kOff}) ASSERT_OK(cluster_->SignalDaemon(k, SIGCONT));
  ExpectTable(*Lineitem(0, 2 * kPartRows));
  ASSERT_OK(stores_[2]->Remove("t"));
  ExpectNothingLeft();
}

}  // namespace
}  // namespace sheaf::testing
