#include "daemon/membership.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_point.h"
#include "base/plant.h"
#include "daemon/log.h"
#include "daemon/scheduler.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "platform/shared_word.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/line_batch.h"
#include "region/region.h"
#include "region/served_check.h"
#include "region/which_node.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

nanoseconds SamplePeriod(const region::ClusterConfig& config) {
  return milliseconds(config.suspect_after_ms) / config.suspect_samples;
}

/// In the header, whose line was dropped: a window may be formatted anew where it lies.
uint64_t DroppedEpoch(const region::Segment& segment) {
  constexpr size_t kEpochWord = offsetof(format::SegmentHeader, format_epoch) / 8;
  const auto* header = reinterpret_cast<const uint64_t*>(segment.control().data());
  return platform::SharedWord(header + kEpochWord).LoadAcquire();
}

/// Only then do its lines lie where this home looks for them. The header's was dropped.
bool IsAsMapped(const region::Segment& segment) {
  return DroppedEpoch(segment) == segment.header().format_epoch ||
         region::IsLaidOutAsMapped(segment);
}

/// F9. Any other is garbage: as the one that this home refuses up to, it would outlive
/// each formatting. The header's line was dropped.
bool IsOfItsFormatting(const region::Segment& segment, uint64_t incarnation) {
  return format::FormatEpochOf(incarnation) == DroppedEpoch(segment);
}

/// The node's incarnation line, of a segment that is laid out as it was mapped. Both
/// lines were dropped.
std::optional<format::IncarnationLine> DroppedIncarnation(
    const region::Segment& segment) {
  const auto line = format::OpenLine<format::IncarnationLine>(
      platform::LoadLine(segment.NodeLine(format::NodeLine::kIncarnation)));
  const bool can_be =
      line && region::IsPlausible(segment, *line) &&
      (line->incarnation == 0 || IsOfItsFormatting(segment, line->incarnation));
  return can_be ? line : std::nullopt;
}

// For a node that died in the middle of its incarnation line: one that it cannot have had
// (NodeLines), nor has when it comes back, so that it finds itself off.
uint64_t BeyondItsLast(const region::Segment& segment, uint64_t known) {
  const uint64_t last =
      region::LoadAdmitLine(segment, NodeId{segment.id().value}).incarnation;
  return IsOfItsFormatting(segment, last) ? std::max(known, last + 1) : known + 1;
}

// For one whose memory cannot be read: what it may have begun since this home saw it
// last.
constexpr uint64_t kUnseenIncarnationsMax = uint64_t{1} << 24;

// No home is that far ahead of a node, however often it was told to forget it.
constexpr uint64_t kIncarnationsAheadMax = 64 * kUnseenIncarnationsMax;

}  // namespace

Membership::Membership(region::Region* region, Scheduler* clock, uint64_t incarnation,
                       RejoinFn rejoin)
    : region_(region),
      clock_(clock),
      incarnation_(incarnation),
      sessions_since_(region::LoadSessionsSince(region->own_segment(), incarnation)),
      rejoin_(std::move(rejoin)),
      peers_(region->config().nodes) {
  // R1: what was withdrawn stays so.
  for (uint32_t k = 0; k < peers_.size(); ++k) {
    peers_[k].admitted = region::LoadAdmitLine(region->own_segment(), {k}).incarnation;
    if (peers_[k].admitted == 0) Withdraw({k}, 0, nullptr);
  }
}

void Membership::Update() {
  if (region_->AttachAnew()) {
    Log(LogLevel::kInfo,
        "memory of another node was formatted anew, and is mapped again");
  }
  const std::string problem = region_->AttachMissing().ToString();
  if (problem != last_problem_)
    Log(LogLevel::kInfo, "segments of other nodes: ", problem);
  last_problem_ = problem;
  // Before any line is read: a heart that did not beat until then was silent until then.
  const nanoseconds now = clock_->Now();
  DropLines(now);
  bool is_withdrawn = own_off_ >= sessions_since_;
  for (uint32_t k = 0; k < peers_.size(); ++k) {
    if (region_->segment({k}) == nullptr) continue;
    UpdatePeer({k}, now);
    is_withdrawn |= IsWithdrawnAt({k}, &peers_[k]);
  }
  is_off_ = false;
  if (is_withdrawn) Rejoin();
}

