#include "daemon/grant_table.h"

#include <cstdint>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range.h"
#include "base/check.h"
#include "base/math.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"

namespace sheaf::daemon {

using format::LineState;

GrantTable::GrantTable(region::Segment* own_segment) : segment_(own_segment) {}

arrow::Result<uint32_t> GrantTable::NextFree() const {
  if (!free_.empty()) return *free_.begin();
  const auto next = CheckedCast<uint32_t>(entries_.size());
  if (next >= segment_->header().grants_max) {
    return arrow::Status::CapacityError("all ", segment_->header().grants_max,
                                        " grants of segment ", segment_->id().value,
                                        " are in use");
  }
  return next;
}

// A line's page must be there before it is stored to: a full file system is an error
// here.
arrow::Status GrantTable::EnsureMemory(uint32_t grant) {
  const uint64_t needed = (uint64_t{grant} + 1) * format::kLineBytes;
  if (needed <= allocated_bytes_) return arrow::Status::OK();
  const uint64_t rounded = format::ControlLayout::Page(needed);
  ARROW_RETURN_NOT_OK(segment_->control().Allocate(
      segment_->layout().grants + allocated_bytes_, rounded - allocated_bytes_));
  allocated_bytes_ = rounded;
  return arrow::Status::OK();
}

arrow::Result<GrantId> GrantTable::Own(uint32_t grant, const GrantOwner& owner,
                                       const alloc::Range& extent) {
  ARROW_RETURN_NOT_OK(EnsureMemory(grant));
  if (grant == entries_.size()) {
    entries_.emplace_back();
  } else {
    SHEAF_CHECK(free_.erase(grant) == 1);
  }
  Entry& entry = entries_[grant];
  const uint64_t first = format::FirstGeneration(segment_->header().format_epoch);
  entry = {entry.generation == 0 ? first : entry.generation + 1, true, owner, extent};
  Store(grant, entry);
  ++num_owned_;
  return GrantId{grant, entry.generation};
}

arrow::Status GrantTable::Free(const GrantId& id) {
  ARROW_RETURN_NOT_OK(Find(id).status());
  Entry& entry = entries_[id.grant];
  entry.owned = false;
  Store(id.grant, entry);
  --num_owned_;
  // One whose low generation bits are used up stays free for ever, unused (L3).
  const bool used_up =
      (entry.generation & format::kGenerationLowMask) == format::kGenerationLowMask;
  if (!used_up) free_.insert(id.grant);
  return arrow::Status::OK();
}

arrow::Result<GrantTable::Entry> GrantTable::Find(const GrantId& id) const {
  const Entry entry = Get(id.grant);
  if (entry.owned && entry.generation == id.generation) return entry;
  return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kStaleGeneration,
                    "grant " + std::to_string(id.grant) + " generation " +
                        std::to_string(id.generation) + " is not held");
}

GrantTable::Entry GrantTable::Get(uint32_t grant) const {
  return grant < entries_.size() ? entries_[grant] : Entry{};
}

void GrantTable::Store(uint32_t grant, const Entry& entry) {
  format::Grant line{};
  line.state = static_cast<uint8_t>(entry.owned ? LineState::kOwned : LineState::kFree);
  line.owner_node = entry.owner.node.value;
  line.owner_incarnation = entry.owner.incarnation;
  line.owner_session = entry.owner.session;
  line.generation = entry.generation;
  line.extent_offset = entry.extent.offset;
  line.extent_size_bytes = entry.extent.size_bytes;
  region::StoreControlLine(segment_, segment_->GrantLine(grant), line, format::kBusyWord,
                           region::Arrival::kSettled);
}

}  // namespace sheaf::daemon
