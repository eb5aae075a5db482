#include "directory/home_directory.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/fault_point.h"
#include "base/math.h"
#include "base/plant.h"
#include "directory/directory.h"
#include "directory/shared_bytes.h"
#include "directory/slot_reader.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::directory {
namespace {

using format::LineState;
using region::Arrival;

/// Slots by which the high-water mark rises: one settled line for so many first uses.
constexpr uint64_t kMarkStep = 64;

arrow::Status Stale(const ObjectId& id, const std::string& found) {
  return MakeStatus(arrow::StatusCode::KeyError, ErrorReason::kStaleGeneration,
                    "object " + std::to_string(id.segment.value) + ":" +
                        std::to_string(id.slot) + "@" + std::to_string(id.generation) +
                        " is not in the state that is asked for: " + found);
}

// In another word than the flags and the version: whatever of a change of its version is
// in memory, that it is prepared is.
uint32_t PreparedFlags(uint8_t flags) {
  return (flags & format::kSlotPrepared) != 0 ? flags : 0;
}

}  // namespace

HomeDirectory::Impl::Impl(region::Segment* segment, HashFn hash)
    : segment_(segment),
      hash_(hash),
      records_(segment->header().records_size_bytes,
               [segment](uint64_t offset, uint64_t size_bytes) {
                 return segment->control().Allocate(segment->layout().records + offset,
                                                    size_bytes);
               }) {}

arrow::Result<format::Slot> HomeDirectory::Impl::Require(
    const ObjectId& id, std::initializer_list<LineState> states) const {
  if (id.segment != segment_->id() || id.slot >= entries_.size()) {
    return Stale(id, "no such slot here");
  }
  const format::Slot& slot = entries_[id.slot].slot;
  if (slot.generation != id.generation) {
    return Stale(id, "its slot has generation " + std::to_string(slot.generation));
  }
  if (std::find(states.begin(), states.end(), StateOf(slot)) == states.end()) {
    return Stale(id, std::string("it is ") + ToString(StateOf(slot)));
  }
  return slot;
}

void HomeDirectory::Impl::Store(uint32_t index, const format::Slot& slot,
                                Arrival arrival) {
  Entry& entry = entries_[index];
  region::StoreControlLine(segment_, segment_->SlotLine(index), slot, format::kBusyWord,
                           arrival);
  by_state_[entry.slot.state].erase(index);
  by_state_[slot.state].insert(index);
  entry.slot = slot;
}

arrow::Status HomeDirectory::Impl::CheckSealable(const Record& record,
                                                 uint8_t flags) const {
  const bool is_named = (flags & format::kSlotNamed) != 0;
  if (is_named == record.name.empty()) {
    return arrow::Status::Invalid("flag `named` and the record's name contradict");
  }
  const bool is_prepared = (flags & format::kSlotPrepared) != 0;
  if ((flags & ~(format::kSlotNamed | format::kSlotKept | format::kSlotPrepared)) != 0 ||
      (is_prepared && !is_named)) {
    return arrow::Status::Invalid("unknown slot flags ", static_cast<int>(flags));
  }
  for (const GlobalRange& range : record.own_ranges) {
    if (range.begin.segment != segment_->id() ||
        !FitsWithin(range.begin.offset, range.size_bytes,
                    segment_->header().data_size_bytes)) {
      return arrow::Status::Invalid("range ", range.begin.segment.value, ":",
                                    range.begin.offset, "+", range.size_bytes,
                                    " is not inside segment ", segment_->id().value);
    }
  }
  return arrow::Status::OK();
}

