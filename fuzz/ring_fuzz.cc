// Any bytes in a peer's end and ring: what is received are messages that are tagged for
// the session, as they lie there, and nothing else; what the peer says of our messages
// frees no more than we sent; nothing of the peer's is written to.
//
// Input: a byte, whether the end belongs to our session; the peer's end; its end later;
// lines of its ring. Taken as it is, then with tags and checksums made right.
//
// Decoders: src/ring/ring.cc src/ring/link.cc

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <arrow/status.h>

#include "base/check.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "format/message.h"
#include "format/ring.h"
#include "fuzz/control_lines.h"
#include "fuzz/input.h"
#include "platform/shared_word.h"
#include "region/region.h"
#include "ring/link.h"
#include "ring/ring.h"
#include "testing/fake_segments.h"

namespace {

using sheaf::format::kLineBytes;
using sheaf::format::kRingFrameBytesMax;
using sheaf::format::kRingPayloadBytes;
using sheaf::format::RingEnd;
using sheaf::format::RingFrameHead;
using sheaf::fuzz::Checksums;
using Bytes = std::vector<uint8_t>;

constexpr uint64_t kRingLines = sheaf::format::kRingBytes / kLineBytes;
constexpr size_t kMessageBytesMax = 40'000;

uint64_t LinesOf(const RingFrameHead& head) {
  return (sizeof(head) + head.size_bytes + kRingPayloadBytes - 1) / kRingPayloadBytes;
}

class RingFuzz {
 public:
  RingFuzz() : segments_({.segments = 2, .has_rings = true}) {}

  void Run(sheaf::fuzz::Input input, Checksums checksums) {
    is_right_ = checksums == Checksums::kMadeRight;
    const bool is_ours = input.Next<uint8_t>() % 2 == 0;
    sheaf::fuzz::Fill(EndLine(0), Bytes(kLineBytes));
    std::memset(OwnRing(), 0, sheaf::format::kRingBytes);
    auto channel = sheaf::ring::Channel::Open(segments_[0], segments_[1]).ValueOrDie();
    own_life_ = End(0).life;
    const auto first = MakeEnd(input.Next<RingEnd>(), is_ours);
    const auto later = MakeEnd(input.Next<RingEnd>(), is_ours);
    StoreEnd(first);
    FillRing(input.TakeRest(), first.life);
    sheaf::ring::Link link(std::move(channel), kMessageBytesMax);
    CheckReceived(&link, HasSession());
    CheckSent(&link, first.lines_received);
    StoreEnd(later);
    CheckReceived(&link, HasSession() && End(1).life != life_read_);
    CheckSent(&link, std::max(first.lines_received, later.lines_received));
    SHEAF_CHECK(End(0).life == own_life_);
    if (lines_used_ > 0) std::memset(RingLine(1), 0, lines_used_ * kLineBytes);
    life_read_ = 0;
  }

 private:
  uint64_t* EndLine(uint32_t of) const {
    return segments_[of]->ControlLine(segments_[of]->layout().ring_ends +
                                      (1 - of) * kLineBytes);
  }
  uint64_t* RingLine(uint64_t number) const {  // Of the peer's.
    return segments_[1]->ControlLine(segments_[1]->layout().rings +
                                     (number - 1) % kRingLines * kLineBytes);
  }
  RingEnd End(uint32_t of) const {
    const auto end =
        sheaf::format::OpenLine<RingEnd>(sheaf::platform::LoadLine(EndLine(of)));
    return end.value_or(RingEnd{});
  }

  uint64_t PeerEpoch() const { return segments_[1]->header().format_epoch; }

  RingEnd MakeEnd(RingEnd end, bool is_ours) const {
    if (!is_right_) return end;
    end.version = sheaf::format::kMessageVersion;
    end.cluster_id = segments_[0]->header().cluster_id;
    if (is_ours) end.peer_life = own_life_;
    if (end.life != 0) {  // 0 says that there is none.
      end.life = (PeerEpoch() << sheaf::format::kRingLifeShift) | (end.life & 0xFFFFFFFF);
    }
    return end;
  }
  void StoreEnd(const RingEnd& end) const {
    std::memcpy(EndLine(1), &end, sizeof(end));
    if (is_right_) sheaf::fuzz::MakeRight(EndLine(1));
  }

  void FillRing(std::span<const uint8_t> bytes, uint64_t life) {
    bytes = bytes.first(std::min(bytes.size(), kRingLines * kLineBytes));
    sheaf::fuzz::Fill(RingLine(1), bytes);
    lines_used_ = (bytes.size() + kLineBytes - 1) / kLineBytes;
    if (!is_right_) return;
    for (uint64_t number = 1; number <= lines_used_; ++number) {
      RingLine(number)[0] = sheaf::format::RingTag(life, own_life_, number);
    }
    for (uint64_t number = 1; number <= lines_used_;) {
      auto head = std::bit_cast<RingFrameHead>(RingLine(number)[1]);
      // One that is too long stays so, most of the time others do not.
      if (head.size_bytes > kRingFrameBytesMax) return;
      head.goes_on %= 2;
      head.checksum = static_cast<uint32_t>(
          sheaf::format::Checksum(PayloadAt(number, head.size_bytes)));
      RingLine(number)[1] = std::bit_cast<uint64_t>(head);
      number += LinesOf(head);
    }
  }

