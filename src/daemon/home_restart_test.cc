// A home that begins its next life over the memory of the last one (docs/protocol.md R1
// to R3): everything that was promised is still there, and nothing else.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/fsck.h"
#include "daemon/home.h"
#include "daemon/node_lines.h"
#include "daemon/space.h"
#include "daemon/test_node.h"
#include "directory/directory.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "platform/shared_word.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kMiB = uint64_t{1} << 20;

class HomeRestart : public ::testing::Test {
 protected:
  void SetUp() override {
    nodes_ = MakeNodes(memory_.Config(), &clock_);
    free_at_start_ = FreeBytes(0);
    session_ = nodes_[0]->OpenSession().ValueOrDie().id;
  }

  void Restart(uint32_t node, uint64_t boot = 1) { nodes_[node].Begin(&clock_, boot); }

  GlobalRange In(const Granted& grant, uint64_t offset, uint64_t size_bytes) {
    return {{nodes_[0]->segment(), grant.extent.offset + offset}, size_bytes};
  }
  SealInput Over(const std::vector<GlobalRange>& ranges, uint64_t request = 0) {
    SealInput input;
    input.request = request;
    input.descriptor = DescribeRanges(*nodes_[0].region, ranges);
    return input;
  }
  uint64_t FreeBytes(uint32_t node) const {
    return nodes_[node]->space().ranges().free_bytes();
  }
  /// As after damage to both lines that say how often node 0's daemon started.
  void ForgetStarts() {
    region::Segment& own = nodes_[0].region->own_segment();
    region::UpdateIncarnation(
        &own, [](format::IncarnationLine* line) { line->daemon_starts = 0; });
    platform::SharedWord(region::AdmitWordOf(own, {0}, region::AdmitWord::kDaemonStarts))
        .StoreRelease(0);
  }
  uint64_t* GrantLine(const Granted& grant) {
    return nodes_[0].region->own_segment().GrantLine(grant.id.grant);
  }

  region::TestMemory memory_;
  FakeScheduler clock_;
  std::vector<TestNode> nodes_;
  uint64_t free_at_start_ = 0;
  uint64_t session_ = 0;
};

TEST_F(HomeRestart, GrantsObjectsAndSessionsAreAsTheyWere) {
  ASSERT_OK_AND_ASSIGN(const Granted grant, nodes_[0]->Grant(session_, kMiB));
  ASSERT_OK_AND_ASSIGN(const ObjectId object,
                       nodes_[0]->Seal(session_, Over({In(grant, 0, 4096)})));
  const uint64_t free = FreeBytes(0);
  const Statistics before = nodes_[0]->statistics();
  Restart(0);
  EXPECT_THAT(nodes_[0]->problems(), IsEmpty());
  EXPECT_EQ(FreeBytes(0), free);
  EXPECT_EQ(nodes_[0]->statistics().objects, before.objects);
  EXPECT_THAT(nodes_[0]->sessions(), ElementsAre(session_));
  EXPECT_EQ(nodes_[0]->LeasePagesOf(session_).size(), kFirstLeasePages);
  // The session goes on: it seals out of its grant, and returns that.
  ASSERT_OK_AND_ASSIGN(const ObjectId second,
                       nodes_[0]->Seal(session_, Over({In(grant, 4096, 4096)})));
  ASSERT_OK(nodes_[0]->Return(session_, grant.id));
  EXPECT_EQ(FreeBytes(0), free_at_start_ - 8192);
  for (const ObjectId& id : {object, second}) ASSERT_OK(nodes_[0]->Retire(id, ""));
  ASSERT_OK_AND_ASSIGN(const size_t freed, nodes_[0]->Reclaim());
  EXPECT_EQ(freed, 2);
  EXPECT_EQ(FreeBytes(0), free_at_start_);
}

TEST_F(HomeRestart, SessionsOfANewLifeHaveOtherNumbers) {
  Restart(0);
  ASSERT_OK_AND_ASSIGN(const auto session, nodes_[0]->OpenSession());
  EXPECT_GT(session.id, session_);
  EXPECT_THAT(nodes_[0]->sessions(), ElementsAre(session_, session.id));
}

TEST_F(HomeRestart, OnAnotherBootTheIncarnationRises) {
  const uint64_t incarnation = nodes_[0]->incarnation();
  Restart(0);
  EXPECT_EQ(nodes_[0]->incarnation(), incarnation);
  Restart(0, /*boot=*/2);
  EXPECT_EQ(nodes_[0]->incarnation(), incarnation + 1);
}

