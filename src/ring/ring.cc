#include "ring/ring.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/math.h"
#include "format/layout.h"
#include "format/ring.h"
#include "platform/cache.h"
#include "platform/shared_word.h"
#include "region/control_line.h"
#include "region/region.h"

namespace sheaf::ring {
namespace {

using format::RingEnd;

constexpr uint64_t kRingLines = format::kRingBytes / format::kLineBytes;
/// Two frames fit, so that one is read while the next is written.
static_assert(2 * (Channel::kFrameBytesMax / format::kRingPayloadBytes + 2) < kRingLines);

uint64_t LinesOf(uint64_t frame_bytes) {
  return (sizeof(uint64_t) + frame_bytes + format::kRingPayloadBytes - 1) /
         format::kRingPayloadBytes;
}

uint64_t* EndLine(const region::Segment& of, NodeId peer) {
  return of.ControlLine(of.layout().ring_ends +
                        uint64_t{peer.value} * format::kLineBytes);
}
uint64_t* RingLine(const region::Segment& of, NodeId to, uint64_t number) {
  return of.ControlLine(of.layout().rings + uint64_t{to.value} * format::kRingBytes +
                        (number - 1) % kRingLines * format::kLineBytes);
}

}  // namespace

class Channel::Impl {
 public:
  Impl(region::Segment* own, const region::Segment* peer)
      : own_(own), peer_(peer), self_{own->id().value}, other_{peer->id().value} {}

  // Above the last one, by our own line; one that a crash cut short in that line was
  // never acknowledged, and sent nothing.
  arrow::Status Begin() {
    const auto ours = region::ReadControlLine<RingEnd>(*own_, EndLine(*own_, other_));
    const auto theirs = region::ReadControlLine<RingEnd>(*peer_, EndLine(*peer_, self_));
    if (!ours && !theirs) {
      return arrow::Status::IOError("the ends of the ring between nodes ", self_.value,
                                    " and ", other_.value, " stay busy or damaged");
    }
    uint64_t last = own_->header().format_epoch << format::kRingLifeShift;
    if (ours) last = std::max(last, ours->life);
    if (theirs) last = std::max(last, theirs->peer_life);
    end_.life = last + 1;
    StoreEnd();
    return arrow::Status::OK();
  }

  uint64_t Poll() {
    const auto theirs = region::ReadControlLine<RingEnd>(*peer_, EndLine(*peer_, self_));
    if (!theirs || theirs->life == 0) return sessions_;  // Busy: look again later.
    if (theirs->life != end_.peer_life) GreetSender(theirs->life);
    const bool is_ours = theirs->peer_life == end_.life;
    if (!is_ours) {
      receiver_life_ = 0;
    } else if (theirs->life != receiver_life_) {
      receiver_life_ = theirs->life;
      lines_sent_ = 0;
      lines_freed_ = 0;
      ++sessions_;
    }
    // A position that it cannot have is no reason to overwrite anything.
    if (is_ours && theirs->lines_received <= lines_sent_) {
      lines_freed_ = std::max(lines_freed_, theirs->lines_received);
    }
    return sessions_;
  }

  bool Send(std::span<const uint8_t> frame, bool goes_on) {
    SHEAF_CHECK(frame.size() <= kFrameBytesMax);
    const uint64_t lines = LinesOf(frame.size());
    if (receiver_life_ == 0 || lines_sent_ - lines_freed_ + lines > kRingLines) {
      return false;
    }
    const uint64_t head = frame.size() | (goes_on ? format::kRingFrameGoesOn : 0);
    std::vector<uint64_t> words(lines * format::kRingPayloadWords);
    words[0] = head;
    if (!frame.empty()) std::memcpy(words.data() + 1, frame.data(), frame.size());
    const uint64_t first = lines_sent_ + 1;
    for (uint64_t i = 0; i < lines; ++i) {
      StoreLine(first + i, {words.data() + i * format::kRingPayloadWords,
                            format::kRingPayloadWords});
    }
    FlushLines(first, lines);
    lines_sent_ += lines;
    return true;
  }

