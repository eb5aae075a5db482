// Two nodes send each other frames, on every kind of memory, while either restarts.

#include "ring/ring.h"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <utility>
#include <vector>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/layout.h"
#include "format/ring.h"
#include "platform/cache.h"
#include "platform/shared_word.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "ring/link.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/test_seed.h"

namespace sheaf::ring {
namespace {

using Bytes = std::vector<uint8_t>;

struct Variant {
  const char* name;
  region::Backend backend;
  region::Coherence coherence;
  region::SimOptions sim;
  friend void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }
};

Bytes MakeFrame(size_t size, uint64_t seed) {
  Bytes bytes(size);
  std::minstd_rand random(static_cast<uint32_t>(seed + 1));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

class RingTest : public ::testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    region::ClusterConfig config = memory_.Config();
    config.backend = GetParam().backend;
    config.coherence = GetParam().coherence;
    config.sim = GetParam().sim;
    if (config.sim.posted) config.settle_class = platform::SettleClass::kPosted;
    config.posted_delay_us = 100;
    for (uint32_t k = 0; k < 2; ++k) ASSERT_OK(region::FormatSegment(config, NodeId{k}));
    for (uint32_t k = 0; k < 2; ++k) {
      ASSERT_OK_AND_ASSIGN(
          regions_[k],
          region::Region::Attach(config, {NodeId{k}, region::Role::kDaemon, true}));
    }
    for (const uint32_t k : {0U, 1U}) Open(k);
  }

  region::Segment& Own(uint32_t k) { return regions_[k]->own_segment(); }
  void Open(uint32_t k) {
    channels_[k].reset();
    ASSERT_OK_AND_ASSIGN(channels_[k],
                         Channel::Open(&Own(k), regions_[k]->segment({1 - k})));
  }
  // Each sees what the other has said by now, also where writes arrive late.
  void Greet() {
    for (int i = 0; i < 1000; ++i) {
      const uint64_t of_node0 = channels_[0]->Poll();
      if (channels_[1]->Poll() > 0 && of_node0 > 0) return;
    }
    for (const uint32_t k : {0U, 1U}) EXPECT_GT(channels_[k]->Poll(), 0) << k;
  }
  void ExpectNothing(uint32_t k) {
    ASSERT_OK_AND_ASSIGN(const auto frame, channels_[k]->Receive());
    EXPECT_FALSE(frame.has_value());
  }
  Channel::Frame Await(uint32_t k) {
    for (int i = 0; i < 100'000; ++i) {
      auto frame = channels_[k]->Receive().ValueOrDie();
      if (frame) return *std::move(frame);
    }
    ADD_FAILURE() << "nothing arrives at node " << k;
    return {};
  }

  region::TestMemory memory_;
  std::array<std::shared_ptr<region::Region>, 2> regions_;
  std::array<std::unique_ptr<Channel>, 2> channels_;
};

TEST_P(RingTest, FramesOfAllSizesArriveInOrderBothWays) {
  Greet();
  uint64_t number = 0;
  for (const size_t size : {size_t{0}, size_t{1}, size_t{47}, size_t{48}, size_t{49},
                            size_t{104}, size_t{105}, size_t{5000},
                            Channel::kFrameBytesMax - 1, Channel::kFrameBytesMax}) {
    for (const uint32_t from : {0U, 1U}) {
      ExpectNothing(1 - from);
      const Bytes sent = MakeFrame(size, ++number);
      ASSERT_TRUE(channels_[from]->Send(sent, size % 2 == 1));
      const Channel::Frame frame = Await(1 - from);
      EXPECT_EQ(frame.bytes, sent);
      EXPECT_EQ(frame.goes_on, size % 2 == 1);
      channels_[1 - from]->Acknowledge();
    }
    Greet();
  }
}

