// The last part of a table, and whoever ends the put at that very moment: its list
// decides (docs/tables.md), however long anybody stops in between.

#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <arrow/status.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "client/put.h"
#include "client/staging.h"
#include "client/store_session.h"
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

/// A peer that stops (SIGSTOP) or dies at a fault point while it does what it is asked.
class Stopping {
 public:
  Stopping(const std::string& cluster, uint32_t node, const std::string& fault,
           const std::string& request)
      : peer_(Peer::Start({"SHEAF_FAULT=" + fault}).ValueOrDie()) {
    SHEAF_CHECK(peer_->Ask(fmt::format("connect {} {}", cluster, node)).ok());
    asks_ =
        std::thread([this, request] { answer_ = peer_->Ask(request).ValueOr("died"); });
  }
  ~Stopping() {
    if (asks_.joinable()) Continue();
  }
  Stopping(const Stopping&) = delete;
  Stopping& operator=(const Stopping&) = delete;

  bool IsStopped() const {
    std::ifstream stat(fmt::format("/proc/{}/stat", peer_->process_id()));
    std::string word;
    stat >> word >> word >> word;
    return word == "T";
  }
  /// To the next point, or the end.
  void Resume() { ::kill(peer_->process_id(), SIGCONT); }
  /// What it was told in the end.
  std::string Continue() {
    Resume();
    return Join();
  }
  std::string Join() {
    asks_.join();
    return answer_;
  }

 private:
  std::unique_ptr<Peer> peer_;
  std::string answer_;
  std::thread asks_;
};

class PartsDecided : public FourNodes {
 protected:
  bool IsThere() { return stores_[3]->Get("t").ok(); }
  void ExpectNoList() {
    EXPECT_FALSE(*client::LoadStaging(SessionOf(*stores_[3]), client::PartsName("t")))
        << "a list is left";
  }
  void Clear() {
    const arrow::Status removed = stores_[3]->Remove("t");
    EXPECT_TRUE(removed.ok() || removed.IsKeyError()) << removed.ToString();
    EXPECT_FALSE(IsThere());
    ExpectNoList();
  }
};
INSTANTIATE_TEST_SUITE_P(, PartsDecided,
                         ::testing::Values(BackendCase{"Shm", ""},
                                           BackendCase{"SimStale",
                                                       "backend = \"sim\"\n"}),
                         BackendCaseName);

/// Where who brings the last part may stop, in the order in which it comes by.
const std::vector<std::string> kPlacing = {
    "client.part.after-bytes",       "client.part.before-prepare",
    "client.part.after-prepare",     "client.staging.before-store",
    "client.staging.after-store",    "client.staging.before-complete",
    "client.staging.before-store@2", "client.staging.after-store@2",
    "client.staging.after-complete", "client.part.before-table",
    "client.publish.before-request", "client.publish.after-request",
    "client.publish.after-reply",    "client.part.after-table",
    "client.staging.before-drop",    "client.staging.before-erase",
    "client.staging.after-erase"};
/// The same for who aborts.
const std::vector<std::string> kAborting = {
    "client.staging.before-store", "client.staging.after-store",
    "client.staging.after-end",    "client.staging.before-drop",
    "client.staging.before-erase", "client.staging.after-erase"};

std::string At(const std::string& point, const std::string& action) {
  const size_t pass = point.find('@');
  return point.substr(0, pass) + "=" + action +
         (pass == std::string::npos ? "" : point.substr(pass));
}

TEST_P(PartsDecided, AnAbortWhileTheLastPartIsPlacedIsDoneOrTooLate) {
  int aborted = 0;
  for (const std::string& point : kPlacing) {
    SCOPED_TRACE(point);
    ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
    Stopping last(cluster_->name(), 1, At(point, "pause"), "part t 1 2");
    ASSERT_TRUE(Eventually([&] { return last.IsStopped(); }));
    const arrow::Status abort = AbortParts(stores_[2], "t");
    ASSERT_TRUE(abort.ok() || abort.IsKeyError()) << abort.ToString();
    EXPECT_EQ(IsThere(), !abort.ok());
    const std::string put = last.Continue();
    EXPECT_EQ(IsThere(), !abort.ok());
    if (abort.ok()) {
      // It comes too late, or is the first one of the next put.
      EXPECT_TRUE(put == "OK" || put.starts_with("Cancelled")) << put;
    } else {
      EXPECT_EQ(put, "OK");
      ExpectNoList();
    }
    aborted += abort.ok();
    Clear();
  }
  EXPECT_GT(aborted, 0);
  EXPECT_LT(aborted, static_cast<int>(kPlacing.size()));
  ExpectNothingLeft();
}

