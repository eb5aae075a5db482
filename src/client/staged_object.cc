#include "client/staged_object.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_point.h"
#include "client/put.h"
#include "client/session.h"
#include "directory/directory.h"
#include "directory/life_off.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

using format::LineState;

arrow::Status NotThere(const ObjectId& object) {
  return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kStaleGeneration,
                    "object " + std::to_string(object.segment.value) + ":" +
                        std::to_string(object.slot) +
                        " is gone, or was prepared by a node that was declared off");
}

StagedView ViewOfSealed(const Session& session, const region::Segment& home,
                        const format::Slot& slot) {
  const bool is_prepared = (slot.flags & format::kSlotPrepared) != 0;
  const bool is_kept = (slot.flags & format::kSlotKept) != 0;
  if ((slot.flags & format::kSlotNamed) != 0 && !is_prepared) return StagedView::kGone;
  if (is_kept && !is_prepared) return StagedView::kThere;
  const auto is_off =
      directory::IsOfLifeOff(region::SegmentsOf(session.region()), home, slot);
  if (!is_off.ok()) return StagedView::kUnknown;
  if (!*is_off) return StagedView::kThere;
  return is_kept ? StagedView::kVoid : StagedView::kGone;
}

}  // namespace

StagedObject LookAt(const Session& session, const ObjectId& object) {
  const region::Segment* home = session.region().segment(object.segment);
  if (home == nullptr || object.slot >= home->header().slots_max) return {};
  const auto slot = directory::ReadSlot(*home, object.slot);
  if (!slot.ok() && !IsStaleGeneration(slot.status())) return {};
  StagedObject found{StagedView::kGone};
  if (!slot.ok() || slot->generation != object.generation) return found;
  found.is_kept = (slot->flags & format::kSlotKept) != 0;
  if (slot->state == static_cast<uint8_t>(LineState::kSealed)) {
    found.view = ViewOfSealed(session, *home, *slot);
  } else if (slot->state == static_cast<uint8_t>(LineState::kBound)) {
    const auto record = directory::ReadRecord(*home, *slot);
    if (!record.ok()) return {};
    found.view =
        directory::IsReserved(record->name) ? StagedView::kList : StagedView::kPut;
    found.version = slot->version_sequence;
  }
  return found;
}

bool IsThere(const Session& session, const ObjectId& object) {
  const StagedView view = LookAt(session, object).view;
  return view != StagedView::kGone && view != StagedView::kVoid;
}

bool IsHomeOff(const Session& session, const ObjectId& object) {
  return directory::IsHomeOff(session.region(), object);
}

arrow::Status KeepStaged(Session& session, const ObjectId& object) {
  const StagedObject found = LookAt(session, object);
  if (found.view == StagedView::kGone || found.view == StagedView::kVoid) {
    return NotThere(object);
  }
  if (found.is_kept && IsHomeOff(session, object)) return arrow::Status::OK();
  return Keep(session, object);
}

// A table that was put is no object of the list's any more. A version of the list that
// another one superseded goes before that one can be removed (Remover).
arrow::Result<bool> DropStaged(Session& session, const ObjectId& object) {
  const StagedView view = LookAt(session, object).view;
  if (view == StagedView::kGone || view == StagedView::kPut) return true;
  if (IsHomeOff(session, object)) return false;
  if (view == StagedView::kList) return true;
  const arrow::Status dropped = Drop(session, object);
  if (!dropped.ok() && !dropped.IsInvalid()) return dropped;
  return true;
}

arrow::Status DropAll(Session& session, std::vector<ObjectId>* objects) {
  std::vector<ObjectId> left;
  for (const ObjectId& object : *objects) {
    PassFaultPoint("client.staging.before-drop");
    ARROW_ASSIGN_OR_RAISE(const bool is_gone, DropStaged(session, object));
    if (!is_gone) left.push_back(object);
  }
  *objects = std::move(left);
  return arrow::Status::OK();
}

}  // namespace sheaf::client
