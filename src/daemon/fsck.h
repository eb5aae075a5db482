// Looks at every structure of a segment: for good while no daemon has it, or as it is
// now.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <arrow/result.h>

#include "region/cluster_config.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief What is in one segment, and what is wrong with it.
struct SegmentReport {
  SegmentId segment;
  uint64_t format_epoch = 0;
  uint64_t incarnation = 0;
  uint32_t objects = 0;  ///< Sealed or Bound.
  uint32_t retired = 0;
  uint32_t grants = 0;  ///< Held by sessions that may still live.
  /// Ids of those that have lease pages or grants, in order; not the home itself.
  std::vector<uint64_t> sessions;
  uint64_t cells = 0;  ///< Leases of those sessions, and of the home.
  uint64_t used_bytes = 0;
  uint64_t free_bytes = 0;
  std::vector<std::string> problems;  ///< One sentence each.
  bool repaired = false;
};

enum class Repair : uint8_t { kNo, kYes };

/// \brief Check `node`'s segment; its daemon must not run (AlreadyExists names it). Reads
/// copies: without `repair` nothing changes. With it: damaged slots and grant lines are
/// taken out of use, for ever, and what sessions held comes back; that needs that nobody
/// can read those tables any more, so Invalid if a process of this node still holds its
/// session lock or another node leases what is damaged. KeyError if there is no such
/// segment, Invalid if it is not this cluster's.
arrow::Result<SegmentReport> CheckSegment(const region::ClusterConfig& config,
                                          NodeId node, Repair repair);

/// \brief What CheckSegment would find now, though a daemon may run: one that changes
/// something meanwhile makes problems that are none. Changes nothing. NotImplemented for
/// the simulator.
arrow::Result<SegmentReport> LookAtSegment(const region::ClusterConfig& config,
                                           NodeId node);

/// \brief How problems name an object: "object 0:17", its segment and slot.
std::string ObjectText(const ObjectId& object);

}  // namespace sheaf::daemon