/// What was removed is not put by whoever goes on late.
TEST_P(PartsDecided, ARemoveWhileTheLastPartIsPlacedLeavesNothing) {
  for (const std::string& point : kPlacing) {
    SCOPED_TRACE(point);
    ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
    Stopping last(cluster_->name(), 1, At(point, "pause"), "part t 1 2");
    ASSERT_TRUE(Eventually([&] { return last.IsStopped(); }));
    ASSERT_OK(stores_[2]->Remove("t"));
    EXPECT_FALSE(IsThere());
    last.Continue();
    EXPECT_FALSE(IsThere());
    Clear();
  }
  ExpectNothingLeft();
}

TEST_P(PartsDecided, ALastPartWhileAPutIsAbortedIsPlacedOrCancelled) {
  for (const std::string& point : kAborting) {
    SCOPED_TRACE(point);
    ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
    Stopping aborts(cluster_->name(), 1, At(point, "pause"), "abort t");
    ASSERT_TRUE(Eventually([&] { return aborts.IsStopped(); }));
    const auto last = PutPart(stores_[2], "t", *Part(1), 1, 2);
    ASSERT_OK(last);
    const bool was_whole = last->table.has_value();
    EXPECT_EQ(IsThere(), was_whole);
    const std::string abort = aborts.Continue();
    EXPECT_EQ(abort == "OK", !was_whole) << abort;
    EXPECT_EQ(IsThere(), was_whole);
    Clear();
  }
  ExpectNothingLeft();
}

/// Whoever finds a list goes on where another one died.
TEST_P(PartsDecided, WhatADeadWriterDecidedIsDoneByWhoeverMeetsIt) {
  for (const std::string& point : kPlacing) {
    SCOPED_TRACE(point);
    ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
    Stopping last(cluster_->name(), 1, At(point, "kill"), "part t 1 2");
    EXPECT_EQ(last.Join(), "died");
    const arrow::Status abort = AbortParts(stores_[2], "t");
    ASSERT_TRUE(abort.ok() || abort.IsKeyError()) << abort.ToString();
    EXPECT_EQ(IsThere(), !abort.ok());
    if (!abort.ok()) {
      ASSERT_OK_AND_ASSIGN(const TablePtr table, stores_[3]->Get("t"));
      EXPECT_TRUE(table->Equals(*Lineitem(0, 2 * kPartRows)));
    }
    Clear();
  }
  ExpectNothingLeft();
}

/// A list that its writer left when the table was there is no reason to put it again.
TEST_P(PartsDecided, ALeftOverListDoesNotComeAlive) {
  for (const bool append : {false, true}) {
    if (append) {
      ASSERT_OK(stores_[0]->Put("t", *Part(0)));
    }
    ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2, {.append = append}));
    Stopping last(cluster_->name(), 1, "client.part.after-table=kill",
                  append ? "append t 1 2" : "part t 1 2");
    EXPECT_EQ(last.Join(), "died");
    EXPECT_TRUE(IsThere());
    ASSERT_OK(stores_[1]->Put("t", *Part(7), {.replace = true, .expected_version = {}}));
    ASSERT_OK_AND_ASSIGN(const auto staged, ListStagedParts(stores_[2]));
    EXPECT_TRUE(staged.empty());
    ASSERT_OK_AND_ASSIGN(const TablePtr table, stores_[3]->Get("t"));
    EXPECT_TRUE(table->Equals(*Part(7)));
    ASSERT_OK(stores_[2]->Remove("t"));
    ASSERT_OK(PutPart(stores_[2], "t", *Part(1), 1, 2));
    EXPECT_FALSE(IsThere());
    Clear();
  }
  ExpectNothingLeft();
}

