// Which nodes this home honours: the admit lines (docs/protocol.md L4, F1 to F8). The one
// place that decides it.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/scheduler.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief Writes admit[] of the own segment, and watches what the other homes write of
/// this node. Every node of the cluster file is admitted with the incarnation that it has
/// when it is seen up. One that is silent for long is withdrawn, for that incarnation for
/// ever; its cells keep counting (policy strict, F4). It comes back as the next
/// incarnation, by itself: a node that sees itself withdrawn begins one. Time is this
/// home's own, and only while it samples (F1). Single-threaded; all it is given outlives
/// it.
class Membership {
 public:
  /// \brief Begins the own node's next incarnation: lease cells flushed, the line settled
  /// (F6). Returns it, or 0 if it is too early. `off`: the highest that a home or a
  /// certificate says is off, 0 if none that a session is of: else the cells of all its
  /// sessions may have been ignored (F8), so they must end first, and the next is above
  /// it.
  using RejoinFn = std::function<uint64_t(uint64_t off)>;

  /// \brief Adopts the admit lines that are in memory. `incarnation` is the own node's.
  Membership(region::Region* region, Scheduler* clock, uint64_t incarnation,
             RejoinFn rejoin);

  /// \brief One round: attach segments that appeared, sample heartbeats that are due,
  /// withdraw, admit, rejoin. Called by a timer much more often than samples are due.
  void Update();

  /// \brief The incarnation of `node` that is honoured here; 0 none.
  uint64_t admitted(NodeId node) const { return peers_[node.value].admitted; }

  /// \brief True if `node` is not there for this home: withdrawn, off, or down. Not
  /// before it was found silent for long.
  bool IsGone(NodeId node) const;
  /// \brief True if `node`'s heart was not seen to beat for long, up to now. False as
  /// long as it was not looked at for that long (F1).
  bool IsSilent(NodeId node) const { return IsSilent(peers_[node.value]); }
  /// \brief True if this node is off in a life that sessions of it are of, and the next
  /// has not begun (RejoinFn).
  bool IsOff() const { return is_off_; }
  /// \brief What else to do once a node is certified off, and this is in memory (F8).
  void OnOff(std::function<void(NodeId)> action) { on_off_ = std::move(action); }

  using DoneFn = std::function<void(const arrow::Status&)>;
  /// \brief F8: an operator says that `node` is powered off, or cut from the memory, for
  /// good. Once D is over its cells and requests count no more, and `done` is called.
  /// Invalid if its heart beats, if it came back meanwhile, or if it is this node.
  /// Idempotent.
  void Forget(NodeId node, const DoneFn& done);
  /// \brief F8, as decided elsewhere: `incarnation` of `node` and all before are off.
  /// Does nothing if a later one is known here. This node itself does not go on in it:
  /// the next one begins.
  void ForgetIncarnation(NodeId node, uint64_t incarnation, const DoneFn& done);

 private:
  struct Peer {
    uint64_t admitted = 0;
    uint64_t beat = 0;  ///< The heartbeat word as last sampled.
    int silent_samples = 0;
    std::chrono::nanoseconds last_sample{0};
    std::chrono::nanoseconds last_change{0};
    bool is_seen = false;     ///< Was sampled at all.
    bool honours_us = false;  ///< Has admitted an incarnation of this node.
  };
  void DropLines(std::chrono::nanoseconds now) const;
  void UpdatePeer(NodeId node, std::chrono::nanoseconds now);
  bool IsDue(const Peer& peer, std::chrono::nanoseconds now) const;
  void Sample(NodeId node, std::chrono::nanoseconds now, uint64_t beat, Peer* peer);
  void Admit(NodeId node, uint64_t incarnation);
  void Withdraw(NodeId node, uint64_t incarnation, const char* why);
  void WithdrawIfSilent(NodeId node);
  bool IsWithdrawnAt(NodeId node, Peer* peer) const;
  uint64_t OwnLife(uint64_t incarnation) const;
  void Rejoin();
  bool IsSilent(const Peer& peer) const;
  arrow::Result<uint64_t> BeginForget(NodeId node);
  uint64_t BeginForgetUnseen(NodeId node);
  void CertifyOffLater(NodeId node, uint64_t incarnation, const DoneFn& done);
  arrow::Status CertifyOff(NodeId node, uint64_t incarnation);

  region::Region* region_;
  Scheduler* clock_;
  uint64_t incarnation_;
  /// The lowest that a session may be of: all began then, or since. Kept in the own admit
  /// line, since sessions outlive a daemon.
  uint64_t sessions_since_;
  bool is_off_ = false;
  uint64_t own_off_ = 0;  ///< Of this node, as certified elsewhere.
  RejoinFn rejoin_;
  std::function<void(NodeId)> on_off_;
  std::vector<Peer> peers_;  ///< By node.
  std::string last_problem_ = "OK";
};

}  // namespace sheaf::daemon
