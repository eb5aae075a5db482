// Objects of a life of their home that was declared off (docs/protocol.md F8): what it
// leased at other homes may be gone, and its sessions are over.

#pragma once

#include <cstdint>

#include <arrow/result.h>
#include <arrow/status.h>

#include "directory/directory.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::directory {

/// \brief True if a home says that `incarnation` of `node`, or a later one, is off; once
/// so, for ever. 0, none, never is. LOAD! of a line of each of `segments`; null ones say
/// nothing. Any process.
bool IsLifeOff(const region::SegmentList& segments, NodeId node, uint64_t incarnation);

/// \brief True if the home of `object` is off for the own node's. Never for an own
/// object.
bool IsHomeOff(const region::Region& region, const ObjectId& object);

/// \brief Invalid if IsLifeOff of the own node's, in which it sealed `record` under a
/// name: if that is not visible it is *void*, and never put (C9).
arrow::Status CheckLife(const region::Region& region, const Record& record);

/// \brief IsLifeOff of the life in which `home` sealed what `slot` (as just read) names.
/// An error if its record cannot be read (any more).
arrow::Result<bool> IsOfLifeOff(const region::SegmentList& segments,
                                const region::Segment& home, const format::Slot& slot);

}  // namespace sheaf::directory