/// The daemon died in the middle of an update of the line.
TEST_F(HomeRestart, AnIncarnationLineThatWasCutShortIsGoneOnWith) {
  ASSERT_OK_AND_ASSIGN(const Granted grant, nodes_[0]->Grant(session_, kMiB));
  ASSERT_OK(nodes_[0]->Seal(session_, Over({In(grant, 0, 4096)})));
  region::Segment& own = nodes_[0].region->own_segment();
  ASSERT_OK_AND_ASSIGN(const auto before, region::ReadIncarnation(own));
  platform::SharedWord(own.NodeLine(format::NodeLine::kIncarnation))
      .StoreRelease(region::kBusyLine);
  Restart(0);
  ASSERT_OK_AND_ASSIGN(const auto line, region::ReadIncarnation(own));
  EXPECT_EQ(line.incarnation, before.incarnation + 1);  // unique for ever (F9)
  EXPECT_EQ(line.daemon_starts, before.daemon_starts + 1);
  EXPECT_EQ(line.slots_used, before.slots_used);
  EXPECT_EQ(line.lease_pages_used, before.lease_pages_used);
  EXPECT_EQ(nodes_[0]->statistics().objects, 1U);
  ASSERT_OK_AND_ASSIGN(const auto session, nodes_[0]->OpenSession());
  EXPECT_GT(session.id, session_);
}

TEST_F(HomeRestart, WhatASessionThatDiedMeanwhileHeldComesBack) {
  ASSERT_OK_AND_ASSIGN(const Granted grant, nodes_[0]->Grant(session_, kMiB));
  ASSERT_OK(nodes_[0]->Seal(session_, Over({In(grant, 0, 4096)})));  // unnamed, not kept
  Restart(0);
  ASSERT_OK(nodes_[0]->EndSession(session_));
  ASSERT_OK_AND_ASSIGN(const size_t freed, nodes_[0]->Reclaim());
  EXPECT_EQ(freed, 1);
  EXPECT_EQ(FreeBytes(0), free_at_start_);
  EXPECT_THAT(nodes_[0]->sessions(), IsEmpty());
}

/// The reply to its request was lost with the daemon.
TEST_F(HomeRestart, AGrantThatItsSessionDoesNotKnowComesBack) {
  ASSERT_OK_AND_ASSIGN(const Granted known, nodes_[0]->Grant(session_, 2 * kMiB));
  ASSERT_OK(nodes_[0]->Grant(session_, 2 * kMiB));
  Restart(0);
  ASSERT_OK(nodes_[0]->ReturnAllBut(session_, {known.id}));
  EXPECT_EQ(FreeBytes(0), free_at_start_ - known.extent.size_bytes);
  ASSERT_OK(nodes_[0]->Return(session_, known.id));
}

/// Model `restart`: also when it was not noted before the daemon died, and when its
/// object is gone since.
TEST_F(HomeRestart, TheLastPutOfASessionIsKnownForAsLongAsTheSessionIs) {
  ASSERT_OK_AND_ASSIGN(const Granted grant, nodes_[0]->Grant(session_, kMiB));
  ASSERT_OK_AND_ASSIGN(
      const ObjectId object,
      nodes_[0]->Seal(session_, Over({In(grant, 0, 4096)}, /*request=*/17)));
  Restart(0);
  ASSERT_OK(nodes_[0]->Retire(object, ""));
  ASSERT_OK(nodes_[0]->Reclaim());
  ASSERT_EQ(nodes_[0]->directory().num_objects(), 0);
  Restart(0);
  ASSERT_TRUE(nodes_[0]->FindPut(session_, 17).has_value());
  EXPECT_EQ(nodes_[0]->FindPut(session_, 17)->object, object);
  EXPECT_FALSE(nodes_[0]->FindPut(session_, 16).has_value());
  EXPECT_FALSE(nodes_[0]->FindPut(session_ + 1, 17).has_value());
  nodes_[0]->NotePut(session_, 18, {object, 3});
  nodes_[0]->NotePut(session_, 17, {object, 2});  // late: stays 18
  EXPECT_FALSE(nodes_[0]->FindPut(session_, 17).has_value());
  EXPECT_EQ(nodes_[0]->FindPut(session_, 18)->version, 3);
  ASSERT_OK(nodes_[0]->EndSession(session_));
  EXPECT_FALSE(nodes_[0]->FindPut(session_, 18).has_value());
}

