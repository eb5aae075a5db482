// One-sided reads of slots and records, shared by look-up, listing, claiming and rebuild.

#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "directory/directory.h"
#include "format/layout.h"
#include "region/region.h"

namespace sheaf::directory {

/// \brief True if an object is in the slot: Sealed, Bound or Retired.
bool IsInUse(format::LineState state);
inline format::LineState StateOf(const format::Slot& slot) {
  return static_cast<format::LineState>(slot.state);
}
/// \brief True if the fields of a line that its home wrote make sense together: a state
/// that slots have, a generation that a lease cell can hold, bound only with a name, lost
/// only when disused.
bool IsPlausible(const format::Slot& slot);
const char* ToString(format::LineState state);

/// \brief Bytes of the record area, copied out after an INVAL. Invalid if the range is
/// not inside.
arrow::Result<std::shared_ptr<arrow::Buffer>> CopyRecordBytes(
    const region::Segment& segment, uint64_t offset, uint64_t size_bytes);

/// \brief The record in `bytes`, which is the one that `slot` names: checksum, structure,
/// ranges inside the segment's data part, and references to other segments only (O4).
arrow::Result<Record> OpenRecord(const region::Segment& segment, const format::Slot& slot,
                                 std::shared_ptr<arrow::Buffer> bytes);

/// \brief What a record's own prefix says of its size; nothing if `offset` is impossible.
std::optional<uint32_t> StoredSize(const region::Segment& segment, uint64_t offset);

/// \brief Of a line that its home has not finished, Busy: the line whose words 1 to 7 are
/// `words`, if its checksum tells which state and flags word 0 had. That is the old line
/// (nothing but Busy was stored) or the new one (all but word 0 was). `size_bytes` is the
/// record's.
std::optional<format::Slot> FindCutShort(const format::LineWords& words,
                                         uint32_t size_bytes);

/// \brief LOAD! every slot of `segment` in [begin, end) below its high-water mark.
/// IOError if one cannot be read and `on_unreadable` does not take it; the status of
/// `on_slot` if that fails.
arrow::Status ScanSlots(
    const region::Segment& segment,
    const std::function<arrow::Status(uint32_t slot, const format::Slot&)>& on_slot,
    const std::function<arrow::Status(uint32_t slot, arrow::Status)>& on_unreadable,
    uint32_t begin = 0, uint32_t end = std::numeric_limits<uint32_t>::max());

}  // namespace sheaf::directory