arrow::Result<ObjectId> HomeDirectory::Impl::Seal(const Record& record, uint8_t flags) {
  ARROW_RETURN_NOT_OK(CheckSealable(record, flags));
  ARROW_ASSIGN_OR_RAISE(const auto bytes, EncodeRecord(record));
  // Read back what readers will: no part of the private copy lies in a client's memory.
  ARROW_ASSIGN_OR_RAISE(Record own_record, DecodeRecord(bytes));
  ARROW_ASSIGN_OR_RAISE(const uint32_t index, TakeFreeSlot());
  const auto size = CheckedCast<uint32_t>(bytes->size());
  ARROW_ASSIGN_OR_RAISE(const uint64_t offset, records_.Allocate(size));
  PassFaultPoint("daemon.seal.before-record");
  StoreRecord(offset, *bytes);
  PassFaultPoint("daemon.seal.after-record");

  format::Slot slot{};
  slot.state = static_cast<uint8_t>(LineState::kSealed);
  slot.flags = flags;
  slot.record_size_bytes = size;
  slot.generation = NextGeneration(entries_[index].slot);
  slot.record_offset = offset;
  slot.name_hash = record.name.empty() ? 0 : hash_(record.name);
  slot.record_checksum = format::Checksum({bytes->data(), size});
  slot.prepared_flags = PreparedFlags(flags);
  entries_[index].record = std::make_shared<const Record>(std::move(own_record));
  Store(index, slot, Arrival::kSettled);
  PassFaultPoint("daemon.seal.after-slot");
  return IdOf(index);
}

/// DIR-1: in memory before the slot that names it is sealed (L11).
void HomeDirectory::Impl::StoreRecord(uint64_t offset, const arrow::Buffer& bytes) {
  uint64_t* target = segment_->ControlLine(segment_->layout().records + offset);
  const auto size = CheckedCast<size_t>(bytes.size());
  StoreBytes(target, {bytes.data(), size});
  if (!Planted("no-flush-record")) segment_->control().cache()->Settle(target, size);
}

uint64_t HomeDirectory::Impl::NextGeneration(const format::Slot& slot) const {
  if (slot.generation == 0) {
    return format::FirstGeneration(segment_->header().format_epoch);
  }
  return slot.generation + 1;
}

/// A slot that is Free, round about: who removed its last object stays there to be asked
/// for (C8) while the others are taken. Scans end at the mark, which rises if none is.
arrow::Result<uint32_t> HomeDirectory::Impl::TakeFreeSlot() {
  const auto& free = SlotsIn(LineState::kFree);
  if (free.empty()) ARROW_RETURN_NOT_OK(RaiseSlotsUsed());
  auto next = free.lower_bound(next_slot_);
  if (next == free.end()) next = free.begin();
  next_slot_ = *next + 1;
  return *next;
}

/// DIR-2: memory first, then the mark, then the slots.
arrow::Status HomeDirectory::Impl::RaiseSlotsUsed() {
  const uint64_t slots_max = segment_->header().slots_max;
  const uint64_t begin = entries_.size();
  const uint64_t end = std::min(begin + kMarkStep, slots_max);
  if (begin == end) {
    return arrow::Status::CapacityError("all ", slots_max, " slots of segment ",
                                        segment_->id().value, " are in use");
  }
  ARROW_RETURN_NOT_OK(AllocateSlots(end));
  PassFaultPoint("daemon.slots.before-mark");
  region::UpdateIncarnation(
      segment_, [end](format::IncarnationLine* line) { line->slots_used = end; });
  PassFaultPoint("daemon.slots.after-mark");
  entries_.resize(end);
  auto& free = by_state_[static_cast<size_t>(LineState::kFree)];
  for (uint64_t i = begin; i < end; ++i) free.insert(CheckedCast<uint32_t>(i));
  return arrow::Status::OK();
}

arrow::Status HomeDirectory::Impl::AllocateSlots(uint64_t slots) {
  if (slots <= slots_allocated_) return arrow::Status::OK();
  const uint64_t end =
      std::min<uint64_t>(RoundUp(slots, kAllocateStep), segment_->header().slots_max);
  ARROW_RETURN_NOT_OK(segment_->control().Allocate(
      segment_->layout().slots + slots_allocated_ * format::kLineBytes,
      (end - slots_allocated_) * format::kLineBytes));
  slots_allocated_ = end;
  return arrow::Status::OK();
}