TEST_F(HomeRestart, RetiredObjectsGoAfterAFullGrace) {
  ASSERT_OK_AND_ASSIGN(const Granted grant, nodes_[0]->Grant(session_, kMiB));
  ASSERT_OK_AND_ASSIGN(const ObjectId object,
                       nodes_[0]->Seal(session_, Over({In(grant, 0, 4096)})));
  ASSERT_OK(nodes_[0]->Retire(object, ""));
  ASSERT_OK(nodes_[0]->Return(session_, grant.id));
  Restart(0);
  EXPECT_EQ(nodes_[0]->num_retired(), 1);
  clock_.Advance(nodes_[0]->grace_end() - clock_.Now());
  ASSERT_OK_AND_ASSIGN(const size_t freed, nodes_[0]->Reclaim());
  EXPECT_EQ(freed, 1);
  EXPECT_EQ(FreeBytes(0), free_at_start_);
}

/// O4: the other home must see no gap between the cells of two lives.
TEST_F(HomeRestart, ObjectsOfOtherHomesStayLeased) {
  ASSERT_OK_AND_ASSIGN(const Granted grant, nodes_[0]->Grant(session_, kMiB));
  ASSERT_OK_AND_ASSIGN(const ObjectId parent,
                       nodes_[0]->Seal(session_, Over({In(grant, 0, 4096)})));
  ASSERT_OK_AND_ASSIGN(const auto other, nodes_[1]->OpenSession());
  SealInput input = Over({In(grant, 0, 4096)});
  input.parents = {parent};
  input.keep = true;
  ASSERT_OK_AND_ASSIGN(const ObjectId child, nodes_[1]->Seal(other.id, input));
  ASSERT_OK(nodes_[0]->Retire(parent, ""));
  // O5: a scan may be under way. The cell does not move.
  const uint64_t cell =
      format::PackLeaseCell(parent.segment.value, parent.slot, parent.generation);
  const auto find_cell = [&]() -> const uint64_t* {
    const region::Segment& own = nodes_[1].region->own_segment();
    const auto* begin = reinterpret_cast<const uint64_t*>(own.leases().data());
    const uint64_t* end = begin + own.leases().size_bytes() / sizeof(uint64_t);
    const uint64_t* found = std::find(begin, end, cell);
    return found == end ? nullptr : found;
  };
  const uint64_t* const place = find_cell();
  ASSERT_NE(place, nullptr);
  for (int life = 0; life < 3; ++life) {
    Restart(1);
    EXPECT_EQ(find_cell(), place);
    ASSERT_OK_AND_ASSIGN(const size_t freed, nodes_[0]->Reclaim());
    EXPECT_EQ(freed, 0) << "life " << life;
  }
  ASSERT_OK(nodes_[1]->Retire(child, ""));
  clock_.Advance(nodes_[1]->grace_end() - clock_.Now());
  ASSERT_OK_AND_ASSIGN(const size_t child_freed, nodes_[1]->Reclaim());
  EXPECT_EQ(child_freed, 1);
  ASSERT_OK_AND_ASSIGN(const size_t freed, nodes_[0]->Reclaim());
  EXPECT_EQ(freed, 1);
  EXPECT_EQ(nodes_[1]->num_foreign_leases(), 0);
}

/// A repair is for one segment, while other homes may live.
TEST_F(HomeRestart, ARepairKeepsWhatTheHomeLeasesOfOthers) {
  ASSERT_OK_AND_ASSIGN(const Granted grant, nodes_[0]->Grant(session_, kMiB));
  ASSERT_OK_AND_ASSIGN(const ObjectId parent,
                       nodes_[0]->Seal(session_, Over({In(grant, 0, 4096)})));
  ASSERT_OK_AND_ASSIGN(const auto other, nodes_[1]->OpenSession());
  SealInput input = Over({In(grant, 0, 4096)});
  input.parents = {parent};
  input.keep = true;
  ASSERT_OK(nodes_[1]->Seal(other.id, input));
  ASSERT_OK(nodes_[0]->Retire(parent, ""));
  nodes_[1].home.reset();
  region::Segment& own = nodes_[1].region->own_segment();
  platform::SharedWord(own.GrantLine(0) + 3).StoreRelease(~uint64_t{0});  // damaged
  ASSERT_OK_AND_ASSIGN(const auto report,
                       CheckSegment(nodes_[1].region->config(), {1}, Repair::kYes));
  EXPECT_TRUE(report.repaired);
  clock_.Advance(nodes_[0]->grace_end() - clock_.Now());
  ASSERT_OK_AND_ASSIGN(const size_t freed, nodes_[0]->Reclaim());
  EXPECT_EQ(freed, 0);
}