  arrow::Result<std::optional<Frame>> Receive() {
    if (end_.peer_life == 0 || is_broken_) return std::nullopt;
    const uint64_t first = lines_received_ + 1;
    format::LineWords words;
    if (!LoadLine(first, &words)) return std::nullopt;
    const uint64_t head = words[1];
    const uint64_t size = head & ~format::kRingFrameGoesOn;
    if (size > kFrameBytesMax) {
      is_broken_ = true;
      return arrow::Status::Invalid("node ", other_.value, " sent a frame of ", size,
                                    " bytes through its ring, at most ", kFrameBytesMax,
                                    " are possible");
    }
    const uint64_t lines = LinesOf(size);
    std::vector<uint64_t> payload(lines * format::kRingPayloadWords);
    for (uint64_t i = 0; i < lines; ++i) {
      // The sender flushes them in any order (M1).
      if (i > 0 && !LoadLine(first + i, &words)) return std::nullopt;
      std::copy(words.begin() + 1, words.end(),
                payload.begin() + static_cast<int64_t>(i * format::kRingPayloadWords));
    }
    lines_received_ += lines;
    Frame frame;
    frame.bytes.resize(size);
    if (size > 0) std::memcpy(frame.bytes.data(), payload.data() + 1, size);
    frame.goes_on = (head & format::kRingFrameGoesOn) != 0;
    frame.session = receptions_;
    return frame;
  }

  void Refuse() { is_broken_ = true; }

  void Acknowledge() {
    if (end_.lines_received == lines_received_) return;
    end_.lines_received = lines_received_;
    StoreEnd();
  }

 private:
  // M2: nothing that an earlier life sent is delivered from now on.
  void GreetSender(uint64_t life) {
    end_.peer_life = life;
    end_.lines_received = 0;
    lines_received_ = 0;
    is_broken_ = false;
    ++receptions_;
    StoreEnd();
  }

  void StoreEnd() {
    region::StoreControlLine(own_, EndLine(*own_, other_), end_, region::kBusyLine,
                             region::Arrival::kFlushed);
  }

  // The tag last: a line that leaves this node with it has the rest.
  void StoreLine(uint64_t number, std::span<const uint64_t> payload) {
    uint64_t* line = RingLine(*own_, other_, number);
    for (size_t i = 0; i < payload.size(); ++i) {
      platform::SharedWord(line + 1 + i).StoreRelease(payload[i]);
    }
    platform::SharedWord(line).StoreRelease(
        format::RingTag(end_.life, receiver_life_, number));
  }

  void FlushLines(uint64_t first, uint64_t lines) {
    platform::CacheControl* cache = own_->control().cache();
    const uint64_t before_end = std::min(lines, kRingLines - (first - 1) % kRingLines);
    cache->Flush(RingLine(*own_, other_, first), before_end * format::kLineBytes);
    if (before_end < lines) {
      cache->Flush(RingLine(*own_, other_, first + before_end),
                   (lines - before_end) * format::kLineBytes);
    }
    cache->Fence();
  }

  // False if the line has not arrived.
  bool LoadLine(uint64_t number, format::LineWords* words) const {
    *words = region::LoadControlLine(*peer_, RingLine(*peer_, self_, number));
    return (*words)[0] == format::RingTag(end_.peer_life, end_.life, number);
  }

  region::Segment* own_;
  const region::Segment* peer_;
  const NodeId self_;
  const NodeId other_;
  RingEnd end_{};  ///< What we wrote last.
  // As a sender.
  uint64_t receiver_life_ = 0;  ///< That has acknowledged ours; 0 none.
  uint64_t lines_sent_ = 0;
  uint64_t lines_freed_ = 0;
  uint64_t sessions_ = 0;
  // As a receiver.
  uint64_t lines_received_ = 0;
  uint64_t receptions_ = 0;
  bool is_broken_ = false;
};

arrow::Result<std::unique_ptr<Channel>> Channel::Open(region::Segment* own,
                                                      const region::Segment* peer) {
  SHEAF_CHECK(own->id() != peer->id());
  const uint64_t offset =
      own->layout().rings + uint64_t{peer->id().value} * format::kRingBytes;
  ARROW_RETURN_NOT_OK(own->control().Allocate(offset, format::kRingBytes));
  auto impl = std::make_unique<Impl>(own, peer);
  ARROW_RETURN_NOT_OK(impl->Begin());
  return std::unique_ptr<Channel>(new Channel(std::move(impl)));
}

Channel::Channel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Channel::~Channel() = default;
uint64_t Channel::Poll() { return impl_->Poll(); }
bool Channel::Send(std::span<const uint8_t> frame, bool goes_on) {
  return impl_->Send(frame, goes_on);
}
arrow::Result<std::optional<Channel::Frame>> Channel::Receive() {
  return impl_->Receive();
}
void Channel::Refuse() { impl_->Refuse(); }
void Channel::Acknowledge() { impl_->Acknowledge(); }

}  // namespace sheaf::ring
