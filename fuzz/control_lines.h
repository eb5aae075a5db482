// Lines and records of a fake segment, as bytes of the input, and as somebody who knows
// the format would write them: with checksums that are right.

#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/math.h"
#include "directory/directory.h"
#include "directory/slot_reader.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "platform/shared_word.h"
#include "region/control_line.h"
#include "region/region.h"

namespace sheaf::fuzz {

/// Whether lines and records are to be taken as they are, or with right checksums.
enum class Checksums : uint8_t { kAsTheyAre, kMadeRight };

inline void Fill(uint64_t* target, std::span<const uint8_t> bytes) {
  if (!bytes.empty()) std::memcpy(target, bytes.data(), bytes.size());
}

template <format::LineStruct T>
void StoreLine(uint64_t* line, const T& value) {
  const format::LineWords words = format::SealLine(value);
  std::memcpy(line, words.data(), sizeof(words));
}

inline bool IsBlank(const uint64_t* line) {
  return platform::LoadLine(line) == format::LineWords{};
}

/// Makes the checksum of a line right that begins with an incarnation or epoch. One that
/// is Busy has none.
inline void MakeRight(uint64_t* line) {
  if (line[0] == region::kBusyLine || IsBlank(line)) return;
  StoreLine(line, platform::LoadLine(line));
}

/// Readers wait for a Busy line as long as its writer may need: too long for a fuzzer.
/// What they find then is what they find in a torn one.
inline void MakeTornIfBusy(uint64_t* line) {
  const format::LineWords words = platform::LoadLine(line);
  if (words[0] != format::kBusyWord && words[0] != region::kBusyLine) return;
  if (!format::OpenLine<format::LineWords>(words)) line[0] ^= 0xFF00;
}

/// Makes right whatever a hostile home would: the checksum of the record that the slot
/// names, its name's hash, and the line's checksum.
inline void MakeSlotRight(region::Segment* segment, uint32_t index,
                          directory::HashFn hash = format::HashName) {
  uint64_t* line = segment->SlotLine(index);
  if (line[0] == format::kBusyWord || IsBlank(line)) return;
  auto slot = std::bit_cast<format::Slot>(platform::LoadLine(line));
  const auto bytes =
      directory::CopyRecordBytes(*segment, slot.record_offset, slot.record_size_bytes);
  if (directory::IsInUse(directory::StateOf(slot)) && bytes.ok()) {
    slot.record_checksum =
        format::Checksum({(*bytes)->data(), CheckedCast<size_t>((*bytes)->size())});
    const auto record = directory::DecodeRecord(*bytes);
    if (record.ok()) slot.name_hash = record->name.empty() ? 0 : hash(record->name);
  }
  StoreLine(line, slot);
}

/// The incarnation line of a home that uses `slots_used` slots and `lease_pages_used`
/// pages.
inline void StoreMarks(region::Segment* segment, uint64_t slots_used,
                       uint64_t lease_pages_used) {
  format::IncarnationLine marks{};
  marks.incarnation = 1;
  marks.slots_used = slots_used;
  marks.lease_pages_used = lease_pages_used;
  StoreLine(segment->NodeLine(format::NodeLine::kIncarnation), marks);
}

/// All of it zero, as when it was formatted.
inline void Clear(region::Part* part) {
  std::memset(part->data(), 0, part->size_bytes());
}

}  // namespace sheaf::fuzz
