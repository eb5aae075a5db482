#include "daemon/grant_table.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range.h"
#include "base/check.h"
#include "base/fault_point.h"
#include "base/math.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "platform/shared_word.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"

namespace sheaf::daemon {

using format::LineState;

namespace {

// One whose low generation bits are used up stays free for ever, unused (L3).
bool IsUsedUp(const GrantTable::Entry& entry) {
  return (entry.generation & format::kGenerationLowMask) == format::kGenerationLowMask;
}

}  // namespace

GrantTable::GrantTable(region::Segment* own_segment) : segment_(own_segment) { Adopt(); }

void GrantTable::Adopt() {
  const uint32_t grants_max = segment_->header().grants_max;
  const uint64_t size_bytes = uint64_t{grants_max} * format::kLineBytes;
  platform::CacheControl* cache = segment_->control().cache();
  cache->Invalidate(segment_->GrantLine(0), size_bytes);
  for (uint32_t grant = 0; grant < grants_max; ++grant) {
    const format::LineWords words = platform::LoadLine(segment_->GrantLine(grant));
    if (words != format::LineWords{}) AdoptLine(grant, words);
  }
  if (entries_.empty()) return;
  // Lines between the used ones: never used.
  for (uint32_t grant = 0; grant < entries_.size(); ++grant) {
    if (entries_[grant].generation == 0) free_.insert(grant);
  }
  PassFaultPoint("daemon.adopt.before-grants");
  cache->Settle(segment_->GrantLine(0), entries_.size() * format::kLineBytes);
  PassFaultPoint("daemon.adopt.after-grants");
}

void GrantTable::AdoptLine(uint32_t grant, const format::LineWords& words) {
  entries_.resize(grant + 1);
  Entry& entry = entries_[grant];
  const uint64_t first = format::FirstGeneration(segment_->header().format_epoch);
  auto line = std::bit_cast<format::Grant>(words);
  const auto whole = format::OpenLine<format::Grant>(words);
  const bool was_cut_short = words[0] == format::kBusyWord;
  if (whole) line = *whole;
  // Of a line that was cut short before its first use it is still 0.
  const uint64_t generation =
      was_cut_short ? std::max(line.generation, first) : line.generation;
  const bool is_plausible =
      generation >= first && generation - first < format::kGenerationLowMask &&
      (was_cut_short ||
       (whole && (line.state == static_cast<uint8_t>(LineState::kFree) ||
                  (line.state == static_cast<uint8_t>(LineState::kOwned) &&
                   line.owner_node < segment_->header().nodes_max))));
  if (!is_plausible) {
    problems_.push_back("grant line " + std::to_string(segment_->id().value) + ":" +
                        std::to_string(grant) + " is damaged");
    entry.generation = first | format::kGenerationLowMask;  // never used again
    damaged_.push_back(grant);
    return;
  }
  entry.generation = generation;
  if (was_cut_short) {
    // The generation in the line is the old or the new one: neither is used again.
    if (!IsUsedUp(entry)) ++entry.generation;
    Store(grant, entry);
  }
  if (!was_cut_short && line.state == static_cast<uint8_t>(LineState::kOwned)) {
    entry.owned = true;
    entry.owner = {{line.owner_node},
                   line.owner_incarnation,
                   line.owner_session,
                   line.owner_request};
    entry.extent = {line.extent_offset, line.extent_size_bytes};
    ++num_owned_;
  } else if (!IsUsedUp(entry)) {
    free_.insert(grant);
  }
}

arrow::Status GrantTable::FreeAll() {
  for (const uint32_t grant : Owned()) {
    ARROW_RETURN_NOT_OK(Free({grant, entries_[grant].generation}));
  }
  for (const uint32_t grant : damaged_) Store(grant, entries_[grant]);
  damaged_.clear();
  problems_.clear();
  return arrow::Status::OK();
}

std::vector<uint32_t> GrantTable::Owned() const {
  std::vector<uint32_t> owned;
  for (uint32_t grant = 0; grant < entries_.size(); ++grant) {
    if (entries_[grant].owned) owned.push_back(grant);
  }
  return owned;
}

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

arrow::Result<GrantId> GrantTable::Own(uint32_t grant, const GrantOwner& owner,
                                       const alloc::Range& extent) {
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
  if (!IsUsedUp(entry)) free_.insert(id.grant);
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
  line.owner_request = entry.owner.request;
  line.generation = entry.generation;
  line.extent_offset = entry.extent.offset;
  line.extent_size_bytes = entry.extent.size_bytes;
  region::StoreControlLine(segment_, segment_->GrantLine(grant), line, format::kBusyWord,
                           region::Arrival::kSettled);
}

}  // namespace sheaf::daemon
