// What no node can have written, and what lives that are over leave (docs/protocol.md F8,
// F9).

#include <chrono>
#include <cstdint>

#include <gtest/gtest.h>

#include "daemon/membership.h"
#include "daemon/test_membership.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "platform/shared_word.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using std::chrono::milliseconds;

/// Its own memory says what a home believes of others; here it is garbage.
TEST_F(MembershipTest, GarbageOfAHomeEndsNobodysSessions) {
  sessions_left_ = 1;
  const uint64_t first = nodes_[1]->incarnation();
  for (const uint64_t word : {~uint64_t{0}, first + (uint64_t{1} << 31)}) {
    region::StoreCertifiedOff(&Segment(2), {1}, word);
    region::StoreWithdrawn(&Segment(2), {1}, word);
    Pass(milliseconds(500), {0, 1});
    EXPECT_EQ(nodes_[1]->incarnation(), first + 1);  // honoured there no more
  }
  EXPECT_TRUE(Honours(0, 1));
}

/// Admitted and withdrawn once, it would be refused up to there, over each formatting.
TEST_F(MembershipTest, AnIncarnationOfNoFormattingIsGarbage) {
  uint64_t* line = Segment(1).NodeLine(format::NodeLine::kIncarnation);
  const format::LineWords good = platform::LoadLine(line);
  auto garbage = *format::OpenLine<format::IncarnationLine>(good);
  garbage.incarnation |= uint64_t{0xFFFF} << 48;
  platform::StoreLine(line, format::SealLine(garbage), region::kBusyLine);
  Pass(milliseconds(5000), {0});
  EXPECT_EQ(Seen(0, 1).withdrawn, NthOf(1, 1));
  ASSERT_OK(Forget(1));
  EXPECT_LE(Seen(0, 1).off, NthOf(1, 2));
  // What its next daemon goes on from.
  uint64_t* own = region::AdmitWordOf(Segment(1), {1}, region::AdmitWord::kIncarnation);
  const uint64_t last = platform::SharedWord(own).LoadAcquire();
  region::StoreControlWord(&Segment(1), own, garbage.incarnation);
  ASSERT_OK(Forget(1));
  EXPECT_LE(Seen(0, 1).off, NthOf(1, 3));
  region::StoreControlWord(&Segment(1), own, last);
  platform::StoreLine(line, good, region::kBusyLine);
  Pass(milliseconds(500), {0, 1});
  EXPECT_TRUE(Honours(0, 1));
}

/// It cannot be mapped here; its bytes are not what they were.
TEST_F(MembershipTest, WhatIsLaidOutOtherwiseHasNoHeartThatBeats) {
  auto* header = reinterpret_cast<format::SegmentHeader*>(Segment(1).control().data());
  const format::SegmentHeader good = *header;
  uint64_t* beat = Segment(1).NodeLine(format::NodeLine::kHeartbeat);
  ++header->format_epoch;
  ++header->slots_max;
  Segment(1).control().cache()->Flush(header, sizeof(*header));
  for (int i = 0; i < 100; ++i) {
    region::StoreControlWord(&Segment(1), beat, 1000 + i);
    Pass(milliseconds(50), {0});
  }
  EXPECT_FALSE(Honours(0, 1));
  EXPECT_EQ(Seen(0, 1).withdrawn, NthOf(1, 1));
  *header = good;
  Segment(1).control().cache()->Flush(header, sizeof(*header));
}

/// F8: the home ignored the cells of that life, which its sessions still read by.
TEST_F(MembershipTest, SessionsOfALifeThatIsOffEndAlsoInTheNext) {
  const uint64_t first = nodes_[1]->incarnation();
  sessions_left_ = 1;
  region::StoreWithdrawn(&Segment(2), {1}, first);
  Pass(milliseconds(50), {1});
  ASSERT_EQ(nodes_[1]->incarnation(), first + 1);  // with its sessions
  region::StoreWithdrawn(&Segment(0), {1}, first);
  region::StoreCertifiedOff(&Segment(0), {1}, first);
  Pass(milliseconds(200), {1});
  EXPECT_EQ(nodes_[1]->incarnation(), first + 1);
  sessions_left_ = 0;
  Pass(milliseconds(500), {1});
  EXPECT_EQ(nodes_[1]->incarnation(), first + 2);
}

/// The daemon that began the next life with its sessions may be gone when it is told.
TEST_F(MembershipTest, SessionsOfALifeThatIsOffEndAlsoUnderTheNextDaemon) {
  const uint64_t first = nodes_[1]->incarnation();
  sessions_left_ = 1;
  region::StoreWithdrawn(&Segment(2), {1}, first);
  Pass(milliseconds(50), {1});
  nodes_[1].Begin(&clock_);
  Begin(1);
  ASSERT_EQ(nodes_[1]->incarnation(), first + 1);
  region::StoreWithdrawn(&Segment(0), {1}, first);
  region::StoreCertifiedOff(&Segment(0), {1}, first);
  Pass(milliseconds(200), {1});
  EXPECT_TRUE(members_[1]->IsOff());
  EXPECT_EQ(nodes_[1]->incarnation(), first + 1);
  sessions_left_ = 0;
  Pass(milliseconds(200), {1});
  EXPECT_EQ(nodes_[1]->incarnation(), first + 2);
  // Once more, with sessions that began since.
  sessions_left_ = 1;
  nodes_[1].Begin(&clock_);
  Begin(1);
  Pass(milliseconds(200), {1});
  EXPECT_FALSE(members_[1]->IsOff());
  EXPECT_EQ(nodes_[1]->incarnation(), first + 2);
  nodes_[1].Begin(&clock_, /*boot=*/2);  // ends sessions
  Begin(1);
  region::StoreCertifiedOff(&Segment(0), {1}, first + 2);
  Pass(milliseconds(200), {1});
  EXPECT_FALSE(members_[1]->IsOff());
}

}  // namespace
}  // namespace sheaf::daemon
