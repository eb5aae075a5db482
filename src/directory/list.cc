// All bound names, read from the slots themselves.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/slot_reader.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "region/region.h"

namespace sheaf::directory {
namespace {

using ByName = std::map<std::string, Listed>;

/// True if the slot still holds what `slot` says, and is still Bound.
bool IsUnchanged(const region::Segment& segment, uint32_t index,
                 const format::Slot& slot) {
  const auto again = ReadSlot(segment, index);
  return again.ok() && again->generation == slot.generation &&
         StateOf(*again) == format::LineState::kBound;
}

void Add(const region::Segment& segment, uint32_t index, const format::Slot& slot,
         ByName* names) {
  if (StateOf(slot) != format::LineState::kBound) return;
  if (slot.version_epoch > kCatalogEpochMax) return;  // No look-up finds it either.
  auto record = ReadRecord(segment, slot);
  if (!record.ok() || !IsUnchanged(segment, index, slot)) return;
  Listed listed{{{segment.id(), index, slot.generation},
                 {slot.version_epoch, slot.version_sequence}},
                *std::move(record)};
  const auto [place, is_new] = names->try_emplace(listed.record.name);
  if (is_new || place->second.found.version < listed.found.version) {
    place->second = std::move(listed);
  }
}

}  // namespace

arrow::Result<std::vector<Listed>> List(const region::SegmentList& segments) {
  ByName names;
  for (const region::Segment* segment : segments) {
    if (segment == nullptr) continue;
    ARROW_RETURN_NOT_OK(ScanSlots(
        *segment,
        [&](uint32_t index, const format::Slot& slot) {
          Add(*segment, index, slot, &names);
          return arrow::Status::OK();
        },
        [](uint32_t, const arrow::Status&) { return arrow::Status::OK(); }));
  }
  std::vector<Listed> listed;
  listed.reserve(names.size());
  for (auto& [name, entry] : names) listed.push_back(std::move(entry));
  return listed;
}

arrow::Result<std::vector<Listed>> List(const region::Region& region) {
  return List(region::SegmentsOf(region));
}

}  // namespace sheaf::directory