/// GRANT-1: nobody was told of a grant whose line was cut short.
TEST_F(HomeRestart, AGrantLineThatWasCutShortIsFree) {
  ASSERT_OK_AND_ASSIGN(const Granted grant, nodes_[0]->Grant(session_, kMiB));
  platform::SharedWord(GrantLine(grant)).StoreRelease(format::kBusyWord);
  Restart(0);
  EXPECT_THAT(nodes_[0]->problems(), IsEmpty());
  EXPECT_EQ(FreeBytes(0), free_at_start_);
  ASSERT_OK_AND_ASSIGN(const Granted next, nodes_[0]->Grant(session_, kMiB));
  EXPECT_EQ(next.id.grant, grant.id.grant);
  EXPECT_GT(next.id.generation, grant.id.generation + 1);  // either may have been told
}

TEST_F(HomeRestart, ADamagedGrantLineMeansNoMoreMemoryButReadableTables) {
  ASSERT_OK_AND_ASSIGN(const Granted grant, nodes_[0]->Grant(session_, kMiB));
  ASSERT_OK_AND_ASSIGN(const ObjectId object,
                       nodes_[0]->Seal(session_, Over({In(grant, 0, 4096)})));
  uint64_t* const words = GrantLine(grant);
  platform::SharedWord(words + 4).StoreRelease(words[4] ^ 4096);
  Restart(0);
  EXPECT_THAT(nodes_[0]->problems(), ElementsAre(HasSubstr("is damaged")));
  const arrow::Status refused = nodes_[0]->Grant(session_, 4096).status();
  ASSERT_RAISES(IOError, refused);
  EXPECT_THAT(refused.message(), HasSubstr("sheaf fsck"));
  EXPECT_OK(nodes_[0]->directory().GetRecord(object));
}

// #4: the next generation of the line was one of another formatting, or began anew.
TEST_F(HomeRestart, AGrantOfAnotherFormattingIsDamaged) {
  ASSERT_OK_AND_ASSIGN(const Granted grant, nodes_[0]->Grant(session_, kMiB));
  auto line = format::OpenLine<format::Grant>(platform::LoadLine(GrantLine(grant)));
  ASSERT_TRUE(line.has_value());
  line->generation += uint64_t{1} << 32;
  platform::StoreLine(GrantLine(grant), format::SealLine(*line), format::kBusyWord);
  Restart(0);
  EXPECT_THAT(nodes_[0]->problems(), ElementsAre(HasSubstr("is damaged")));
  // Of a line that was cut short, too.
  platform::SharedWord(GrantLine(grant)).StoreRelease(format::kBusyWord);
  platform::SharedWord(GrantLine(grant) + 3).StoreRelease(~uint64_t{0});
  Restart(0);
  EXPECT_THAT(nodes_[0]->problems(), ElementsAre(HasSubstr("is damaged")));
}

// #4: the pages of nobody were given back with such a session, free and lost ones alike.
TEST_F(HomeRestart, ASessionThatCannotBeHoldsNoLeasePages) {
  region::Segment& segment = nodes_[0].region->own_segment();
  ASSERT_OK_AND_ASSIGN(const Granted grant, nodes_[0]->Grant(session_, kMiB));
  auto line = format::OpenLine<format::Grant>(platform::LoadLine(GrantLine(grant)));
  ASSERT_TRUE(line.has_value());
  uint64_t* const table = segment.ControlLine(segment.layout().page_table);
  for (const uint64_t session : {uint64_t{0}, format::kLeasePageActive}) {
    line->owner_session = session;
    line->state = static_cast<uint8_t>(format::LineState::kOwned);
    platform::StoreLine(GrantLine(grant), format::SealLine(*line), format::kBusyWord);
    platform::SharedWord(table).StoreRelease(format::kLeasePageActive);
    platform::SharedWord(segment.LeasePage(0)).StoreRelease(1);  // its mark
    Restart(0);
    ASSERT_OK(nodes_[0]->EndSession(session));
    EXPECT_EQ(*table, format::kLeasePageActive);
    EXPECT_EQ(*segment.LeasePage(0), 1);
  }
}

