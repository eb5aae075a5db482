// Who is honoured, under a clock that only the test moves (docs/protocol.md F1 to F8).

#include "daemon/membership.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <arrow/status.h>
#include <gtest/gtest.h>

#include "daemon/membership_client.h"
#include "daemon/reclaimer.h"
#include "daemon/test_membership.h"
#include "daemon/transport.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "lease/lease.h"
#include "platform/shared_word.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using std::chrono::milliseconds;

TEST_F(MembershipTest, NodesThatBeatStayAdmitted) {
  Pass(milliseconds(20'000), {0, 1});
  for (const uint32_t home : {0U, 1U}) {
    for (const uint32_t node : {0U, 1U}) EXPECT_TRUE(Honours(home, node));
  }
  EXPECT_EQ(nodes_[1]->incarnation(), NthOf(1, 1));
  EXPECT_LT(Seen(0, 1).heartbeat_age_ms, 1000);
}

TEST_F(MembershipTest, ASilentNodeIsWithdrawnAfterTheTimeAndComesBackAsTheNext) {
  Pass(milliseconds(2900), {0});
  EXPECT_TRUE(Honours(0, 1));
  Pass(milliseconds(1500), {0});
  EXPECT_FALSE(Honours(0, 1));
  EXPECT_EQ(Seen(0, 1).withdrawn, NthOf(1, 1));
  EXPECT_GE(Seen(0, 1).heartbeat_age_ms, 3000);
  EXPECT_TRUE(Honours(1, 0));  // each home decides for itself
  Pass(milliseconds(200), {0, 1});
  EXPECT_EQ(nodes_[1]->incarnation(), NthOf(1, 2));
  EXPECT_TRUE(Honours(0, 1));
  EXPECT_LT(Seen(0, 1).heartbeat_age_ms, 1000);  // not of the life before
}

/// F2: a heartbeat does not undo it.
TEST_F(MembershipTest, TheIncarnationThatWasWithdrawnNeverComesBack) {
  Pass(milliseconds(5000), {0});
  ASSERT_FALSE(Honours(0, 1));
  for (int i = 0; i < 100; ++i) {
    lines_[1]->Beat();
    Pass(milliseconds(50), {0});
  }
  EXPECT_FALSE(Honours(0, 1));
  Begin(0);  // and the home's restart neither
  Pass(milliseconds(500), {0});
  EXPECT_FALSE(Honours(0, 1));
}

/// F1: whoever was away itself must not take the others for dead.
TEST_F(MembershipTest, AHomeThatWasPausedStartsToCountAnew) {
  Pass(milliseconds(2000), {0});  // node 1 is silent, not yet long enough
  clock_.Advance(std::chrono::minutes(10));
  Pass(milliseconds(2500), {0});
  EXPECT_TRUE(Honours(0, 1));
  Pass(milliseconds(2000), {0});
  EXPECT_FALSE(Honours(0, 1));
}

/// F4: policy strict.
TEST_F(MembershipTest, LeasesOfAWithdrawnNodeCountUntilItIsForgotten) {
  lease::PageTable pages(&Segment(1));
  lease::CellTable cells(&Segment(1), {}, [&] { return pages.Activate(5); });
  ASSERT_OK(cells.Write({{0}, 3, (uint64_t{7} << 32) + 1}));
  Pass(milliseconds(5000), {0});
  ASSERT_FALSE(Honours(0, 1));
  EXPECT_EQ(lease::ScanLeases(*nodes_[0].region, {0})->size(), 1);
  ASSERT_OK(Forget(1));
  EXPECT_EQ(lease::ScanLeases(*nodes_[0].region, {0})->size(), 0);
  // It comes back once its sessions, whose cells were ignored, have ended.
  sessions_left_ = 1;
  Pass(milliseconds(500), {0, 1});
  EXPECT_FALSE(Honours(0, 1));
  sessions_left_ = 0;
  Pass(milliseconds(500), {0, 1});
  EXPECT_TRUE(Honours(0, 1));
  EXPECT_EQ(lease::ScanLeases(*nodes_[0].region, {0})->size(), 1);
}

/// F8: not before D is over.
TEST_F(MembershipTest, ForgettingWaitsOutWhatIsOnItsWay) {
  Pass(milliseconds(5000), {0});
  bool is_answered = false;
  members_[0]->Forget({1}, [&](const arrow::Status& status) {
    ASSERT_OK(status);
    EXPECT_EQ(Seen(0, 1).off, NthOf(1, 1));
    is_answered = true;
  });
  EXPECT_FALSE(is_answered);
  EXPECT_EQ(Seen(0, 1).off, 0);
  clock_.Advance(Delay());
  EXPECT_TRUE(is_answered);
}

/// Model `member`, bug=offunseen: honoured and ignored at once.
TEST_F(MembershipTest, WhatIsForgottenBeforeItWasSeenIsNotAdmittedMeanwhile) {
  Pass(milliseconds(5000), {0});
  ASSERT_EQ(lines_[1]->NextIncarnation(), NthOf(1, 2));
  lines_[1]->SayDown();
  members_[0]->Forget({1}, [](const arrow::Status& status) { ASSERT_OK(status); });
  members_[0]->Update();  // before D is over
  EXPECT_FALSE(Honours(0, 1));
  Pass(milliseconds(100), {0});
  EXPECT_FALSE(Honours(0, 1));
  EXPECT_EQ(Seen(0, 1).off, NthOf(1, 2));
}

/// It dies for good in the middle of the line that names its life.
TEST_F(MembershipTest, ANodeThatDiedInTheMiddleOfItsLineIsForgotten) {
  lease::PageTable pages(&Segment(1));
  lease::CellTable cells(&Segment(1), {}, [&] { return pages.Activate(5); });
  ASSERT_OK(cells.Write({{0}, 3, (uint64_t{7} << 32) + 1}));
  TearLine(1);
  Pass(milliseconds(2900), {0});
  EXPECT_EQ(Seen(0, 1).incarnation, NthOf(1, 1));
  ASSERT_RAISES(Invalid, Forget(1));
  Pass(milliseconds(1500), {0});
  EXPECT_FALSE(Honours(0, 1));
  EXPECT_EQ(Seen(0, 1).withdrawn, NthOf(1, 1));
  EXPECT_EQ(lease::ScanLeases(*nodes_[0].region, {0})->size(), 1);
  for (int again = 0; again < 2; ++again) {
    ASSERT_OK(Forget(1));
    EXPECT_EQ(Seen(0, 1).off, NthOf(1, 2));  // it may have been on its way there
    EXPECT_EQ(lease::ScanLeases(*nodes_[0].region, {0})->size(), 0);
  }
  // As any other that was off: it ends its sessions, and is the next.
  nodes_[1].Begin(&clock_);
  Begin(1);
  Pass(milliseconds(500), {0, 1});
  EXPECT_EQ(nodes_[1]->incarnation(), NthOf(1, 3));
  EXPECT_TRUE(Honours(0, 1));
}

/// One that is stopped in the middle of its line, forgotten, goes on for a moment, and is
/// off then: what was said last must not undo what was said first.
TEST_F(MembershipTest, ForgettingALineThatBecameWholeLowersNothing) {
  lease::PageTable pages(&Segment(1));
  lease::CellTable cells(&Segment(1), {}, [&] { return pages.Activate(5); });
  ASSERT_OK(cells.Write({{0}, 3, (uint64_t{7} << 32) + 1}));
  uint64_t* line = Segment(1).NodeLine(format::NodeLine::kIncarnation);
  const format::LineWords whole = platform::LoadLine(line);
  TearLine(1);
  Pass(milliseconds(5000), {0});
  ASSERT_OK(Forget(1));
  platform::StoreLine(line, whole, region::kBusyLine);
  ASSERT_OK(Forget(1));
  EXPECT_TRUE(Seen(0, 1).is_off());
  EXPECT_EQ(lease::ScanLeases(*nodes_[0].region, {0})->size(), 0);
}

/// Its daemon, or a repair, begins a damaged line anew.
TEST_F(MembershipTest, ALineThatIsBegunAnewKeepsItsIncarnation) {
  uint64_t* line = Segment(1).NodeLine(format::NodeLine::kIncarnation);
  platform::SharedWord(line + 2).StoreRelease(1);  // and its checksum is wrong
  region::UpdateIncarnation(&Segment(1), [](format::IncarnationLine*) {});
  Pass(milliseconds(1000), {0, 1});
  EXPECT_TRUE(Honours(0, 1));
  EXPECT_EQ(nodes_[1]->incarnation(), NthOf(1, 1));
  ASSERT_RAISES(Invalid, Forget(1));
  Pass(milliseconds(5000), {0});
  EXPECT_EQ(Seen(0, 1).withdrawn, NthOf(1, 1));
}

/// Those that are off themselves cannot answer, and need not.
TEST_F(MembershipTest, WhoIsOffIsNotAskedToForget) {
  class Asked : public Transport {
   public:
    void Request(NodeId node, std::vector<uint8_t> /*message*/,
                 ReplyCallback /*done*/) override {
      nodes.push_back(node);
    }
    void Serve(Handler /*handler*/) override {}
    std::vector<NodeId> nodes;
  };
  Asked asked;
  Reclaimer reclaimer(nodes_[0].region.get(), nodes_[0].home.get(), &asked, &clock_);
  MembershipClient client(nodes_[0].region.get(), members_[0].get(), &reclaimer, &asked,
                          /*arbiter=*/nullptr);
  Pass(milliseconds(5000), {0});  // of 0, 1 and 2 only 0 lives
  ASSERT_EQ(Seen(0, 1).incarnation, 0);
  ASSERT_EQ(Seen(0, 2).incarnation, 0);
  std::optional<arrow::Status> answer;
  client.Forget({1}, [&](const arrow::Status& status) { answer = status; });
  clock_.Advance(Delay());
  EXPECT_EQ(asked.nodes, std::vector<NodeId>({{2}}));
  EXPECT_FALSE(answer.has_value());
  client.Forget({2}, [&](const arrow::Status& status) { answer = status; });
  clock_.Advance(Delay());
  EXPECT_EQ(asked.nodes.size(), 1U);
  ASSERT_TRUE(answer.has_value());
  EXPECT_OK(*answer);
}

/// F8 by the arbiter: it may come late, and again.
TEST_F(MembershipTest, ACertificateOfElsewhereIsForOneLifeAndThoseBefore) {
  const uint64_t first = nodes_[1]->incarnation();
  const auto forget = [&](uint32_t by) {
    std::optional<arrow::Status> answer;
    members_[by]->ForgetIncarnation(
        {1}, first, [&](const arrow::Status& status) { answer = status; });
    clock_.Advance(Delay());
    return answer.value_or(arrow::Status::UnknownError("no answer"));
  };
  ASSERT_OK(forget(0));
  EXPECT_TRUE(Seen(0, 1).is_off());
  EXPECT_EQ(Seen(0, 1).withdrawn, first);
  Pass(milliseconds(500), {0, 1});  // sees that, and comes back
  ASSERT_TRUE(Honours(0, 1));
  ASSERT_EQ(nodes_[1]->incarnation(), first + 1);
  ASSERT_OK(forget(0));
  EXPECT_TRUE(Honours(0, 1));
  Pass(milliseconds(5000), {0});
  ASSERT_EQ(Seen(0, 1).withdrawn, first + 1);
  ASSERT_OK(forget(0));
  EXPECT_FALSE(Seen(0, 1).is_off());  // the second life's cells count
}

/// Whoever could tell it so in memory may be away: it does not go on in that life.
TEST_F(MembershipTest, ANodeThatIsCertifiedOffElsewhereBeginsALifeAfterThat) {
  const uint64_t first = nodes_[1]->incarnation();
  Reclaimer reclaimer(nodes_[1].region.get(), nodes_[1].home.get(), &nobody_, &clock_);
  MembershipClient client(nodes_[1].region.get(), members_[1].get(), &reclaimer, &nobody_,
                          /*arbiter=*/nullptr);
  sessions_left_ = 1;
  client.OnOff(CertificateOf({1}, first + 3));
  Pass(milliseconds(200), {1});
  EXPECT_EQ(nodes_[1]->incarnation(), first);  // its sessions first
  sessions_left_ = 0;
  Pass(milliseconds(200), {1});
  EXPECT_EQ(nodes_[1]->incarnation(), first + 4);
  client.OnOff(CertificateOf({1}, first + 3));  // again: of a life that is over
  client.OnOff(CertificateOf({1}, first - (uint64_t{1} << 32)));  // of other memory
  Pass(milliseconds(200), {0, 1});
  EXPECT_EQ(nodes_[1]->incarnation(), first + 4);
  EXPECT_TRUE(Honours(0, 1));
}

/// The dead node's memory was formatted anew, which this home has not mapped yet.
TEST_F(MembershipTest, ACertificateSaysWhichMemoryTheDeadNodeHad) {
  Reclaimer reclaimer(nodes_[0].region.get(), nodes_[0].home.get(), &nobody_, &clock_);
  MembershipClient client(nodes_[0].region.get(), members_[0].get(), &reclaimer, &nobody_,
                          /*arbiter=*/nullptr);
  const uint64_t mapped = Segment(1).header().format_epoch;
  const uint64_t of_next = format::FirstGeneration(mapped + 1);
  EXPECT_EQ(CertificateOf({1}, of_next).format_epoch, mapped + 1);
  client.OnOff(CertificateOf({1}, of_next));
  clock_.Advance(Delay());
  EXPECT_EQ(Seen(0, 1).off, of_next);
  Pass(milliseconds(5000), {0});
  client.OnOff(CertificateOf({2}, NthOf(2, 1) - (uint64_t{1} << 32)));
  clock_.Advance(Delay());
  EXPECT_EQ(Seen(0, 2).off, 0);  // of memory before that which is there
}

/// Who is to be powered off: not one whose heart beats, though it is not back yet.
TEST_F(MembershipTest, ANodeWhoseHeartBeatsAgainIsNobodysSuspect) {
  Reclaimer reclaimer(nodes_[0].region.get(), nodes_[0].home.get(), &nobody_, &clock_);
  MembershipClient client(nodes_[0].region.get(), members_[0].get(), &reclaimer, &nobody_,
                          /*arbiter=*/nullptr);
  const auto is_suspected = [&] {
    const auto suspects = client.Suspects();
    return std::ranges::any_of(
        suspects, [](const auto& each) { return each.life.node == NodeId{1}; });
  };
  EXPECT_FALSE(is_suspected());
  Pass(milliseconds(5000), {0});
  EXPECT_TRUE(is_suspected());
  TearLine(1);  // as while it begins its next life
  Pass(milliseconds(1000), {0});
  EXPECT_TRUE(is_suspected());
  lines_[1]->Beat();
  Pass(milliseconds(1000), {0});
  EXPECT_FALSE(Honours(0, 1));
  EXPECT_FALSE(is_suspected());
}

/// Model `member`, bug=offbusy.
TEST_F(MembershipTest, ANodeThatIsBackCountsAlsoWhileItsLineIsBusy) {
  Pass(milliseconds(5000), {0});
  ASSERT_OK(Forget(1));
  Pass(milliseconds(500), {0, 1});
  ASSERT_TRUE(Honours(0, 1));
  lease::PageTable pages(&Segment(1));
  lease::CellTable cells(&Segment(1), {}, [&] { return pages.Activate(5); });
  ASSERT_OK(cells.Write({{0}, 3, (uint64_t{7} << 32) + 1}));
  TearLine(1);
  EXPECT_EQ(lease::ScanLeases(*nodes_[0].region, {0})->size(), 1);
  Pass(milliseconds(5000), {0});  // withdrawn, not forgotten
  ASSERT_FALSE(Honours(0, 1));
  EXPECT_EQ(lease::ScanLeases(*nodes_[0].region, {0})->size(), 1);
}

/// F9: an incarnation is not begun twice, wherever its first daemon died.
TEST_F(MembershipTest, AnIncarnationThatWasCutShortIsNotBegunTwice) {
  TearLine(1);
  nodes_[1].Begin(&clock_, /*boot=*/2);
  EXPECT_EQ(nodes_[1]->incarnation(), NthOf(1, 2));
  TearLine(1);  // before its membership looked
  nodes_[1].Begin(&clock_, /*boot=*/3);
  EXPECT_EQ(nodes_[1]->incarnation(), NthOf(1, 3));
}

/// One whose memory could not be read when it was forgotten: off reaches far.
TEST_F(MembershipTest, TheNextIncarnationIsAboveAllThatAreOff) {
  region::StoreWithdrawn(&Segment(0), {1}, NthOf(1, 1000));
  region::StoreCertifiedOff(&Segment(0), {1}, NthOf(1, 1000));
  Begin(0);
  Pass(milliseconds(500), {0, 1});
  EXPECT_EQ(nodes_[1]->incarnation(), NthOf(1, 1001));
  EXPECT_TRUE(Honours(0, 1));
}

TEST_F(MembershipTest, ANodeThatLivesIsNotForgotten) {
  ASSERT_RAISES(Invalid, Forget(1));
  ASSERT_RAISES(Invalid, Forget(0));
  ASSERT_RAISES(Invalid, Forget(99));
  EXPECT_TRUE(Honours(0, 1));
}

TEST_F(MembershipTest, AnotherBootIsAdmittedAtOnce) {
  nodes_[1].Begin(&clock_, /*boot=*/2);
  Begin(1);
  Pass(milliseconds(100), {0, 1});
  EXPECT_EQ(nodes_[1]->incarnation(), NthOf(1, 2));
  EXPECT_TRUE(Honours(0, 1));
}

}  // namespace
}  // namespace sheaf::daemon