// What is read of each node, so that the loads need not wait for one another.
void Membership::DropLines(nanoseconds now) const {
  region::LineBatch lines;
  for (uint32_t k = 0; k < peers_.size(); ++k) {
    const region::Segment* segment = region_->segment({k});
    if (segment == nullptr || NodeId{k} == region_->node()) continue;
    const region::Part& control = segment->control();
    const auto drop = [&](const void* line) {
      lines.Drop(control, line, format::kLineBytes);
    };
    drop(control.data());
    drop(segment->NodeLine(format::NodeLine::kIncarnation));
    if (IsDue(peers_[k], now)) drop(segment->NodeLine(format::NodeLine::kHeartbeat));
    drop(region::AdmitWordOf(*segment, region_->node(), region::AdmitWord::kIncarnation));
  }
  lines.Fence();
}

void Membership::Rejoin() {
  uint64_t off = own_off_;
  for (uint32_t k = 0; k < peers_.size(); ++k) {
    const region::Segment* segment = region_->segment({k});
    if (segment == nullptr) continue;
    off = std::max(off, OwnLife(region::LoadAdmitLine(*segment, region_->node()).off));
  }
  is_off_ = off >= sessions_since_;
  const uint64_t next = rejoin_(is_off_ ? off : 0);
  if (next == 0) return;
  Log(LogLevel::kWarning, is_off_ ? "off" : "withdrawn",
      " for another home as incarnation ", incarnation_, ", back as ", next);
  incarnation_ = next;
  if (std::exchange(is_off_, false)) sessions_since_ = next;
  peers_[region_->node().value].admitted = next;
  for (Peer& peer : peers_) peer.honours_us = false;
}

void Membership::UpdatePeer(NodeId node, nanoseconds now) {
  if (node == region_->node()) return;  // NodeLines admits it
  Peer& peer = peers_[node.value];
  const region::Segment& segment = *region_->segment({node.value});
  const bool is_as_mapped = IsAsMapped(segment);
  const auto line = is_as_mapped ? DroppedIncarnation(segment) : std::nullopt;
  // Nothing of one that stopped in the middle of its line, or was never up.
  const uint64_t incarnation = line ? line->incarnation : 0;
  if (incarnation == 0 && peer.admitted == 0 && !peer.is_seen) return;
  if (IsDue(peer, now)) {
    // Laid out otherwise, other bytes lie there, and change: its heart does not beat.
    const uint64_t* word = segment.NodeLine(format::NodeLine::kHeartbeat);
    Sample(node, now, is_as_mapped ? platform::SharedWord(word).LoadAcquire() : peer.beat,
           &peer);
  }
  if (incarnation == 0 || incarnation == peer.admitted) return WithdrawIfSilent(node);
  // Never undone for an incarnation (F2): only the next one is admitted.
  const region::AdmitLine own = region::LoadAdmitLine(region_->own_segment(), node);
  if (incarnation > own.refused()) Admit(node, incarnation);
}

bool Membership::IsDue(const Peer& peer, nanoseconds now) const {
  return !peer.is_seen || now - peer.last_sample >= SamplePeriod(region_->config());
}

// F1: a gap in our own sampling restarts the count: it was we who were away.
void Membership::Sample(NodeId node, nanoseconds now, uint64_t beat, Peer* peer) {
  const nanoseconds period = SamplePeriod(region_->config());
  const bool was_away = !peer->is_seen || now - peer->last_sample > 2 * period;
  if (was_away || beat != peer->beat) {
    peer->silent_samples = 0;
    peer->last_change = now;
  } else {
    ++peer->silent_samples;
  }
  peer->is_seen = true;
  peer->beat = beat;
  peer->last_sample = now;
  region::StoreHeartbeatAge(
      &region_->own_segment(), node,
      static_cast<uint64_t>(
          std::chrono::duration_cast<milliseconds>(now - peer->last_change).count()));
}