arrow::Result<Record> HomeDirectory::Impl::Free(const ObjectId& id) {
  ARROW_ASSIGN_OR_RAISE(const format::Slot old, Require(id, {LineState::kRetired}));
  const auto record = std::exchange(entries_[id.slot].record, nullptr);
  SHEAF_CHECK(record != nullptr);
  // The low 30 bits are what a lease cell holds: they never repeat in one slot (L3).
  const bool is_last =
      (old.generation & format::kGenerationLowMask) == format::kGenerationLowMask;
  format::Slot slot{};
  slot.state = static_cast<uint8_t>(is_last ? LineState::kDisused : LineState::kFree);
  slot.generation = old.generation;
  slot.remover = old.remover;
  PassFaultPoint("daemon.free.before-slot");
  Store(id.slot, slot, Arrival::kSettled);
  PassFaultPoint("daemon.free.after-slot");
  records_.Free(old.record_offset, old.record_size_bytes);
  return *record;
}

HomeDirectory::HomeDirectory(region::Segment* own_segment, HashFn hash)
    : impl_(std::make_unique<Impl>(own_segment, hash)) {
  impl_->Adopt();
}

HomeDirectory::~HomeDirectory() = default;

void HomeDirectory::DisuseDamaged() { impl_->DisuseDamaged(); }

std::vector<std::string> HomeDirectory::problems() const { return impl_->problems(); }

arrow::Result<ObjectId> HomeDirectory::Seal(const Record& record, uint8_t flags) {
  return impl_->Seal(record, flags);
}

arrow::Status HomeDirectory::SetVersion(const ObjectId& id, uint32_t epoch,
                                        uint32_t sequence) {
  ARROW_ASSIGN_OR_RAISE(format::Slot slot, impl_->Require(id, {LineState::kSealed}));
  if ((slot.flags & format::kSlotNamed) == 0) {
    return arrow::Status::Invalid("an object without a name has no version");
  }
  slot.version_epoch = epoch;
  slot.version_sequence = sequence;
  PassFaultPoint("daemon.version.before-slot");
  impl_->Store(id.slot, slot, Arrival::kSettled);
  PassFaultPoint("daemon.version.after-slot");
  return arrow::Status::OK();
}

arrow::Status HomeDirectory::Bind(const ObjectId& id) {
  ARROW_ASSIGN_OR_RAISE(format::Slot slot,
                        impl_->Require(id, {LineState::kSealed, LineState::kBound}));
  if ((slot.flags & format::kSlotNamed) == 0) {
    return arrow::Status::Invalid("an object without a name cannot be bound to one");
  }
  if (StateOf(slot) == LineState::kBound) return arrow::Status::OK();
  slot.state = static_cast<uint8_t>(LineState::kBound);
  slot.flags = format::kSlotNamed;  // Prepared no more.
  slot.prepared_flags = 0;
  // C6 only flushes. In class C another node could then miss, for up to D, a name whose
  // publish has returned; in the other classes this costs no more.
  PassFaultPoint("daemon.bind.before-slot");
  impl_->Store(id.slot, slot, Arrival::kSettled);
  PassFaultPoint("daemon.bind.after-slot");
  return arrow::Status::OK();
}

arrow::Status HomeDirectory::SetKept(const ObjectId& id, bool kept) {
  ARROW_ASSIGN_OR_RAISE(format::Slot slot, impl_->Require(id, {LineState::kSealed}));
  constexpr uint8_t kPrepared = format::kSlotNamed | format::kSlotPrepared;
  const uint8_t kind = slot.flags & kPrepared;
  if (kind != 0 && kind != kPrepared) {
    return arrow::Status::Invalid("a named object outlives its session by itself");
  }
  const uint8_t flags = kind | (kept ? format::kSlotKept : 0);
  if (slot.flags == flags) return arrow::Status::OK();
  slot.flags = flags;
  slot.prepared_flags = PreparedFlags(flags);
  PassFaultPoint("daemon.keep.before-slot");
  impl_->Store(id.slot, slot, Arrival::kSettled);
  PassFaultPoint("daemon.keep.after-slot");
  return arrow::Status::OK();
}

