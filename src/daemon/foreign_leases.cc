#include "daemon/foreign_leases.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/fault_point.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "lease/lease.h"
#include "region/admit_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

arrow::Status StaleObject(const ObjectId& object, const char* why) {
  return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kStaleGeneration,
                    "object " + std::to_string(object.segment.value) + ":" +
                        std::to_string(object.slot) + " generation " +
                        std::to_string(object.generation) + " " + why);
}

ForeignLeases::ForeignLeases(const region::Region* region, lease::PageTable* pages,
                             uint64_t home_session,
                             const std::vector<uint32_t>& former_pages)
    : region_(region), cells_(&region->own_segment(), {}, [pages, home_session] {
        return pages->Activate(home_session);
      }) {
  for (const auto& [lease, cell] : cells_.AdoptPages(former_pages)) {
    former_.emplace(lease, cell);
  }
}

arrow::Result<std::shared_ptr<const directory::Record>> ForeignLeases::Acquire(
    const ObjectId& object) {
  const region::Segment* segment = region_->segment(object.segment);
  if (segment == nullptr || object.slot >= segment->header().slots_max) {
    return StaleObject(object, "does not exist");
  }
  auto found = leases_.find(object);
  if (found == leases_.end()) {
    Lease lease;
    lease.number = ++last_number_;
    PassFaultPoint("daemon.foreign-lease.before-cell");
    ARROW_ASSIGN_OR_RAISE(lease.cell, cells_.Write(object));
    PassFaultPoint("daemon.foreign-lease.after-cell");
    found = leases_.emplace(object, std::move(lease)).first;
  }
  if (const arrow::Status status = Check(object, &found->second); !status.ok()) {
    if (!doubtful_.contains(object)) ClearIfUnused(found);
    return status;
  }
  ++found->second.references;
  return found->second.record;
}

// The second read of the slot, after the cell was written: only what it says counts (O2).
arrow::Status ForeignLeases::Check(const ObjectId& object, Lease* lease) {
  const region::Segment& segment = *region_->segment(object.segment);
  if (!region::IsHonoured(segment, region_->own_segment())) {  // F7
    return StaleObject(object, "is of a home that does not honour this node now");
  }
  ARROW_ASSIGN_OR_RAISE(const format::Slot slot,
                        directory::ReadSlot(segment, object.slot));
  // A cell that was there before the object was Retired keeps it. A new one may come too
  // late: a scan that is under way can miss it and then, elsewhere, the publisher's cell.
  const bool is_retired = slot.generation == object.generation &&
                          slot.state == static_cast<uint8_t>(format::LineState::kRetired);
  if (is_retired && !lease->is_sure) {
    doubtful_.insert(object);
    return StaleObject(object, "was removed, and may be freed");
  }
  if (slot.generation != object.generation ||
      !(directory::IsReadable(slot) || is_retired)) {
    return StaleObject(object, "is gone or not published");
  }
  lease->is_sure = true;
  if (lease->record != nullptr) return arrow::Status::OK();
  ARROW_ASSIGN_OR_RAISE(directory::Record record, directory::ReadRecord(segment, slot));
  lease->record = std::make_shared<const directory::Record>(std::move(record));
  return arrow::Status::OK();
}

ForeignLeases::Held ForeignLeases::Hold(LeaseMap::value_type* lease, bool is_doubtful) {
  ++lease->second.waiting;
  return {lease->first, lease->second.number, is_doubtful};
}

std::vector<ForeignLeases::Held> ForeignLeases::TakeHeld() {
  std::vector<Held> held;
  for (const ObjectId& object : doubtful_) {
    const auto found = leases_.find(object);
    if (found == leases_.end()) continue;
    cells_.Settle(found->second.cell);
    held.push_back(Hold(&*found, /*is_doubtful=*/true));
  }
  for (const ObjectId& object : left_) {
    const auto found = leases_.find(object);
    if (found == leases_.end() || doubtful_.contains(object)) continue;
    held.push_back(Hold(&*found, /*is_doubtful=*/false));
  }
  doubtful_.clear();
  left_.clear();
  return held;
}

void ForeignLeases::Trust(const Held& held) {
  const auto found = leases_.find(held.object);
  // The answer tells nothing of a cell that was written after the question.
  if (found == leases_.end() || found->second.number != held.number) return;
  found->second.is_sure = true;
}

void ForeignLeases::Abandon(const Held& held) {
  const auto found = leases_.find(held.object);
  if (found == leases_.end() || found->second.number != held.number) return;
  --found->second.waiting;
  ClearIfUnused(found);
}

void ForeignLeases::ClearIfUnused(LeaseMap::iterator lease) {
  if (lease->second.references > 0 || lease->second.waiting > 0) return;
  PassFaultPoint("daemon.foreign-lease.before-clear");
  cells_.Clear(lease->second.cell);
  PassFaultPoint("daemon.foreign-lease.after-clear");
  let_go_.insert(lease->first.segment);
  leases_.erase(lease);
}

// Nothing is checked: the former life did, and its cell is still there. It does not move:
// a scan that is under way might have read the new place before, and the old one after.
arrow::Status ForeignLeases::Adopt(const ObjectId& object) {
  auto found = leases_.find(object);
  if (found == leases_.end()) {
    Lease lease;
    lease.number = ++last_number_;
    lease.is_sure = true;
    PassFaultPoint("daemon.adopt.before-cell");
    const auto former = former_.find(
        format::PackLeaseCell(object.segment.value, object.slot, object.generation));
    if (former != former_.end()) {
      lease.cell = former->second;
      former_.erase(former);
    } else {
      ARROW_ASSIGN_OR_RAISE(lease.cell, cells_.Write(object));
    }
    cells_.Settle(lease.cell);
    PassFaultPoint("daemon.adopt.after-cell");
    found = leases_.emplace(object, std::move(lease)).first;
  }
  ++found->second.references;
  return arrow::Status::OK();
}

void ForeignLeases::ClearFormer() {
  for (const auto& [lease, cell] : former_) cells_.Clear(cell);
  former_.clear();
}

void ForeignLeases::Release(const ObjectId& object) {
  const auto found = leases_.find(object);
  SHEAF_CHECK(found != leases_.end());
  --found->second.references;
  ClearIfUnused(found);
}

void ForeignLeases::Leave(const ObjectId& object) {
  if (doubtful_.empty()) return Release(object);
  const auto found = leases_.find(object);
  SHEAF_CHECK(found != leases_.end());
  --found->second.references;
  left_.insert(object);
}

}  // namespace sheaf::daemon