// #4: a daemon that found such a number ended itself at the first session.
TEST_F(HomeRestart, NumbersOfSessionsStayWithinAWordOfThePageTable) {
  region::UpdateIncarnation(
      &nodes_[0].region->own_segment(),
      [](format::IncarnationLine* line) { line->daemon_starts = 0x7FFFFFFF; });
  Restart(0);
  ASSERT_OK_AND_ASSIGN(const auto session, nodes_[0]->OpenSession());
  EXPECT_EQ(session.id & format::kLeasePageActive, 0);
}

// #4: two sessions had one number, and one ended with the other.
TEST_F(HomeRestart, WhoForgotHowOftenItStartedGivesOutNoNumberTwice) {
  ForgetStarts();
  Restart(0);
  ASSERT_OK_AND_ASSIGN(const auto session, nodes_[0]->OpenSession());
  EXPECT_NE(session.id, session_);
}

// #5: the session was taken for the guest, and was gone; in the next life it was back.
TEST_F(HomeRestart, WhoForgotHowOftenItStartedGivesNoGuestTheNumberOfASession) {
  ASSERT_OK_AND_ASSIGN(const Granted of_guest, nodes_[0]->Grant(session_, kMiB));
  ASSERT_OK_AND_ASSIGN(const Granted own, nodes_[0]->Grant(session_, kMiB));
  auto line = format::OpenLine<format::Grant>(platform::LoadLine(GrantLine(of_guest)));
  ASSERT_TRUE(line.has_value());
  line->owner_node = 1;
  platform::StoreLine(GrantLine(of_guest), format::SealLine(*line), format::kBusyWord);
  region::Segment& segment = nodes_[0].region->own_segment();
  const auto forget_and_restart = [&] {
    ForgetStarts();
    Restart(0);
    EXPECT_THAT(nodes_[0]->problems(), IsEmpty());
    EXPECT_THAT(nodes_[0]->sessions(), ElementsAre(session_));
    const std::vector<uint64_t> guests = nodes_[0]->guests().Of({1});
    ASSERT_EQ(guests.size(), 1);
    EXPECT_THAT(nodes_[0]->space().GrantsOf(guests[0]), ElementsAre(of_guest.id));
  };
  forget_and_restart();  // The session's pages tell of it, then only its grant.
  for (const uint32_t page : nodes_[0]->LeasePagesOf(session_)) {
    platform::SharedWord(segment.ControlLine(segment.layout().page_table) + page)
        .StoreRelease(0);
  }
  forget_and_restart();
  EXPECT_THAT(nodes_[0]->space().GrantsOf(session_), ElementsAre(own.id));
}

// #4: a put of the second was taken for one of the first, and never done.
TEST_F(HomeRestart, WhoForgotHowOftenItStartedTakesNoPutForAnotherSessions) {
  ASSERT_OK_AND_ASSIGN(const Granted grant, nodes_[0]->Grant(session_, kMiB));
  SealInput input = Over({In(grant, 0, 4096)}, 17);
  input.keep = true;
  ASSERT_OK(nodes_[0]->Seal(session_, input));
  ASSERT_OK(nodes_[0]->EndSession(session_));
  ForgetStarts();
  Restart(0);
  ASSERT_OK_AND_ASSIGN(const auto session, nodes_[0]->OpenSession());
  Restart(0);
  EXPECT_FALSE(nodes_[0]->FindPut(session.id, 17).has_value());
}

/// Two grants over the same bytes: one of them is not true.
TEST_F(HomeRestart, GrantsThatOverlapAreAProblem) {
  ASSERT_OK_AND_ASSIGN(const Granted first, nodes_[0]->Grant(session_, kMiB));
  ASSERT_OK_AND_ASSIGN(const Granted second, nodes_[0]->Grant(session_, kMiB));
  auto line = format::OpenLine<format::Grant>(platform::LoadLine(GrantLine(second)));
  ASSERT_TRUE(line.has_value());
  line->extent_offset = first.extent.offset;
  platform::StoreLine(GrantLine(second), format::SealLine(*line), format::kBusyWord);
  Restart(0);
  EXPECT_THAT(nodes_[0]->problems(), ElementsAre(HasSubstr("is not free")));
}

}  // namespace
}  // namespace sheaf::daemon
