// The way of a simulated node's lines to the truth. The only code that stores there.

#pragma once

#include <cstdint>

#include "region/sim_state.h"

namespace sheaf::region {

/// \brief A view of one node's lines under way; its state lies in the SimNode, so all
/// processes of all nodes share it. The caller holds the part's lock.
///
/// Every write-back goes through it, posted or not: an entry is complete before it exists
/// and lasts until it has arrived, so a process that dies half-way leaves no torn line in
/// the truth once the next holder of the lock lets everything arrive.
class SimPosted {
 public:
  /// `capacity` (1 .. kSimPostedMax) is the same in all processes.
  SimPosted(SimNode* node, uint8_t* truth, uint64_t line_bytes, uint64_t capacity)
      : node_(node), truth_(truth), line_bytes_(line_bytes), capacity_(capacity) {}

  /// \brief The line leaves the node. When there is no room the oldest arrives early.
  void Post(uint64_t line, const SimLine& words, uint64_t now_ns);

  /// True if nothing is under way. Needs no lock: it may be old news at once.
  bool LooksEmpty() const;

  /// True if the node's last value of `line` is still under way.
  bool Holds(uint64_t line) const;

  void ArriveUntil(uint64_t posted_ns);  ///< All that were posted by then.
  void ArriveAll();
  /// \brief Some line, picked by `random`, arrives before older ones of other lines:
  /// there is no order between lines, only within one (docs/protocol.md HW4).
  void ArriveAny(uint64_t random);

 private:
  SimPostedLine& Entry(uint64_t index) const { return node_->posted[index % capacity_]; }
  void Arrive(SimPostedLine* entry);
  void PopOldest();

  SimNode* node_;
  uint8_t* truth_;
  uint64_t line_bytes_;
  uint64_t capacity_;
};

}  // namespace sheaf::region
