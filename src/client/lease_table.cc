#include "client/lease_table.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_point.h"
#include "base/plant.h"
#include "client/session.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "lease/lease.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

arrow::Status Stale(const ObjectId& object) {
  return MakeStatus(
      arrow::StatusCode::KeyError, ErrorReason::kStaleGeneration,
      "object " + std::to_string(object.segment.value) + ":" +
          std::to_string(object.slot) + " generation " +
          std::to_string(object.generation) +
          " is gone: it was removed, replaced, or its creating session ended");
}

bool Names(const format::Slot& slot, const ObjectId& object) {
  return slot.generation == object.generation && directory::IsReadable(slot);
}

}  // namespace

ObjectLease::ObjectLease(std::shared_ptr<Session> session, const ObjectId& object,
                         lease::Cell cell, const format::Slot& slot)
    : session_(std::move(session)), object_(object), cell_(cell), slot_(slot) {}

ObjectLease::~ObjectLease() {
  if (!owner_.IsThisOne()) return;  // a forked child's copy: the cell is the parent's
  session_->leases().Forget(*this);
  // A forked child may read on: then the cell goes with the session (D1).
  if (owner_.HasForked()) return;
  PassFaultPoint("client.lease.before-clear");
  session_->cells().Clear(cell_);
  PassFaultPoint("client.lease.after-clear");
}

namespace {

// O1, O2: write the cell, then read the slot; only that read decides. A caller that
// brings a generation needs no first look.
template <typename IsAcceptable>
arrow::Result<std::shared_ptr<ObjectLease>> WriteAndCheck(
    const std::shared_ptr<Session>& session, const ObjectId& object,
    IsAcceptable is_acceptable) {
  const region::Segment* segment = session->region().segment(object.segment);
  if (segment == nullptr) {  // its node may have come up since
    const arrow::Status attached = session->AttachMissing();
    segment = session->region().segment(object.segment);
    if (segment == nullptr) ARROW_RETURN_NOT_OK(attached);
  }
  if (segment == nullptr || object.slot >= segment->header().slots_max) {
    return Stale(object);
  }
  if (format::FormatEpochOf(object.generation) != segment->header().format_epoch) {
    ARROW_RETURN_NOT_OK(session->CheckMapped(*segment));
  }
  PassFaultPoint("client.lease.before-cell");
  ARROW_ASSIGN_OR_RAISE(lease::Cell cell, session->cells().Write(object));
  PassFaultPoint("client.lease.after-cell");
  if (!session->IsHonouredBy(*segment)) {  // F7
    PassFaultPoint("client.lease.before-undo");
    session->cells().Clear(cell);
    PassFaultPoint("client.lease.after-undo");
    ARROW_RETURN_NOT_OK(session->CheckMapped(*segment));
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                      "node " + std::to_string(object.segment.value) +
                          " does not honour node " +
                          std::to_string(session->region().node().value) +
                          ", which was silent or has just come up: try again; `sheaf "
                          "nodes` shows both");
  }
  // After that: until the home honours this node its scans may leave the cell out.
  const auto slot = directory::ReadSlot(*segment, object.slot);
  if (slot.ok() && is_acceptable(*slot)) {
    PassFaultPoint("client.lease.after-check");
    return std::make_shared<ObjectLease>(session, object, cell, *slot);
  }
  PassFaultPoint("client.lease.before-undo");
  session->cells().Clear(cell);
  PassFaultPoint("client.lease.after-undo");
  if (!slot.ok() && !IsStaleGeneration(slot.status())) return slot.status();
  return Stale(object);
}

}  // namespace

arrow::Result<std::shared_ptr<ObjectLease>> LeaseTable::Take(
    const std::shared_ptr<Session>& session, const ObjectId& object) {
  const auto is_readable = [&](const format::Slot& slot) {
    return Names(slot, object) || Planted("no-lease-recheck");
  };
  if (auto held = FindHeld(opened_, object)) {
    // Gone for others, gone here.
    const region::Segment& home = *session->region().segment(object.segment);
    ARROW_ASSIGN_OR_RAISE(const format::Slot slot,
                          directory::ReadSlot(home, object.slot));
    if (!is_readable(slot)) return Stale(object);
    return held;
  }
  ARROW_ASSIGN_OR_RAISE(auto lease, WriteAndCheck(session, object, is_readable));
  return Keep(&opened_, std::move(lease));
}

arrow::Result<std::shared_ptr<ObjectLease>> LeaseTable::TakeReference(
    const std::shared_ptr<Session>& session, const ObjectId& object) {
  if (auto held = FindHeld(referred_, object)) return held;
  ARROW_ASSIGN_OR_RAISE(
      auto lease, WriteAndCheck(session, object, [&](const format::Slot& slot) {
        return slot.generation == object.generation &&
               (directory::IsReadable(slot) ||
                slot.state == static_cast<uint8_t>(format::LineState::kRetired));
      }));
  // The grace of a retired object may be over: the cell must be in memory before the
  // lease that keeps the object now can end.
  PassFaultPoint("client.reference.before-settle");
  session->cells().Settle(lease->cell_);
  PassFaultPoint("client.reference.after-settle");
  return Keep(&referred_, std::move(lease));
}

std::shared_ptr<ObjectLease> LeaseTable::FindHeld(const ByObject& leases,
                                                  const ObjectId& object) const {
  std::lock_guard lock(mutex_);
  const auto found = leases.find(object);
  return found == leases.end() ? nullptr : found->second.lock();
}

std::shared_ptr<ObjectLease> LeaseTable::Keep(ByObject* leases,
                                              std::shared_ptr<ObjectLease> lease) {
  std::lock_guard lock(mutex_);
  (*leases)[lease->object()] = lease;
  return lease;
}

void LeaseTable::Register(const std::shared_ptr<ObjectLease>& lease,
                          std::vector<GlobalRange> ranges) {
  std::lock_guard lock(mutex_);
  if (!lease->ranges_.empty()) return;
  lease->ranges_ = std::move(ranges);
  for (const GlobalRange& range : lease->ranges_) {
    by_begin_.emplace(range.begin, std::pair(range, std::weak_ptr(lease)));
    longest_range_bytes_ = std::max(longest_range_bytes_, range.size_bytes);
  }
}

std::shared_ptr<ObjectLease> LeaseTable::FindCovering(const GlobalRange& range) const {
  std::lock_guard lock(mutex_);
  for (auto it = by_begin_.upper_bound(range.begin); it != by_begin_.begin();) {
    --it;
    const auto& [candidate, lease] = it->second;
    if (candidate.begin.segment != range.begin.segment ||
        candidate.begin.offset + longest_range_bytes_ < range.end_offset()) {
      break;
    }
    if (candidate.end_offset() >= range.end_offset()) {
      if (auto live = lease.lock()) return live;
    }
  }
  return nullptr;
}

void LeaseTable::Forget(const ObjectLease& lease) {
  std::lock_guard lock(mutex_);
  for (ByObject* leases : {&opened_, &referred_}) {
    if (auto found = leases->find(lease.object_);
        found != leases->end() && found->second.expired()) {
      leases->erase(found);
    }
  }
  for (const GlobalRange& range : lease.ranges_) {
    auto [it, end] = by_begin_.equal_range(range.begin);
    it = std::find_if(it, end, [&](const auto& entry) {
      return entry.second.first == range && entry.second.second.expired();
    });
    if (it != end) by_begin_.erase(it);
  }
}

}  // namespace sheaf::client
