#include "directory/slot_reader.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <arrow/buffer.h>
#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "directory/directory.h"
#include "directory/record_limits.h"
#include "directory/shared_bytes.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "platform/shared_word.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::directory {
namespace {

/// Slots that a scan invalidates with one fence: 64 KiB of lines.
constexpr uint32_t kScanBatch = 1024;

/// Of a line that is in use.
constexpr uint8_t kFlagsMax =
    format::kSlotNamed | format::kSlotKept | format::kSlotLeaving | format::kSlotPrepared;

std::optional<format::Slot> OpenSlot(const format::LineWords& words) {
  auto slot = format::OpenLine<format::Slot>(words);
  if (slot && !IsPlausible(*slot)) slot.reset();
  return slot;
}

}  // namespace

bool IsInUse(format::LineState state) {
  return state == format::LineState::kSealed || state == format::LineState::kBound ||
         state == format::LineState::kRetired;
}

bool IsPlausible(const format::Slot& slot) {
  const bool is_named = (slot.flags & format::kSlotNamed) != 0;
  const bool is_lost = (slot.flags & format::kSlotLost) != 0;
  if (is_lost && StateOf(slot) != format::LineState::kDisused) return false;
  switch (StateOf(slot)) {
    case format::LineState::kFree:
    case format::LineState::kDisused:
      return true;
    case format::LineState::kSealed:
    case format::LineState::kRetired:
      return (slot.generation & format::kGenerationLowMask) != 0;
    case format::LineState::kBound:
      return is_named && (slot.generation & format::kGenerationLowMask) != 0;
    case format::LineState::kBusy:
    case format::LineState::kOwned:
      return false;
  }
  return false;  // No state at all: another node wrote this byte.
}

const char* ToString(format::LineState state) {
  constexpr const char* kNames[] = {"free",  "busy",    "owned",  "sealed",
                                    "bound", "retired", "disused"};
  const auto index = static_cast<size_t>(state);
  return index < std::size(kNames) ? kNames[index] : "unknown";
}

arrow::Result<format::Slot> ReadSlot(const region::Segment& segment, uint32_t slot) {
  // Ids come from others. A slot above the mark may have no memory yet (DIR-2): a load
  // there would take some, or raise SIGBUS where the file system is full.
  ARROW_ASSIGN_OR_RAISE(const auto marks, region::ReadMarks(segment));
  if (slot >= marks.slots) {
    return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kStaleGeneration,
                      "segment " + std::to_string(segment.id().value) + " has used " +
                          std::to_string(marks.slots) + " slots, none of number " +
                          std::to_string(slot));
  }
  const auto value =
      region::ReadControlLine<format::Slot>(segment, segment.SlotLine(slot));
  if (!value || !IsPlausible(*value)) {
    return arrow::Status::IOError("slot ", segment.id().value, ":", slot,
                                  " is unavailable: it stays busy or is damaged");
  }
  return *value;
}

arrow::Result<std::shared_ptr<arrow::Buffer>> CopyRecordBytes(
    const region::Segment& segment, uint64_t offset, uint64_t size_bytes) {
  if (size_bytes < uint64_t{kRecordSizeMin} || size_bytes > uint64_t{kRecordSizeMax} ||
      !IsAligned(offset, format::kGranuleBytes) ||
      !FitsWithin(offset, RoundUp(size_bytes, sizeof(uint64_t)),
                  segment.header().records_size_bytes)) {
    return arrow::Status::Invalid("record at ", offset, "+", size_bytes, " of segment ",
                                  segment.id().value,
                                  " is not inside its record area of ",
                                  segment.header().records_size_bytes, " bytes");
  }
  const uint64_t* source = segment.ControlLine(segment.layout().records + offset);
  ARROW_ASSIGN_OR_RAISE(auto bytes,
                        arrow::AllocateBuffer(CheckedCast<int64_t>(size_bytes),
                                              arrow::system_memory_pool()));
  segment.control().cache()->Invalidate(source, size_bytes);
  LoadBytes(source, {bytes->mutable_data(), CheckedCast<size_t>(size_bytes)});
  return std::shared_ptr<arrow::Buffer>(std::move(bytes));
}