void Membership::WithdrawIfSilent(NodeId node) {
  const Peer& peer = peers_[node.value];
  if (peer.admitted == 0 || !IsSilent(peer)) return;
  Withdraw(node, peer.admitted, "its heart does not beat");
}

bool Membership::IsSilent(const Peer& peer) const {
  const region::ClusterConfig& config = region_->config();
  return peer.silent_samples >= config.suspect_samples &&
         clock_->Now() - peer.last_change >= milliseconds(config.suspect_after_ms);
}

void Membership::Admit(NodeId node, uint64_t incarnation) {
  Peer& peer = peers_[node.value];
  peer.silent_samples = 0;
  peer.last_change = clock_->Now();
  region::StoreHeartbeatAge(&region_->own_segment(), node, 0);  // that of the life before
  PassFaultPoint("daemon.admit.before-word");
  region::StoreAdmitted(&region_->own_segment(), node, incarnation);
  PassFaultPoint("daemon.admit.after-word");
  peer.admitted = incarnation;
  Log(LogLevel::kInfo, "node ", node.value, " admitted with incarnation ", incarnation);
}

void Membership::Withdraw(NodeId node, uint64_t incarnation, const char* why) {
  PassFaultPoint("daemon.withdraw.before-words");
  region::StoreWithdrawn(&region_->own_segment(), node, incarnation);
  PassFaultPoint("daemon.withdraw.after-words");
  if (why != nullptr) {
    Log(LogLevel::kWarning, "node ", node.value, " withdrawn, incarnation ", incarnation,
        ": ", why);
  }
  peers_[node.value].admitted = 0;
  if (Planted("no-quarantine") && on_off_) on_off_(node);
}

// What another home, or a certificate, says of this node; 0 if that is garbage: of
// another formatting, or of a life that cannot be.
uint64_t Membership::OwnLife(uint64_t incarnation) const {
  const bool can_be =
      format::FormatEpochOf(incarnation) == format::FormatEpochOf(incarnation_) &&
      incarnation < incarnation_ + kIncarnationsAheadMax;
  return can_be ? incarnation : 0;
}

// By a home that had admitted this incarnation: another one has not seen us yet. Sessions
// of one that is off there must end, also if the next has begun since.
bool Membership::IsWithdrawnAt(NodeId node, Peer* peer) const {
  if (node == region_->node()) return false;
  const region::Segment& segment = *region_->segment({node.value});
  const region::AdmitLine line = region::DroppedAdmitLine(segment, region_->node());
  if (line.incarnation == incarnation_) peer->honours_us = true;
  return OwnLife(line.withdrawn) >= incarnation_ ||
         OwnLife(line.off) >= sessions_since_ ||
         (peer->honours_us && line.incarnation != incarnation_);
}

bool Membership::IsGone(NodeId node) const {
  const region::Segment* segment = region_->segment({node.value});
  if (node == region_->node() || segment == nullptr) return false;
  const auto line = region::PeekIncarnation(*segment);
  if (line && line->state == static_cast<uint32_t>(format::NodeState::kDown)) return true;
  if (peers_[node.value].admitted != 0) return false;
  const uint64_t refused = region::LoadAdmitLine(region_->own_segment(), node).refused();
  return refused != 0 && (!line || line->incarnation <= refused);
}

void Membership::Forget(NodeId node, const DoneFn& done) {
  const arrow::Result<uint64_t> incarnation = BeginForget(node);
  if (!incarnation.ok() || *incarnation == 0) return done(incarnation.status());
  CertifyOffLater(node, *incarnation, done);
}

