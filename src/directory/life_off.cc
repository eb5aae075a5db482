#include "directory/life_off.h"

#include <algorithm>
#include <cstdint>

#include <arrow/result.h>
#include <arrow/status.h>

#include "directory/directory.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::directory {
namespace {

/// What a home says of a life that far ahead is garbage, as for the node itself (F8).
constexpr uint64_t kAheadMax = uint64_t{1} << 30;

/// Of what the homes say is off of `node`, if anything.
template <typename Matches>
bool AnySays(const region::SegmentList& segments, NodeId node, const Matches& matches) {
  return std::ranges::any_of(segments, [&](const region::Segment* home) {
    if (home == nullptr || home->id().value == node.value) return false;
    const uint64_t off = region::LoadAdmitLine(*home, node).off;
    return off != 0 && matches(off);
  });
}

}  // namespace

bool IsLifeOff(const region::SegmentList& segments, NodeId node, uint64_t incarnation) {
  return incarnation != 0 && AnySays(segments, node, [&](uint64_t off) {
           return off >= incarnation && off - incarnation < kAheadMax &&
                  format::FormatEpochOf(off) == format::FormatEpochOf(incarnation);
         });
}

bool IsHomeOff(const region::Region& region, const ObjectId& object) {
  return object.segment.value < region.num_segments() &&
         region::LoadAdmitLine(region.own_segment(), {object.segment.value}).is_off();
}

arrow::Status CheckLife(const region::Region& region, const Record& record) {
  const uint64_t incarnation = record.home_incarnation;
  if (!IsLifeOff(region::SegmentsOf(region), region.node(), incarnation)) {
    return arrow::Status::OK();
  }
  return arrow::Status::Invalid("it was prepared in incarnation ", incarnation,
                                " of node ", region.node().value,
                                ", which was declared off since: it is never put");
}

arrow::Result<bool> IsOfLifeOff(const region::SegmentList& segments,
                                const region::Segment& home, const format::Slot& slot) {
  // A record may be large, and few nodes ever were off.
  const NodeId node{home.id().value};
  if (!AnySays(segments, node, [](uint64_t) { return true; })) return false;
  ARROW_ASSIGN_OR_RAISE(const Record record, ReadRecord(home, slot));
  return IsLifeOff(segments, node, record.home_incarnation);
}

}  // namespace sheaf::directory