arrow::Result<Record> OpenRecord(const region::Segment& segment, const format::Slot& slot,
                                 std::shared_ptr<arrow::Buffer> bytes) {
  const uint64_t checksum =
      format::Checksum({bytes->data(), CheckedCast<size_t>(bytes->size())});
  if (checksum != slot.record_checksum) {
    return arrow::Status::Invalid("record at ", slot.record_offset, " of segment ",
                                  segment.id().value, " has a wrong checksum");
  }
  ARROW_ASSIGN_OR_RAISE(Record record, DecodeRecord(std::move(bytes)));
  for (const GlobalRange& range : record.own_ranges) {
    if (range.begin.segment != segment.id() ||
        !FitsWithin(range.begin.offset, range.size_bytes,
                    segment.header().data_size_bytes)) {
      return arrow::Status::Invalid("record at ", slot.record_offset, " of segment ",
                                    segment.id().value, " lists range ",
                                    range.begin.segment.value, ":", range.begin.offset,
                                    "+", range.size_bytes, " outside of that segment");
    }
  }
  for (const ObjectId& reference : record.references) {
    if (reference.segment == segment.id()) {
      return arrow::Status::Invalid("record at ", slot.record_offset, " of segment ",
                                    segment.id().value,
                                    " refers to an object of its own segment");
    }
  }
  const bool is_named = (slot.flags & format::kSlotNamed) != 0;
  if (is_named != !record.name.empty() || is_named != (slot.name_hash != 0)) {
    return arrow::Status::Invalid("slot and record of segment ", segment.id().value,
                                  " differ on whether the object has a name");
  }
  return record;
}

arrow::Result<Record> ReadRecord(const region::Segment& segment,
                                 const format::Slot& slot) {
  ARROW_ASSIGN_OR_RAISE(
      auto bytes, CopyRecordBytes(segment, slot.record_offset, slot.record_size_bytes));
  return OpenRecord(segment, slot, std::move(bytes));
}

std::optional<uint32_t> StoredSize(const region::Segment& segment, uint64_t offset) {
  if (!IsAligned(offset, format::kGranuleBytes) ||
      !FitsWithin(offset, sizeof(uint64_t), segment.header().records_size_bytes)) {
    return std::nullopt;
  }
  const uint64_t* word = segment.ControlLine(segment.layout().records + offset);
  segment.control().cache()->Invalidate(word, sizeof(*word));
  const auto prefix =
      static_cast<uint32_t>(platform::SharedWord(word).LoadAcquire() & 0xFFFFFFFF);
  if (prefix > kRecordSizeMax - kRecordPrefixBytes) return std::nullopt;
  return CheckedCast<uint32_t>(prefix + kRecordPrefixBytes);
}

std::optional<format::Slot> FindCutShort(const format::LineWords& words,
                                         uint32_t size_bytes) {
  using format::LineState;
  constexpr LineState kStates[] = {LineState::kSealed, LineState::kBound,
                                   LineState::kRetired, LineState::kFree,
                                   LineState::kDisused};
  constexpr uint32_t kPrepared = format::kSlotNamed | format::kSlotPrepared;
  const auto fields = std::bit_cast<format::Slot>(words);
  // What depends on state and flags may be of the other line.
  struct Dependent {
    uint32_t prepared_flags;
    uint32_t remover;
  };
  const Dependent possible[] = {{fields.prepared_flags, fields.remover},
                                {0, 0},
                                {kPrepared, 0},
                                {kPrepared | format::kSlotKept, 0}};
  auto slot = fields;
  slot.reserved0 = 0;
  for (const Dependent& dependent : possible) {
    slot.prepared_flags = dependent.prepared_flags;
    slot.remover = dependent.remover;
    for (const LineState state : kStates) {
      slot.state = static_cast<uint8_t>(state);
      slot.record_size_bytes = IsInUse(state) ? size_bytes : 0;
      for (uint8_t flags = 0; flags <= kFlagsMax; ++flags) {
        slot.flags = flags;
        if (format::SealLine(slot)[7] == words[7]) return slot;
      }
    }
  }
  return std::nullopt;
}

bool IsReadable(const format::Slot& slot) {
  if (StateOf(slot) == format::LineState::kBound) return true;
  return StateOf(slot) == format::LineState::kSealed &&
         (slot.flags & format::kSlotNamed) == 0;
}

uint32_t SlotsUsed(const region::Segment& segment) {
  const auto marks = region::ReadMarks(segment);
  return marks.ok() ? marks->slots : segment.header().slots_max;
}

arrow::Status ScanSlots(
    const region::Segment& segment,
    const std::function<arrow::Status(uint32_t, const format::Slot&)>& on_slot,
    const std::function<arrow::Status(uint32_t, arrow::Status)>& on_unreadable,
    uint32_t begin, uint32_t end) {
  ARROW_ASSIGN_OR_RAISE(const auto marks, region::ReadMarks(segment));
  end = std::min(end, marks.slots);
  while (begin < end) {
    const uint32_t batch_begin = begin;
    begin = std::min(begin + kScanBatch, end);
    segment.control().cache()->Invalidate(segment.SlotLine(batch_begin),
                                          (begin - batch_begin) * format::kLineBytes);
    for (uint32_t i = batch_begin; i < begin; ++i) {
      auto slot = OpenSlot(platform::LoadLine(segment.SlotLine(i)));
      if (!slot) {
        const auto again = ReadSlot(segment, i);
        if (!again.ok()) {
          ARROW_RETURN_NOT_OK(on_unreadable(i, again.status()));
          continue;
        }
        slot = *again;
      }
      ARROW_RETURN_NOT_OK(on_slot(i, *slot));
    }
  }
  return arrow::Status::OK();
}

}  // namespace sheaf::directory
