#include "client/keeper_watch.h"

#include <cstdint>
#include <optional>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "region/admit_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

bool IsSameLife(const region::AdmitLine& a, const region::AdmitLine& b) {
  return a.incarnation == b.incarnation && a.withdrawn == b.withdrawn && a.off == b.off;
}

}  // namespace

void KeeperWatch::Note(SegmentId home) {
  const auto [place, is_new] = views_.try_emplace(home);
  const region::Segment* segment = region_.segment(home);
  if (!is_new || segment == nullptr) return;
  place->second.before = region::LoadAdmitLine(*segment, keeper_);
}

// A home notes that a node is off before it scans without that one's cells, and admits it
// again after it has freed what such a scan found. So while the line says the same all
// the time, and not off, each scan saw the keeper's cell, or ours. Else the slot is read
// once more, after the line: if the keeper is off, only what is not Retired yet is safe.
arrow::Result<bool> KeeperWatch::IsKept(const ObjectId& reference) {
  const region::Segment* segment = region_.segment(reference.segment);
  SHEAF_CHECK(segment != nullptr);  // It is leased.
  View& view = views_[reference.segment];
  if (!view.after) view.after = region::LoadAdmitLine(*segment, keeper_);
  const bool is_off = view.after->is_off();
  if (!is_off && view.before && IsSameLife(*view.before, *view.after)) return true;
  const auto slot = directory::ReadSlot(*segment, reference.slot);
  if (IsStaleGeneration(slot.status())) return false;
  ARROW_RETURN_NOT_OK(slot.status());
  if (slot->generation != reference.generation) return false;
  return directory::IsReadable(*slot) ||
         (!is_off && slot->state == static_cast<uint8_t>(format::LineState::kRetired));
}

}  // namespace sheaf::client