arrow::Status HomeDirectory::SetLeaving(const ObjectId& id, bool leaving) {
  ARROW_ASSIGN_OR_RAISE(format::Slot slot, impl_->Require(id, {LineState::kBound}));
  const uint8_t flags = format::kSlotNamed | (leaving ? format::kSlotLeaving : 0);
  if (slot.flags == flags) return arrow::Status::OK();
  slot.flags = flags;
  PassFaultPoint("daemon.remove.before-slot");
  impl_->Store(id.slot, slot, Arrival::kSettled);
  PassFaultPoint("daemon.remove.after-slot");
  return arrow::Status::OK();
}

arrow::Status HomeDirectory::Retire(const ObjectId& id, uint32_t remover) {
  ARROW_ASSIGN_OR_RAISE(
      format::Slot slot,
      impl_->Require(id, {LineState::kSealed, LineState::kBound, LineState::kRetired}));
  if (StateOf(slot) == LineState::kRetired) return arrow::Status::OK();
  slot.state = static_cast<uint8_t>(LineState::kRetired);
  slot.prepared_flags = 0;
  slot.remover = remover;
  PassFaultPoint("daemon.retire.before-slot");
  impl_->Store(id.slot, slot, Arrival::kSettled);
  PassFaultPoint("daemon.retire.after-slot");
  return arrow::Status::OK();
}

arrow::Result<Record> HomeDirectory::Free(const ObjectId& id) { return impl_->Free(id); }

arrow::Result<format::Slot> HomeDirectory::GetSlot(const ObjectId& id) const {
  return impl_->Require(id, {LineState::kSealed, LineState::kBound, LineState::kRetired});
}

arrow::Result<std::shared_ptr<const Record>> HomeDirectory::GetRecord(
    const ObjectId& id) const {
  ARROW_RETURN_NOT_OK(GetSlot(id));
  return impl_->entry(id.slot).record;
}

std::vector<ObjectId> HomeDirectory::ObjectsIn(LineState state) const {
  std::vector<ObjectId> ids;
  for (const uint32_t index : impl_->SlotsIn(state)) ids.push_back(impl_->IdOf(index));
  return ids;
}

std::vector<std::pair<ObjectId, uint32_t>> HomeDirectory::Removers() const {
  std::vector<std::pair<ObjectId, uint32_t>> removers;
  for (const LineState state : {LineState::kFree, LineState::kRetired}) {
    for (const uint32_t index : impl_->SlotsIn(state)) {
      const uint32_t remover = impl_->entry(index).slot.remover;
      if (remover != 0) removers.emplace_back(impl_->IdOf(index), remover);
    }
  }
  return removers;
}

std::vector<ObjectId> HomeDirectory::UnnamedOf(uint64_t creator_session) const {
  std::vector<ObjectId> ids;
  for (const uint32_t index : impl_->SlotsIn(LineState::kSealed)) {
    const Impl::Entry& entry = impl_->entry(index);
    const bool is_unnamed = (entry.slot.flags & format::kSlotNamed) == 0 ||
                            (entry.slot.flags & format::kSlotPrepared) != 0;
    if (is_unnamed && (entry.slot.flags & format::kSlotKept) == 0 &&
        entry.record->creator_session == creator_session) {
      ids.push_back(impl_->IdOf(index));
    }
  }
  return ids;
}

uint32_t HomeDirectory::num_objects() const {
  return CheckedCast<uint32_t>(impl_->SlotsIn(LineState::kSealed).size() +
                               impl_->SlotsIn(LineState::kBound).size() +
                               impl_->SlotsIn(LineState::kRetired).size());
}

arrow::Result<uint64_t> HomeDirectory::AllocateRecordSpace(uint64_t size_bytes) {
  return impl_->records().Allocate(size_bytes);
}

void HomeDirectory::FreeRecordSpace(uint64_t offset, uint64_t size_bytes) {
  impl_->records().Free(offset, size_bytes);
}

region::Segment* HomeDirectory::own_segment() const { return impl_->segment(); }

}  // namespace sheaf::directory