/// It is appended to what is there then, once.
TEST_P(PartsDecided, AnAppendThatStopsMeetsOthers) {
  for (const std::string& point : kPlacing) {
    SCOPED_TRACE(point);
    ASSERT_OK(stores_[0]->Put("t", *Part(0)));
    ASSERT_OK(PutPart(stores_[0], "t", *Part(1), 0, 2, {.append = true}));
    Stopping last(cluster_->name(), 1, At(point, "pause"), "append t 1 2");
    ASSERT_TRUE(Eventually([&] { return last.IsStopped(); }));
    ASSERT_OK(AppendPart(stores_[2], "t", *Part(5)));
    EXPECT_EQ(last.Continue(), "OK");
    ASSERT_OK_AND_ASSIGN(const TablePtr table, stores_[3]->Get("t"));
    EXPECT_EQ(table->num_rows(), 4 * kPartRows);
    ExpectNoList();
    Clear();
  }
  ExpectNothingLeft();
}

/// As the table moved on after the list was complete: however many prepare it anew, and
/// stop or die between two steps of that, one is put and the others go.
TEST_P(PartsDecided, AnAppendThatIsPreparedAnewByMoreThanOneLeavesNothing) {
  for (const char* point : {"client.staging.after-store", "client.staging.before-store@2",
                            "client.staging.after-store@2"}) {
    for (const char* action : {"pause", "kill"}) {
      for (const bool moves_on : {false, true}) {
        SCOPED_TRACE(fmt::format("{} {} {}", point, action, moves_on));
        const PutOptions next{.replace = true, .expected_version = {}};
        ASSERT_OK(stores_[0]->Put("t", *Part(0)));
        ASSERT_OK(PutPart(stores_[0], "t", *Part(1), 0, 2, {.append = true}));
        Stopping last(cluster_->name(), 1, "client.staging.after-complete=kill",
                      "append t 1 2");
        EXPECT_EQ(last.Join(), "died");
        ASSERT_OK(stores_[0]->Put("t", *Part(5), next));
        Stopping anew(cluster_->name(), 2, At(point, action), "abort t");
        if (std::string(action) == "kill") {
          EXPECT_EQ(anew.Join(), "died");
        } else {
          ASSERT_TRUE(Eventually([&] { return anew.IsStopped(); }));
        }
        if (moves_on) {
          ASSERT_OK(stores_[0]->Put("t", *Part(6), next));
        }
        const arrow::Status abort = AbortParts(stores_[3], "t");
        EXPECT_RAISES(KeyError, abort);
        if (std::string(action) == "pause") {
          const std::string told = anew.Continue();
          EXPECT_TRUE(told.starts_with("Key error")) << told;
        }
        ASSERT_OK_AND_ASSIGN(const TablePtr table, stores_[3]->Get("t"));
        EXPECT_EQ(table->num_rows(), 3 * kPartRows);
        ExpectNoList();
        Clear();
      }
    }
  }
  ExpectNothingLeft();
}

/// Of a writer that saw another table, which goes before its own is whole.
TEST_P(PartsDecided, APartOfATableThatIsThereIsNotRefused) {
  Stopping first(cluster_->name(), 0,
                 "client.part.after-bytes=pause,client.staging.before-store=pause@2",
                 "part t 0 2");
  Stopping last(cluster_->name(), 1, "client.part.after-bytes=pause", "part t 1 2");
  ASSERT_TRUE(Eventually([&] { return first.IsStopped() && last.IsStopped(); }));
  ASSERT_OK_AND_ASSIGN(const PutReceipt other, stores_[2]->Put("t", *Part(5)));
  first.Resume();
  const auto has_list = [&] {
    const auto list = client::LoadStaging(SessionOf(*stores_[3]), client::PartsName("t"));
    return list.ok() && list->has_value();
  };
  ASSERT_TRUE(Eventually([&] { return has_list() && first.IsStopped(); }));
  ASSERT_OK(client::Retire(*SessionOf(*stores_[2]), other.handle.object, "t"));
  EXPECT_EQ(last.Continue(), "OK");
  EXPECT_EQ(first.Continue(), "OK");
  EXPECT_TRUE(IsThere());
  Clear();
  ExpectNothingLeft();
}

