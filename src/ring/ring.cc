#include "ring/ring.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/fault_point.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "format/message.h"
#include "format/ring.h"
#include "platform/cache.h"
#include "platform/shared_word.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::ring {
namespace {

using format::RingEnd;
using format::RingFrameHead;

constexpr uint64_t kRingLines = format::kRingBytes / format::kLineBytes;
/// Two frames fit, so that one is read while the next is written.
static_assert(2 * (Channel::kFrameBytesMax / format::kRingPayloadBytes + 2) < kRingLines);

uint64_t LinesOf(uint64_t frame_bytes) {
  return (sizeof(uint64_t) + frame_bytes + format::kRingPayloadBytes - 1) /
         format::kRingPayloadBytes;
}

/// A sender that waits has this much room again, at the latest, once we have read all.
constexpr uint64_t kAcknowledgedLines = kRingLines / 4;

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

  // Above the last one. Our own line knows it, also if a crash cut it short; if it is
  // damaged, what the peer acknowledged does, and without that nothing was sent.
  void Begin() {
    const format::LineWords words = platform::LoadLine(EndLine(*own_, other_));
    const auto theirs = LoadEnd(*peer_, self_);
    const uint64_t first = own_->header().format_epoch << format::kRingLifeShift;
    uint64_t last = theirs ? theirs->peer_life : first;
    if (format::OpenLine<RingEnd>(words) || words[0] == region::kBusyLine) {
      last = std::bit_cast<RingEnd>(words).life;
    }
    const bool is_ours = last >> format::kRingLifeShift == own_->header().format_epoch;
    end_.version = format::kMessageVersion;
    end_.cluster_id = own_->header().cluster_id;
    end_.life = (is_ours ? last : first) + 1;
    StoreEnd();
    has_written_ = true;
  }

  uint64_t Poll() {
    const auto theirs = LoadEnd(*peer_, self_);
    if (!theirs || theirs->life == 0) return sessions_;  // Busy: look again later.
    peer_status_ = CheckPeer(*theirs);
    if (!peer_status_.ok()) {
      receiver_life_ = 0;
      return sessions_;
    }
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
    std::vector<uint64_t> words(lines * format::kRingPayloadWords);
    words[0] = std::bit_cast<uint64_t>(RingFrameHead{
        static_cast<uint16_t>(frame.size()), goes_on ? uint16_t{1} : uint16_t{0},
        static_cast<uint32_t>(format::Checksum(frame))});
    if (!frame.empty()) std::memcpy(words.data() + 1, frame.data(), frame.size());
    PassFaultPoint("daemon.ring.before-frame");
    const uint64_t first = lines_sent_ + 1;
    for (uint64_t i = 0; i < lines; ++i) {
      StoreLine(first + i, {words.data() + i * format::kRingPayloadWords,
                            format::kRingPayloadWords});
    }
    PassFaultPoint("daemon.ring.after-lines");
    FlushLines(first, lines);
    PassFaultPoint("daemon.ring.after-frame");
    lines_sent_ += lines;
    has_written_ = true;
    return true;
  }

  arrow::Result<std::optional<Frame>> Receive() {
    if (receiver_life_ == 0 || is_broken_) return std::nullopt;
    const uint64_t first = lines_received_ + 1;
    InvalidateLines(first, 1);
    format::LineWords words;
    if (!LoadLine(first, &words)) return std::nullopt;
    const auto head = std::bit_cast<RingFrameHead>(words[1]);
    const uint64_t size = head.size_bytes;
    if (size > kFrameBytesMax || head.goes_on > 1) {
      is_broken_ = true;
      return arrow::Status::Invalid("node ", other_.value, " sent a frame of ", size,
                                    " bytes through its ring, at most ", kFrameBytesMax,
                                    " are possible");
    }
    const uint64_t lines = LinesOf(size);
    if (lines > 1) InvalidateLines(first + 1, lines - 1);
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
    frame.goes_on = head.goes_on == 1;
    frame.session = sessions_;
    if (static_cast<uint32_t>(format::Checksum(frame.bytes)) == head.checksum)
      return frame;
    is_broken_ = true;
    return arrow::Status::Invalid("node ", other_.value, " sent a frame of ", size,
                                  " bytes through its ring with a wrong checksum");
  }

  void Refuse() { is_broken_ = true; }
  void SetAwake(bool is_awake) {
    if ((end_.is_awake == 1) == is_awake) return;
    end_.is_awake = is_awake ? 1 : 0;
    StoreEnd();
  }
  bool IsPeerAwake() const {
    const auto theirs = LoadEnd(*peer_, self_);
    return theirs && theirs->is_awake == 1 && theirs->life == receiver_life_;
  }
  bool TakeHasWritten() { return std::exchange(has_written_, false); }
  const arrow::Status& peer_status() const { return peer_status_; }

  void Acknowledge() {
    if (lines_received_ - end_.lines_received < kAcknowledgedLines) return;
    end_.lines_received = lines_received_;
    PassFaultPoint("daemon.ring.before-position");
    StoreEnd();
    PassFaultPoint("daemon.ring.after-position");
    has_written_ = true;
  }

 private:
  static std::optional<RingEnd> LoadEnd(const region::Segment& of, NodeId peer) {
    return format::OpenLine<RingEnd>(region::LoadControlLine(of, EndLine(of, peer)));
  }