void Membership::ForgetIncarnation(NodeId node, uint64_t incarnation,
                                   const DoneFn& done) {
  if (node == region_->node()) {
    own_off_ = std::max(own_off_, OwnLife(incarnation));
    return done(arrow::Status::OK());
  }
  const Peer& peer = peers_[node.value];
  const region::AdmitLine own = region::LoadAdmitLine(region_->own_segment(), node);
  const bool has_later = peer.admitted > incarnation || own.withdrawn > incarnation;
  if (has_later || own.off >= incarnation) return done(arrow::Status::OK());
  if (peer.admitted != 0 || incarnation > own.refused()) {
    Withdraw(node, incarnation, "it is certified off");
  }
  CertifyOffLater(node, incarnation, done);
}

// F8: what it posted before it went off arrives within D.
void Membership::CertifyOffLater(NodeId node, uint64_t incarnation, const DoneFn& done) {
  clock_->After(std::chrono::microseconds(region_->config().posted_delay_us),
                [this, node, incarnation, done] { done(CertifyOff(node, incarnation)); });
}

// Which incarnation is off; 0 if the node never had one.
arrow::Result<uint64_t> Membership::BeginForget(NodeId node) {
  ARROW_RETURN_NOT_OK(region::CheckIsNode(region_->config(), node, "the cluster"));
  if (node == region_->node()) {
    return arrow::Status::Invalid("node ", node.value,
                                  " is asked to forget itself: ask another node");
  }
  Peer& peer = peers_[node.value];
  const region::Segment* segment = region_->segment({node.value});
  if (segment == nullptr) return BeginForgetUnseen(node);
  const auto line = region::ReadIncarnation(*segment);
  const bool is_down =
      line.ok() && line->state == static_cast<uint32_t>(format::NodeState::kDown);
  if (peer.admitted != 0 && !is_down) {
    return arrow::Status::Invalid(
        "node ", node.value, " is alive for node ", region_->node().value,
        ": wait until `sheaf nodes` shows it as withdrawn, or end its clients "
        "and its daemon");
  }
  // Also one that was never admitted here: it must not be from now on.
  const region::AdmitLine own = region::LoadAdmitLine(region_->own_segment(), node);
  segment->control().cache()->Invalidate(segment->control().data(), format::kLineBytes);
  const bool is_whole = line.ok() && line->incarnation != 0 &&
                        IsOfItsFormatting(*segment, line->incarnation);
  const bool was_never_up =
      line.ok() && line->incarnation == 0 && peer.admitted == 0 && own.refused() == 0;
  if (was_never_up) return 0;
  // Never below what was withdrawn: it would count again.
  const uint64_t known = std::max(peer.admitted, own.refused());
  const uint64_t incarnation = is_whole ? std::max(line->incarnation, own.refused())
                                        : BeyondItsLast(*segment, known);
  if (peer.admitted != 0 || incarnation > own.refused()) {
    Withdraw(node, incarnation, "it is forgotten");
  }
  return incarnation;
}

// It holds nothing here if this home never admitted it. If it did, as X, it had grants
// and leases here as X at most; sessions may have gone on since, so that what it is when
// its memory is back must find itself off.
uint64_t Membership::BeginForgetUnseen(NodeId node) {
  const region::AdmitLine own = region::LoadAdmitLine(region_->own_segment(), node);
  const uint64_t last = std::max(own.incarnation, own.refused());
  if (last == 0 && region_->AttachMissing().ok()) return 0;  // nor is it there
  const uint64_t incarnation = own.is_off() ? own.off
                               : last == 0  ? 1
                                            : last + kUnseenIncarnationsMax;
  Withdraw(node, incarnation, "it is forgotten, and its memory cannot be read");
  return incarnation;
}

arrow::Status Membership::CertifyOff(NodeId node, uint64_t incarnation) {
  if (peers_[node.value].admitted > incarnation) {
    return arrow::Status::Invalid("node ", node.value, " came back meanwhile");
  }
  PassFaultPoint("daemon.certify.before-word");
  region::StoreCertifiedOff(&region_->own_segment(), node, incarnation);
  PassFaultPoint("daemon.certify.after-word");
  Log(LogLevel::kWarning, "node ", node.value, " counts as off, incarnation ",
      incarnation, " and before");
  if (on_off_) on_off_(node);
  return arrow::Status::OK();
}

}  // namespace sheaf::daemon
