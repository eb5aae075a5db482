// Rebuild of a home's private state from the slots in memory (docs/protocol.md R1 to R3):
// nothing but them is trusted.

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_point.h"
#include "base/math.h"
#include "directory/directory.h"
#include "directory/home_directory.h"
#include "directory/slot_reader.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "platform/shared_word.h"
#include "region/control_line.h"
#include "region/region.h"

namespace sheaf::directory {
namespace {

using format::LineState;

/// The record that `slot` names, as it lies in memory.
arrow::Result<std::shared_ptr<const Record>> LoadRecord(const region::Segment& segment,
                                                        const format::Slot& slot,
                                                        HashFn hash) {
  ARROW_ASSIGN_OR_RAISE(Record record, ReadRecord(segment, slot));
  if (!record.name.empty() && hash(record.name) != slot.name_hash) {
    return arrow::Status::Invalid("the slot's hash is not that of the record's name");
  }
  return std::make_shared<const Record>(std::move(record));
}

bool IsPreparedFlags(uint32_t flags) {
  constexpr uint32_t kPrepared = format::kSlotNamed | format::kSlotPrepared;
  return (flags & ~uint32_t{format::kSlotKept}) == kPrepared;
}

}  // namespace

void HomeDirectory::Impl::DisuseDamaged() {
  for (const uint32_t index : damaged_) {
    Store(index, GivenUp().slot, region::Arrival::kSettled);
  }
  damaged_.clear();
}

void HomeDirectory::Impl::AddProblem(uint32_t index, const std::string& what) {
  damaged_.push_back(index);
  problems_.push_back("slot " + std::to_string(segment_->id().value) + ":" +
                      std::to_string(index) + ": " + what);
}

bool HomeDirectory::Impl::IsOwnGeneration(uint64_t generation) const {
  const uint64_t first = format::FirstGeneration(segment_->header().format_epoch);
  return generation >= first && generation - first < format::kGenerationLowMask;
}

/// True if a slot that had `generation`, 0 none yet, may be used once more (L3).
bool HomeDirectory::Impl::HasNextGeneration(uint64_t generation) const {
  return generation == 0 ||
         (IsOwnGeneration(generation) && IsOwnGeneration(generation + 1));
}

/// The high-water mark; of a damaged incarnation line the largest there can be.
uint64_t HomeDirectory::Impl::AdoptMark() {
  const auto line = region::ReadIncarnation(*segment_);
  if (line.ok()) return line->slots_used;
  problems_.push_back(line.status().message());
  const uint64_t slots_max = segment_->header().slots_max;
  if (const arrow::Status status = AllocateSlots(slots_max); !status.ok()) {
    problems_.push_back(status.message());
  }
  region::UpdateIncarnation(segment_, [&](format::IncarnationLine* marks) {
    marks->slots_used = slots_max;
    marks->lease_pages_used = segment_->header().lease_pages_max;
  });
  return slots_max;
}

void HomeDirectory::Impl::Adopt() {
  const uint64_t slots_used = AdoptMark();
  entries_.resize(slots_used);
  // The memory came before the mark, in whole steps.
  slots_allocated_ = std::min<uint64_t>(RoundUp(slots_used, kAllocateStep),
                                        segment_->header().slots_max);
  const uint64_t size_bytes = slots_used * format::kLineBytes;
  platform::CacheControl* cache = segment_->control().cache();
  if (slots_used > 0) cache->Invalidate(segment_->SlotLine(0), size_bytes);
  PassFaultPoint("daemon.adopt.before-slots");
  for (uint32_t i = 0; i < slots_used; ++i) AdoptSlot(i);
  AdoptIndexTable();
  // R1: nothing that a reply may have promised is merely on its way.
  if (slots_used > 0) cache->Settle(segment_->SlotLine(0), size_bytes);
  PassFaultPoint("daemon.adopt.after-slots");
}

void HomeDirectory::Impl::AdoptSlot(uint32_t index) {
  const format::LineWords words = platform::LoadLine(segment_->SlotLine(index));
  Adopted adopted = words[0] == format::kBusyWord ? CompleteUpdate(index, words)
                                                  : AdoptLine(index, words);
  if (IsInUse(StateOf(adopted.slot))) {
    const arrow::Status status =
        records_.Reserve(adopted.slot.record_offset, adopted.slot.record_size_bytes);
    if (!status.ok()) {
      AddProblem(index, status.message());
      adopted = GivenUp();
    }
  }
  // Whoever was to remove it died, and told nobody that it did.
  if (StateOf(adopted.slot) == LineState::kBound &&
      (adopted.slot.flags & format::kSlotLeaving) != 0) {
    adopted.slot.flags &= static_cast<uint8_t>(~format::kSlotLeaving);
    adopted.stored = false;
  }
  TakeOver(index, std::move(adopted));
}

/// Never used again; what lies in memory stays as it is, for leases that are on it.
HomeDirectory::Impl::Adopted HomeDirectory::Impl::GivenUp() {
  format::Slot slot{};
  slot.state = static_cast<uint8_t>(LineState::kDisused);
  return {slot, nullptr};
}

HomeDirectory::Impl::Adopted HomeDirectory::Impl::AdoptLine(
    uint32_t index, const format::LineWords& words) {
  const auto slot = format::OpenLine<format::Slot>(words);
  if (!slot || slot->state > static_cast<uint8_t>(LineState::kDisused)) {
    AddProblem(index, "the line is damaged");
    Adopted lost = GivenUp();  // stored: readers and leaders need a line that can be read
    lost.slot.flags = format::kSlotLost;
    lost.stored = false;
    return lost;
  }
  if (StateOf(*slot) == LineState::kDisused && (slot->flags & format::kSlotLost) != 0) {
    AddProblem(index, "the line was damaged");
    return {*slot, nullptr};
  }
  if (slot->generation != 0 && !IsOwnGeneration(slot->generation)) {
    AddProblem(index, "generation " + std::to_string(slot->generation) +
                          " is not of this formatting");
    return GivenUp();
  }
  if (!IsPlausible(*slot)) {
    AddProblem(index, std::string("state ") + ToString(StateOf(*slot)) +
                          " is none of a slot, or without a generation or a name");
    return GivenUp();
  }
  if (StateOf(*slot) == LineState::kFree && !HasNextGeneration(slot->generation)) {
    AddProblem(index, "it is free, but its generations are used up");
    return GivenUp();
  }
  if (!IsInUse(StateOf(*slot))) return {*slot, nullptr};
  auto record = LoadRecord(*segment_, *slot, hash_);
  if (!record.ok()) {
    AddProblem(index, record.status().message());
    return GivenUp();
  }
  return {*slot, *std::move(record)};
}

/// The home died while it changed the line: word 0 is lost, each other word is old or
/// new.
HomeDirectory::Impl::Adopted HomeDirectory::Impl::CompleteUpdate(
    uint32_t index, const format::LineWords& words) {
  const auto fields = std::bit_cast<format::Slot>(words);
  const uint32_t size = StoredSize(*segment_, fields.record_offset).value_or(0);
  if (const auto slot = FindCutShort(words, size)) {
    Adopted adopted = AdoptLine(index, format::SealLine(*slot));
    adopted.stored = false;
    return adopted;
  }
  // A mixture. Only a seal, a version or a free changes words that its checksum does not
  // tell. Of a named object that is all there: Sealed, the publisher asks again (C4) or
  // gives up. One that is prepared stays so, and has no version: whoever prepared it asks
  // again, and it is granted one anew.
  const bool is_prepared = IsPreparedFlags(fields.prepared_flags);
  format::Slot slot{};
  slot.state = static_cast<uint8_t>(LineState::kSealed);
  slot.flags = is_prepared ? static_cast<uint8_t>(fields.prepared_flags)
                           : static_cast<uint8_t>(format::kSlotNamed);
  slot.record_size_bytes = size;
  slot.generation = fields.generation;
  slot.record_offset = fields.record_offset;
  slot.name_hash = fields.name_hash;
  slot.version_sequence = is_prepared ? 0 : fields.version_sequence;
  slot.version_epoch = is_prepared ? 0 : fields.version_epoch;
  slot.record_checksum = fields.record_checksum;
  slot.prepared_flags = is_prepared ? fields.prepared_flags : 0;
  if (IsOwnGeneration(slot.generation)) {
    if (auto record = LoadRecord(*segment_, slot, hash_); record.ok()) {
      return {slot, *std::move(record), /*stored=*/false};
    }
  }
  // A seal that nobody was told of, or a free whose scan was done: Free either way. The
  // generation may have been skipped; it is never used twice.
  const bool is_reusable = HasNextGeneration(slot.generation);
  format::Slot rest{};
  rest.state = static_cast<uint8_t>(is_reusable ? LineState::kFree : LineState::kDisused);
  rest.generation = fields.generation;
  rest.remover = fields.remover;
  return {rest, nullptr, /*stored=*/false};
}

void HomeDirectory::Impl::TakeOver(uint32_t index, Adopted adopted) {
  entries_[index] = {adopted.slot, std::move(adopted.record)};
  by_state_[adopted.slot.state].insert(index);
  if (!adopted.stored) Store(index, adopted.slot, region::Arrival::kFlushed);
}

/// The index of this node's last life stays until a new claim replaces it: readers use
/// it. One that cannot be used is given up, a cache over the slots: look-ups wait for the
/// next claim.
void HomeDirectory::Impl::AdoptIndexTable() {
  uint64_t* line = segment_->NodeLine(format::NodeLine::kIndexHeader);
  // Busy: the home died while it changed the header. That is no damage.
  if (platform::LoadLine(line)[0] != region::kBusyLine) {
    const auto header = region::ReadControlLine<format::IndexHeaderLine>(*segment_, line);
    if (header && header->epoch == 0) return;
    const uint64_t entries_max =
        segment_->header().records_size_bytes / format::kLineBytes;
    if (header && header->capacity_entries <= entries_max &&
        records_
            .Reserve(header->table_offset, header->capacity_entries * format::kLineBytes)
            .ok()) {
      return;
    }
    problems_.push_back("the catalog's index was damaged and is given up");
  }
  region::StoreControlLine(segment_, line, format::IndexHeaderLine{}, region::kBusyLine,
                           region::Arrival::kSettled);
}

}  // namespace sheaf::directory