  arrow::Status CheckPeer(const RingEnd& end) const {
    if (end.version != end_.version) {
      return arrow::Status::Invalid("node ", other_.value, " speaks version ",
                                    end.version, " of the messages, this node ",
                                    end_.version,
                                    ": use programs of one version of Sheaf");
    }
    if (end.cluster_id != end_.cluster_id) {
      return arrow::Status::Invalid("node ", other_.value, " belongs to another cluster");
    }
    const uint64_t epoch = end.life >> format::kRingLifeShift;
    if (epoch != peer_->header().format_epoch) {
      return arrow::Status::Invalid(
          "node ", other_.value, " speaks of memory with format epoch ", epoch,
          ", mapped here is its memory with ", peer_->header().format_epoch,
          ": if that stays so, start the daemon of this node again");
    }
    return arrow::Status::OK();
  }

  // M2: nothing that an earlier life sent is delivered from now on.
  void GreetSender(uint64_t life) {
    end_.peer_life = life;
    end_.lines_received = 0;
    lines_received_ = 0;
    is_broken_ = false;
    PassFaultPoint("daemon.ring.before-greeting");
    StoreEnd();
    PassFaultPoint("daemon.ring.after-greeting");
    has_written_ = true;
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

  // Lines of a ring are one piece, or two.
  template <typename OperationFn>
  static void ForLines(const region::Segment& of, NodeId to, uint64_t first,
                       uint64_t lines, OperationFn operation) {
    const uint64_t before_end = std::min(lines, kRingLines - (first - 1) % kRingLines);
    operation(RingLine(of, to, first), before_end * format::kLineBytes);
    if (before_end == lines) return;
    operation(RingLine(of, to, first + before_end),
              (lines - before_end) * format::kLineBytes);
  }

  void FlushLines(uint64_t first, uint64_t lines) {
    platform::CacheControl* cache = own_->control().cache();
    ForLines(*own_, other_, first, lines,
             [&](const uint64_t* line, uint64_t size) { cache->Flush(line, size); });
    cache->Fence();
  }

  void InvalidateLines(uint64_t first, uint64_t lines) const {
    platform::CacheControl* cache = peer_->control().cache();
    ForLines(*peer_, self_, first, lines,
             [&](const uint64_t* line, uint64_t size) { cache->Invalidate(line, size); });
  }

  // Of a line that was invalidated: false if it has not arrived.
  bool LoadLine(uint64_t number, format::LineWords* words) const {
    *words = platform::LoadLine(RingLine(*peer_, self_, number));
    return (*words)[0] == format::RingTag(end_.peer_life, end_.life, number);
  }

  region::Segment* own_;
  const region::Segment* peer_;
  const NodeId self_;
  const NodeId other_;
  RingEnd end_{};  ///< What we wrote last.
  /// That has acknowledged our life, and we its; 0 none.
  uint64_t receiver_life_ = 0;
  // As a sender.
  uint64_t lines_sent_ = 0;
  uint64_t lines_freed_ = 0;
  uint64_t sessions_ = 0;
  // As a receiver.
  uint64_t lines_received_ = 0;
  bool is_broken_ = false;

  bool has_written_ = false;
  arrow::Status peer_status_;
};

arrow::Result<std::unique_ptr<Channel>> Channel::Open(region::Segment* own,
                                                      const region::Segment* peer) {
  SHEAF_CHECK(own->id() != peer->id());
  const uint64_t offset =
      own->layout().rings + uint64_t{peer->id().value} * format::kRingBytes;
  ARROW_RETURN_NOT_OK(own->control().Allocate(offset, format::kRingBytes));
  PassFaultPoint("daemon.ring.before-life");
  auto impl = std::make_unique<Impl>(own, peer);
  impl->Begin();
  PassFaultPoint("daemon.ring.after-life");
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
void Channel::SetAwake(bool is_awake) { impl_->SetAwake(is_awake); }
bool Channel::IsPeerAwake() const { return impl_->IsPeerAwake(); }
bool Channel::TakeHasWritten() { return impl_->TakeHasWritten(); }
const arrow::Status& Channel::peer_status() const { return impl_->peer_status(); }

bool IsOpenedBy(const region::Segment& peer, NodeId own) {
  const auto words = region::LoadControlLine(peer, EndLine(peer, own));
  const auto end = format::OpenLine<RingEnd>(words);
  return end && end->life != 0;
}

std::vector<NodeId> DamagedEnds(const region::Segment& own) {
  std::vector<NodeId> damaged;
  for (uint32_t k = 0; k < own.header().nodes_max; ++k) {
    const format::LineWords words = region::LoadControlLine(own, EndLine(own, {k}));
    const auto end = format::OpenLine<RingEnd>(words);
    const bool is_used = !end || end->version != 0;
    const bool is_good = end && end->cluster_id == own.header().cluster_id &&
                         end->life >> format::kRingLifeShift == own.header().format_epoch;
    // Busy: cut short, which is no damage.
    if (is_used && !is_good && words[0] != region::kBusyLine) damaged.push_back({k});
  }
  return damaged;
}

void ClearEnds(region::Segment* own, const std::vector<NodeId>& peers) {
  for (const NodeId peer : peers) {
    region::StoreControlLine(own, EndLine(*own, peer), RingEnd{}, region::kBusyLine,
                             region::Arrival::kSettled);
  }
}

}  // namespace sheaf::ring
