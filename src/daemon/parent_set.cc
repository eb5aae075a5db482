#include "daemon/parent_set.h"

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range.h"
#include "daemon/coverage.h"
#include "daemon/foreign_leases.h"
#include "directory/directory.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

ParentSet::~ParentSet() {
  for (const ObjectId& object : leased_) leases_->Leave(object);
}

arrow::Status ParentSet::Add(const ObjectId& object) {
  if (members_.contains(object)) return arrow::Status::OK();
  if (object.segment == own_) {
    ARROW_ASSIGN_OR_RAISE(members_[object], FindOwn(object));
    return arrow::Status::OK();
  }
  ARROW_ASSIGN_OR_RAISE(auto record, leases_->Acquire(object));
  members_.emplace(object, std::move(record));
  leased_.insert(object);
  return arrow::Status::OK();
}

arrow::Result<std::shared_ptr<const directory::Record>> ParentSet::FindOwn(
    const ObjectId& id) const {
  // Retired, but not freed: its bytes are there as long as we refer to them.
  if (!directory_->GetSlot(id).ok()) return StaleObject(id, "is gone");
  return directory_->GetRecord(id);
}

arrow::Result<Owners> ParentSet::Cover(SegmentId segment,
                                       const std::vector<alloc::Range>& needed) {
  Coverage coverage = daemon::Cover(needed, PiecesIn(segment));
  if (!coverage.complete) {
    ARROW_RETURN_NOT_OK(AddReferencesIn(segment));
    coverage = daemon::Cover(needed, PiecesIn(segment));
  }
  if (coverage.complete) return coverage.owners;
  return MakeStatus(
      arrow::StatusCode::Invalid, ErrorReason::kStaleGeneration,
      "byte " + std::to_string(segment.value) + ":" +
          std::to_string(coverage.uncovered_offset) +
          " is neither in a grant of this session nor in a live parent object");
}

std::vector<Piece> ParentSet::PiecesIn(SegmentId segment) const {
  std::vector<Piece> pieces;
  for (const auto& [object, record] : members_) {
    if (object.segment != segment) continue;
    for (const GlobalRange& range : record->own_ranges) {
      pieces.push_back({{range.begin.offset, range.size_bytes}, object});
    }
  }
  return pieces;
}

// References are flattened: one level is all there is (O4).
arrow::Status ParentSet::AddReferencesIn(SegmentId segment) {
  std::set<ObjectId> references;
  for (const auto& [object, record] : members_) {
    for (const ObjectId& reference : record->references) {
      if (reference.segment == segment) references.insert(reference);
    }
  }
  // All of them, also after one that has to wait (ForeignLeases::TakeHeld).
  arrow::Status status;
  for (const ObjectId& reference : references) status &= Add(reference);
  return status;
}

void ParentSet::KeepLeases(const std::vector<ObjectId>& objects) {
  for (const ObjectId& object : objects) leased_.erase(object);
}

}  // namespace sheaf::daemon