TEST_P(RingTest, AFullRingRefusesAndLosesNothing) {
  Greet();
  uint64_t sent = 0;
  while (channels_[0]->Send(MakeFrame(20'000, sent), false)) ++sent;
  EXPECT_GE(sent, format::kRingBytes / 24'000);
  channels_[0]->Poll();
  EXPECT_FALSE(channels_[0]->Send(MakeFrame(20'000, sent), false));
  for (uint64_t i = 0; i < sent; ++i) EXPECT_EQ(Await(1).bytes, MakeFrame(20'000, i));
  ExpectNothing(1);
  // Not acknowledged: nothing may be overwritten.
  channels_[0]->Poll();
  EXPECT_FALSE(channels_[0]->Send(MakeFrame(20'000, sent), false));
  channels_[1]->Acknowledge();
  bool was_sent = false;
  for (int i = 0; i < 100'000 && !was_sent; ++i) {
    channels_[0]->Poll();
    was_sent = channels_[0]->Send(MakeFrame(20'000, sent), false);
  }
  ASSERT_TRUE(was_sent);
  EXPECT_EQ(Await(1).bytes, MakeFrame(20'000, sent));
}

TEST_P(RingTest, NothingIsSentBeforeTheOtherSideIsThere) {
  EXPECT_FALSE(channels_[0]->Send(MakeFrame(1, 1), false));
  ExpectNothing(1);
}

/// M2, M3: at most once, and never what an earlier life sent.
TEST_P(RingTest, ARestartOfEitherSideDropsWhatWasUnderWay) {
  Greet();
  for (const uint32_t restarted : {0U, 1U, 0U}) {
    ASSERT_TRUE(channels_[0]->Send(MakeFrame(100, 1), true));
    ASSERT_TRUE(channels_[0]->Send(MakeFrame(100, 2), false));
    const Channel::Frame begun = Await(1);
    const uint64_t session = channels_[0]->Poll();
    Open(restarted);
    for (int i = 0; i < 1000; ++i) {
      channels_[1]->Poll();
      channels_[0]->Poll();
    }
    ExpectNothing(1);
    EXPECT_TRUE(restarted == 0 || channels_[0]->Poll() > session);
    ASSERT_TRUE(channels_[0]->Send(MakeFrame(100, 3), false));
    const Channel::Frame next = Await(1);
    EXPECT_EQ(next.bytes, MakeFrame(100, 3));
    EXPECT_TRUE(restarted == 1 || next.session > begun.session);
    ExpectNothing(1);
  }
}

TEST_P(RingTest, ASizeThatNoSenderWritesEndsTheSession) {
  Greet();
  ASSERT_TRUE(channels_[0]->Send(MakeFrame(8, 1), false));
  region::Segment& own = Own(0);
  uint64_t* line = own.ControlLine(own.layout().rings + format::kRingBytes);
  platform::SharedWord(line + 1).StoreRelease(Channel::kFrameBytesMax + 1);
  own.control().cache()->Flush(line, format::kLineBytes);
  arrow::Status status;
  for (int i = 0; i < 100'000 && status.ok(); ++i)
    status = channels_[1]->Receive().status();
  EXPECT_TRUE(status.IsInvalid()) << status;
  ExpectNothing(1);
  Open(0);
  Greet();
  ASSERT_TRUE(channels_[0]->Send(MakeFrame(8, 2), false));
  EXPECT_EQ(Await(1).bytes, MakeFrame(8, 2));
}

TEST_P(RingTest, AFrameWithAWrongChecksumEndsTheSession) {
  Greet();
  ASSERT_TRUE(channels_[0]->Send(MakeFrame(40, 1), false));
  region::Segment& own = Own(0);
  uint64_t* line = own.ControlLine(own.layout().rings + format::kRingBytes);
  const platform::SharedWord word(line + 2);
  platform::SharedWord(line + 2).StoreRelease(word.LoadAcquire() ^ 1);
  own.control().cache()->Flush(line, format::kLineBytes);
  arrow::Status status;
  for (int i = 0; i < 100'000 && status.ok(); ++i)
    status = channels_[1]->Receive().status();
  EXPECT_TRUE(status.IsInvalid()) << status;
  ExpectNothing(1);
}

/// M2: a life that was never seen whole is not begun twice.
TEST_P(RingTest, AnEndThatACrashCutShortGoesOn) {
  Greet();
  region::Segment& own = Own(0);
  uint64_t* line = own.ControlLine(own.layout().ring_ends + format::kLineBytes);
  const auto life = [&] {
    return std::bit_cast<format::RingEnd>(platform::LoadLine(line)).life;
  };
  for (const bool is_damaged : {false, true}) {
    const uint64_t before = life();
    // Of a damaged line the peer's knows.
    platform::SharedWord(line).StoreRelease(region::kBusyLine);
    if (is_damaged) platform::SharedWord(line).StoreRelease(77);
    own.control().cache()->Flush(line, format::kLineBytes);
    Open(0);
    EXPECT_EQ(life(), before + 1) << is_damaged;
    const uint64_t session = channels_[1]->Poll();
    for (int i = 0; i < 100'000 && channels_[1]->Poll() <= session; ++i) {
      channels_[0]->Poll();
    }
    Greet();
    ASSERT_TRUE(channels_[0]->Send(MakeFrame(8, 2), false));
    EXPECT_EQ(Await(1).bytes, MakeFrame(8, 2));
  }
}

TEST_P(RingTest, APeerOfAnotherVersionClusterOrFormattingIsRefused) {
  Greet();
  region::Segment& own = Own(0);
  uint64_t* line = own.ControlLine(own.layout().ring_ends + format::kLineBytes);
  const auto good = region::ReadControlLine<format::RingEnd>(own, line);
  ASSERT_TRUE(good.has_value());
  const auto say = [&](const format::RingEnd& end) {
    region::StoreControlLine(&own, line, end, region::kBusyLine,
                             region::Arrival::kSettled);
    channels_[1]->Poll();
    return channels_[1]->peer_status();
  };
  format::RingEnd end = *good;
  end.version += 1;
  EXPECT_THAT(say(end).ToString(), ::testing::HasSubstr("speaks version"));
  EXPECT_FALSE(channels_[1]->Send(MakeFrame(8, 2), false));
  ExpectNothing(1);
  end = *good;
  end.cluster_id += 1;
  EXPECT_THAT(say(end).ToString(), ::testing::HasSubstr("another cluster"));
  end = *good;
  end.life += uint64_t{1} << format::kRingLifeShift;  // #5: of memory not mapped here
  EXPECT_THAT(say(end).ToString(), ::testing::HasSubstr("format epoch"));
  EXPECT_FALSE(channels_[1]->Send(MakeFrame(8, 2), false));
  ExpectNothing(1);
  EXPECT_OK(say(*good));
}

TEST_P(RingTest, WhoIsAwakeSaysSo) {
  Greet();
  for (const bool is_awake : {true, false, true}) {
    channels_[1]->SetAwake(is_awake);
    for (int i = 0; i < 100'000 && channels_[0]->IsPeerAwake() != is_awake; ++i) {
    }
    EXPECT_EQ(channels_[0]->IsPeerAwake(), is_awake);
  }
  Open(1);  // A life that says nothing.
  for (int i = 0; i < 100'000 && channels_[0]->IsPeerAwake(); ++i) {
  }
  EXPECT_FALSE(channels_[0]->IsPeerAwake());
}

TEST_P(RingTest, APositionThatNobodyCanHaveFreesNothing) {
  Greet();
  while (channels_[0]->Send(MakeFrame(30'000, 1), false)) continue;
  region::Segment& other = Own(1);
  uint64_t* line = other.ControlLine(other.layout().ring_ends);
  auto end = region::ReadControlLine<format::RingEnd>(other, line);
  ASSERT_TRUE(end.has_value());
  end->lines_received = ~uint64_t{0};
  region::StoreControlLine(&other, line, *end, region::kBusyLine,
                           region::Arrival::kSettled);
  channels_[0]->Poll();
  EXPECT_FALSE(channels_[0]->Send(MakeFrame(30'000, 1), false));
}

/// Any order of steps of both sides: what arrives of one session is what was sent in it,
/// from its beginning, without a gap, and never again once a later one began.
TEST_P(RingTest, AnyInterleavingDeliversAPrefixOfEachSession) {
  struct Label {
    uint64_t life = 0;     ///< Of node 0's channel.
    uint64_t session = 0;  ///< In that life.
    uint64_t number = 0;   ///< In that session, from 1 on.
  };
  std::mt19937_64 random(testing::TestSeed());
  Label sent;
  Label received;
  constexpr uint64_t kFrames = 500;
  uint64_t total = 0;
  // Where writes arrive late, most steps find nothing.
  for (int step = 0; step < 1'000'000 && total < kFrames; ++step) {
    const uint64_t what = random() % 16;
    if (what == 0 && random() % 8 == 0) {
      const auto restarted = static_cast<uint32_t>(random() % 2);
      Open(restarted);
      if (restarted == 0) sent = {sent.life + 1, 0, 0};
    } else if (what < 4) {
      const uint64_t session = channels_[0]->Poll();
      if (session != sent.session) sent = {sent.life, session, 0};
    } else if (what < 6) {
      channels_[1]->Poll();
    } else if (what < 7) {
      channels_[1]->Acknowledge();
    } else if (what < 11) {
      Label label = sent;
      ++label.number;
      Bytes frame(sizeof(label) + random() % 3000);
      std::memcpy(frame.data(), &label, sizeof(label));
      if (channels_[0]->Send(frame, false)) sent = label;
    } else {
      ASSERT_OK_AND_ASSIGN(const auto frame, channels_[1]->Receive());
      if (!frame) continue;
      Label label;
      ASSERT_GE(frame->bytes.size(), sizeof(label));
      std::memcpy(&label, frame->bytes.data(), sizeof(label));
      const std::pair then(received.life, received.session);
      const std::pair now(label.life, label.session);
      ASSERT_GE(now, then);
      ASSERT_EQ(label.number, now == then ? received.number + 1 : 1);
      received = label;
      ++total;
    }
  }
  EXPECT_EQ(total, kFrames);
}

TEST_P(RingTest, MessagesLongerThanTheRingArriveWhole) {
  std::array<std::unique_ptr<Link>, 2> links;
  for (const uint32_t k : {0U, 1U}) {
    links[k] = std::make_unique<Link>(std::move(channels_[k]), size_t{2} << 20);
  }
  std::array<std::vector<Bytes>, 2> received;
  const auto turn = [&](uint32_t k) {
    ASSERT_OK_AND_ASSIGN(auto moved, links[k]->Advance());
    for (Bytes& message : moved.messages) received[k].push_back(std::move(message));
  };
  for (int i = 0; i < 1000; ++i) {
    for (const uint32_t k : {0U, 1U}) turn(k);
  }
  const std::array sizes = {size_t{0}, size_t{2} << 20, size_t{1}, size_t{700'000},
                            size_t{32} << 10};
  for (const uint32_t k : {0U, 1U}) {
    for (const size_t size : sizes) links[k]->Queue(MakeFrame(size, size + k));
  }
  for (int i = 0; i < 100'000 && received[0].size() + received[1].size() < 10; ++i) {
    for (const uint32_t k : {0U, 1U}) turn(k);
  }
  for (const uint32_t k : {0U, 1U}) {
    EXPECT_EQ(links[k]->queued_bytes(), 0U);
    ASSERT_EQ(received[k].size(), sizes.size());
    for (size_t i = 0; i < sizes.size(); ++i) {
      EXPECT_EQ(received[k][i], MakeFrame(sizes[i], sizes[i] + 1 - k)) << sizes[i];
    }
  }
  links[0]->Queue(MakeFrame((size_t{2} << 20) + 1, 1));
  links[0]->Queue(MakeFrame(1, 1));
  arrow::Status status;
  for (int i = 0; i < 100'000 && status.ok(); ++i) {
    turn(0);
    status = links[1]->Advance().status();
  }
  EXPECT_TRUE(status.IsInvalid()) << status;
}

constexpr auto kCoherent = region::Coherence::kCoherent;
constexpr auto kSoftware = region::Coherence::kSoftware;
INSTANTIATE_TEST_SUITE_P(
    All, RingTest,
    ::testing::Values(
        Variant{"shm", region::Backend::kShm, kCoherent, {}},
        Variant{"shm_software", region::Backend::kShm, kSoftware, {}},
        Variant{"sim_stale", region::Backend::kSim, kSoftware, {}},
        Variant{"sim_stale_128", region::Backend::kSim, kSoftware, {.line_bytes = 128}},
        Variant{
            "sim_chaos", region::Backend::kSim, kSoftware, {.chaos = true, .seed = 3}},
        Variant{"sim_posted",
                region::Backend::kSim,
                kSoftware,
                {.chaos = true, .posted = true}}),
    [](const auto& variant) { return variant.param.name; });

}  // namespace
}  // namespace sheaf::ring