/// Its list stays until that node is there; nobody waits for it.
TEST_P(PartsDecided, AListThatIsDoneOnANodeThatIsAwayIsInNobodysWay) {
  if (std::string(GetParam().name) != "Shm") GTEST_SKIP() << "waits of 10 s: once";
  ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
  Stopping last(cluster_->name(), 1, "client.staging.after-store=pause", "part t 1 2");
  ASSERT_TRUE(Eventually([&] { return last.IsStopped(); }));
  Stopping finishes(cluster_->name(), 2, "client.part.after-table=kill", "abort t");
  EXPECT_EQ(finishes.Join(), "died");
  EXPECT_TRUE(IsThere());
  ASSERT_OK(cluster_->KillDaemon(2));
  EXPECT_OK(stores_[3]->Remove("t"));
  EXPECT_FALSE(IsThere());
  ASSERT_OK(cluster_->StartMissing());
  last.Continue();
  EXPECT_FALSE(IsThere());
  Clear();
  ExpectNothingLeft();
}

TEST_P(PartsDecided, ABarrierThatANodeWasRemovingWhenItDiedHoldsNobodyForEver) {
  if (std::string(GetParam().name) != "Shm") GTEST_SKIP() << "waits of 10 s: once";
  ASSERT_OK(cluster_->KillDaemon(1));
  ASSERT_OK(cluster_->StartMissing("daemon.remove.after-slot=kill"));
  std::thread first(
      [&] { EXPECT_FALSE(Barrier(stores_[1], "b", 3, milliseconds(0)).ok()); });
  ASSERT_TRUE(Eventually([&] { return !cluster_->OpenDaemon(1).ok(); }));
  const arrow::Status second = Barrier(stores_[3], "b", 3, milliseconds(0));
  EXPECT_TRUE(IsNodeLost(second)) << second.ToString();
  first.join();
  ASSERT_OK(cluster_->StartMissing());
  const arrow::Status third = Barrier(stores_[3], "b", 3, milliseconds(0));
  EXPECT_TRUE(IsTimeout(third)) << third.ToString();
}

/// Its name is neither free nor there: whoever brings the next part tried for ever.
TEST_P(PartsDecided, AListThatANodeWasPuttingWhenItDiedHoldsNobodyForEver) {
  if (std::string(GetParam().name) != "Shm") GTEST_SKIP() << "waits of 15 s: once";
  ASSERT_OK(cluster_->KillDaemon(1));
  ASSERT_OK(cluster_->StartMissing("daemon.publish.before-check=kill"));
  std::thread first([&] { EXPECT_FALSE(PutPart(stores_[1], "t", *Part(0), 0, 2).ok()); });
  ASSERT_TRUE(Eventually([&] { return !cluster_->OpenDaemon(1).ok(); }));
  const arrow::Status second = PutPart(stores_[3], "t", *Part(1), 1, 2).status();
  EXPECT_TRUE(IsNodeLost(second)) << second.ToString();
  EXPECT_NE(second.message().find("table 't'"), std::string::npos) << second.ToString();
  const arrow::Status late =
      PutPart(stores_[3], "t", *Part(1), 1, 2, {.deadline = milliseconds(1)}).status();
  EXPECT_TRUE(IsTimeout(late)) << late.ToString();
  first.join();
  ASSERT_OK(cluster_->StartMissing());
  ASSERT_OK(PutPart(stores_[3], "t", *Part(1), 1, 2));
  ASSERT_OK(PutPart(stores_[0], "t", *Part(0), 0, 2));
  EXPECT_TRUE(IsThere());
  Clear();
}

TEST_P(PartsDecided, WhoseTableWasRemovedIsToldThatItMayHaveBeen) {
  Stopping first(cluster_->name(), 0, "client.staging.after-store=pause", "part t 0 2");
  ASSERT_TRUE(Eventually([&] { return first.IsStopped(); }));
  ASSERT_OK_AND_ASSIGN(const auto last, PutPart(stores_[1], "t", *Part(1), 1, 2));
  EXPECT_NE(last.version, 0U);
  ASSERT_OK(stores_[2]->Remove("t"));
  const std::string told = first.Continue();
  EXPECT_TRUE(told.starts_with("Cancelled")) << told;
  EXPECT_NE(told.find("or its table was removed"), std::string::npos) << told;
  ExpectNothingLeft();
}

}  // namespace
}  // namespace sheaf::testing
