// What everybody may rely on in a record that was accepted.

#pragma once

#include <cstdint>

#include "base/check.h"
#include "base/math.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "sheaf/types.h"

namespace sheaf::fuzz {

inline void CheckRecord(const directory::Record& record) {
  SHEAF_CHECK(record.name.empty() || directory::ValidateName(record.name).ok());
  SHEAF_CHECK(record.num_rows >= 0 && record.num_columns >= 0);
  SHEAF_CHECK(record.num_chunks >= 0 && record.data_bytes >= 0);
  SHEAF_CHECK(record.descriptor != nullptr && record.descriptor->size() >= 0);
  uint64_t end = 0;
  for (const GlobalRange& range : record.own_ranges) {
    SHEAF_CHECK(range.begin.segment == record.own_ranges.front().begin.segment);
    SHEAF_CHECK(IsAligned(range.begin.offset, format::kGranuleBytes));
    SHEAF_CHECK(IsAligned(range.size_bytes, format::kGranuleBytes));
    SHEAF_CHECK(range.size_bytes > 0 && range.end_offset() > range.begin.offset);
    SHEAF_CHECK(range.begin.offset >= end);
    end = range.end_offset();
  }
  for (const ObjectId& id : record.references) {
    // Fits in a lease cell, which is then not empty.
    SHEAF_CHECK(id.segment.value < format::kNodesMax && id.slot < format::kSlotsMax);
    SHEAF_CHECK((id.generation & format::kGenerationLowMask) != 0);
  }
  SHEAF_CHECK(record.reference_extents.empty() ||
              record.reference_extents.size() == record.references.size());
}

/// \brief Besides, of a record that was read from segment `home` of that many bytes of
/// data.
inline void CheckRecordOf(const directory::Record& record, SegmentId home,
                          uint64_t data_size_bytes) {
  CheckRecord(record);
  for (const GlobalRange& range : record.own_ranges) {
    SHEAF_CHECK(range.begin.segment == home);
    SHEAF_CHECK(FitsWithin(range.begin.offset, range.size_bytes, data_size_bytes));
  }
  for (const ObjectId& id : record.references) SHEAF_CHECK(id.segment != home);
}

/// \brief True if all that a reader sees is the same.
inline bool IsSame(const directory::Record& a, const directory::Record& b) {
  return a.name == b.name && a.creator_session == b.creator_session &&
         a.created_unix_ns == b.created_unix_ns && a.num_rows == b.num_rows &&
         a.num_columns == b.num_columns && a.num_chunks == b.num_chunks &&
         a.data_bytes == b.data_bytes && a.own_ranges == b.own_ranges &&
         a.references == b.references && a.reference_extents == b.reference_extents &&
         a.descriptor->Equals(*b.descriptor);
}

}  // namespace sheaf::fuzz
