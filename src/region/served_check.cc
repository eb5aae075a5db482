#include "region/served_check.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <system_error>

#include <arrow/status.h>

#include "format/layout.h"
#include "platform/process.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/part_set.h"
#include "region/region.h"

namespace sheaf::region {
namespace {

constexpr std::chrono::milliseconds kBetweenLooks{10};

uint64_t Heartbeat(const Segment& segment) {
  return LoadControlLine(segment, segment.NodeLine(format::NodeLine::kHeartbeat))[0];
}

}  // namespace

arrow::Status CheckNotServed(const ClusterConfig& config, const Segment& segment) {
  const auto line = PeekIncarnation(segment);
  if (line) {
    const bool is_down = line->state != static_cast<uint32_t>(format::NodeState::kUp);
    if (is_down || line->boot == platform::BootNumber()) return arrow::Status::OK();
  }
  const auto end =
      platform::BootTime() + std::chrono::milliseconds(config.suspect_after_ms);
  const uint64_t first = Heartbeat(segment);
  while (platform::BootTime() < end) {
    platform::SleepFor(kBetweenLooks);
    if (Heartbeat(segment) == first) continue;
    return arrow::Status::AlreadyExists(
        "node ", segment.id().value, " of cluster '", config.name,
        "' runs on another host, where its heart beats: end it there, or take another "
        "node");
  }
  return arrow::Status::OK();
}

bool IsGivenUpSince(const Segment& segment) {
  // One line tells, and daemons look often.
  static_assert(offsetof(format::SegmentHeader, format_epoch) + sizeof(uint64_t) <=
                format::kLineBytes);
  const format::LineWords now = LoadControlLine(segment, segment.ControlLine(0));
  const format::SegmentHeader& mapped = segment.header();
  return now[offsetof(format::SegmentHeader, magic) / sizeof(uint64_t)] != mapped.magic ||
         now[offsetof(format::SegmentHeader, format_epoch) / sizeof(uint64_t)] !=
             mapped.format_epoch;
}

bool IsLaidOutAsMapped(const Segment& segment) {
  const Part& control = segment.control();
  control.cache()->Invalidate(control.data(), sizeof(format::SegmentHeader));
  format::SegmentHeader now;
  std::memcpy(&now, control.data(), sizeof(now));
  const format::SegmentHeader& mapped = segment.header();
  // Given up, or being formatted: what it was formatted for shows soon.
  if (now.magic == 0 || now.format_epoch == mapped.format_epoch) return true;
  return now.control_size_bytes == mapped.control_size_bytes &&
         now.nodes_max == mapped.nodes_max && now.slots_max == mapped.slots_max &&
         now.grants_max == mapped.grants_max &&
         now.lease_pages_max == mapped.lease_pages_max &&
         now.data_size_bytes == mapped.data_size_bytes &&
         now.cluster_id == mapped.cluster_id;
}

bool IsFormattedAnew(const ClusterConfig& config, const Segment& segment) {
  if (config.UsesDevices()) return !IsLaidOutAsMapped(segment);
  std::error_code ignored;
  return IsGivenUpSince(segment) &&
         std::filesystem::exists(PartPath(config, segment.id(), PartKind::kControl),
                                 ignored);
}

}  // namespace sheaf::region