  // What lies behind the head of a frame that begins in line `number`.
  Bytes PayloadAt(uint64_t number, size_t size) const {
    Bytes bytes;
    for (size_t skip = 16; bytes.size() < size; skip = 8, ++number) {
      const auto* line = reinterpret_cast<const uint8_t*>(RingLine(number));
      const size_t part = std::min(size - bytes.size(), kLineBytes - skip);
      bytes.insert(bytes.end(), line + skip, line + skip + part);
    }
    return bytes;
  }

  bool HasSession() const {
    const RingEnd end = End(1);
    return end.life != 0 && end.version == sheaf::format::kMessageVersion &&
           end.cluster_id == segments_[0]->header().cluster_id &&
           end.life >> sheaf::format::kRingLifeShift == PeerEpoch() &&
           end.peer_life == own_life_;
  }

  // As docs/format.md section 9 says, slowly.
  std::vector<Bytes> Expected() const {
    std::vector<Bytes> messages;
    Bytes begun;
    for (uint64_t number = 1;;) {
      const auto head = std::bit_cast<RingFrameHead>(RingLine(number)[1]);
      const uint64_t lines = LinesOf(head);
      if (lines > kRingLines) return messages;
      for (uint64_t i = 0; i < lines; ++i) {
        const uint64_t tag = sheaf::format::RingTag(End(1).life, own_life_, number + i);
        if (RingLine(number + i)[0] != tag) return messages;
      }
      const Bytes payload = PayloadAt(number, head.size_bytes);
      if (head.size_bytes > kRingFrameBytesMax || head.goes_on > 1 ||
          static_cast<uint32_t>(sheaf::format::Checksum(payload)) != head.checksum ||
          begun.size() + payload.size() > kMessageBytesMax) {
        return messages;
      }
      begun.insert(begun.end(), payload.begin(), payload.end());
      if (head.goes_on == 0) messages.push_back(std::exchange(begun, {}));
      number += lines;
    }
  }

  // Of a session that goes on nothing comes twice.
  void CheckReceived(sheaf::ring::Link* link, bool is_new) {
    const std::vector<Bytes> expected = is_new ? Expected() : std::vector<Bytes>();
    std::vector<Bytes> received;
    int errors = 0;
    for (uint64_t i = 0; i <= kRingLines; ++i) {
      auto turn = link->Advance();
      if (!turn.ok()) {
        SHEAF_CHECK(turn.status().IsInvalid() && ++errors == 1);
        continue;
      }
      for (Bytes& message : turn->messages) received.push_back(std::move(message));
      if (!turn->has_read) break;
    }
    // Those before one that makes no sense may come with it, and are not told then.
    SHEAF_CHECK(errors > 0 ? received.size() <= expected.size() : received == expected);
    for (size_t i = 0; i < received.size(); ++i) SHEAF_CHECK(received[i] == expected[i]);
    if (HasSession()) life_read_ = End(1).life;
  }

  // No more than our ring holds beyond what the peer says that it has read.
  void CheckSent(sheaf::ring::Link* link, uint64_t position) const {
    constexpr size_t kMessageBytes = 100'000;
    for (int i = 0; i < 4; ++i) link->Queue(Bytes(kMessageBytes, 7));
    for (int i = 0; i < 64; ++i)
      SHEAF_CHECK(link->Advance().ok() || link->session() != 0);
    uint64_t sent = 0;
    for (uint64_t i = 0; i < kRingLines; ++i) {
      const uint64_t tag = OwnRing()[i * kLineBytes / sizeof(uint64_t)];
      const uint64_t number = tag & 0xFFFFFFFF;
      const uint64_t expected = sheaf::format::RingTag(
          own_life_, link->session() == 0 ? 0 : life_read_, number);
      if (tag == expected) sent = std::max(sent, number);
    }
    if (link->session() == 0) SHEAF_CHECK(sent == 0);
    SHEAF_CHECK(sent <= kRingLines || sent - kRingLines <= position);
  }
  uint64_t* OwnRing() const {
    return segments_[0]->ControlLine(segments_[0]->layout().rings +
                                     sheaf::format::kRingBytes);
  }

  sheaf::testing::FakeSegments segments_;
  bool is_right_ = false;
  uint64_t own_life_ = 0;
  uint64_t life_read_ = 0;
  uint64_t lines_used_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* const kFuzz = new RingFuzz();
  for (const auto checksums : {Checksums::kAsTheyAre, Checksums::kMadeRight}) {
    kFuzz->Run(sheaf::fuzz::Input(data, size), checksums);
  }
  return 0;
}
