#include "daemon/live_check.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/fsck.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/slot_reader.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "lease/lease.h"
#include "platform/file.h"
#include "platform/process.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

using format::LineState;

/// A home looks for leases on what is retired, and at others' heartbeats, at most so
/// often that a few looks see it.
constexpr int kLooks = 6;
constexpr std::chrono::milliseconds kBetweenLooks{100};

std::string NodeText(NodeId node) { return "node " + std::to_string(node.value); }

/// One look at everything.
class Look {
 public:
  explicit Look(const region::Region& region) : region_(region) {
    const auto counts = lease::CountLeases(region);
    if (counts.ok()) leases_ = *counts;
    AddIfError(counts.status());
    for (uint32_t k = 0; k < region.num_segments(); ++k) {
      const region::Segment* segment = region.segment({k});
      if (segment == nullptr) {
        Add({NodeText({k}), " has never been up: start it with: sheaf up"});
        continue;
      }
      CheckNode(*segment);
      CheckSlots(*segment);
      if (region.config().backend != region::Backend::kSim) CheckStructures({k});
    }
    CheckLeases();
    CheckLeader();
  }

  std::set<std::string> TakeProblems() { return std::move(problems_); }

 private:
  void Add(std::initializer_list<std::string_view> parts) {
    std::string text;
    for (const std::string_view part : parts) text += part;
    problems_.insert(std::move(text));
  }
  void AddIfError(const arrow::Status& status) {
    if (!status.ok()) Add({status.message()});
  }

  void CheckNode(const region::Segment& segment) {
    const NodeId node{segment.id().value};
    const auto line = region::ReadIncarnation(segment);
    if (!line.ok()) return Add({line.status().message()});
    if (line->state != static_cast<uint32_t>(format::NodeState::kUp)) {
      return Add({NodeText(node), " is down: start it again with: sheaf up"});
    }
    for (uint32_t k = 0; k < region_.num_segments(); ++k) {
      const region::Segment* home = region_.segment({k});
      if (home == nullptr || k == node.value) continue;
      const auto of_home = region::ReadIncarnation(*home);
      const bool is_up =
          of_home.ok() && of_home->state == static_cast<uint32_t>(format::NodeState::kUp);
      const region::AdmitLine seen = region::LoadAdmitLine(*home, node);
      if (!is_up || seen.incarnation == line->incarnation) continue;
      const bool is_off = seen.off >= line->incarnation;
      Add({NodeText({k}), " does not honour ", NodeText(node),
           seen.refused() < line->incarnation ? " yet"
           : is_off                           ? ": it was forgotten"
                                              : ": it was silent too long",
           is_off ? "; what that one held of it is free, it starts again by itself"
                  : "; what that one holds of it stays until it is back"});
    }
  }

  void CheckSlots(const region::Segment& segment) {
    const arrow::Status scanned = directory::ScanSlots(
        segment,
        [&](uint32_t index, const format::Slot& slot) {
          if (directory::IsInUse(directory::StateOf(slot)))
            CheckObject(segment, index, slot);
          return arrow::Status::OK();
        },
        [&](uint32_t, const arrow::Status& status) {
          AddIfError(status);
          return arrow::Status::OK();
        });
    AddIfError(scanned);
  }

  void CheckObject(const region::Segment& segment, uint32_t index,
                   const format::Slot& slot) {
    const ObjectId id{segment.id(), index, slot.generation};
    const auto record = directory::ReadRecord(segment, slot);
    if (!record.ok()) return AddIfError(record.status());
    for (const ObjectId& reference : record->references) {
      const std::string gone = WhyGone(reference);
      if (!gone.empty()) {
        Add({ObjectText(id), " refers to ", ObjectText(reference), gone});
      }
    }
    if (directory::StateOf(slot) == LineState::kRetired && !IsLeased(id)) {
      Add({ObjectText(id), " was removed and nobody reads it, but ",
           NodeText(NodeId{id.segment.value}), " does not reclaim it"});
    }
    if (directory::StateOf(slot) == LineState::kBound) CheckName(id, record->name);
  }

  void CheckName(const ObjectId& id, const std::string& name) {
    const auto found = directory::Lookup(region_, name);
    if (!found.ok()) return AddIfError(found.status());
    const std::optional<directory::Found>& there = *found;
    if (!there) {
      return Add({"'", name, "' is not found, but ", ObjectText(id), " has it"});
    }
    if (there->object == id) return;
    Add({"'", name, "' leads to ", ObjectText(there->object), ", but ", ObjectText(id),
         " has it as well"});
  }

  bool IsLeased(const ObjectId& id) const {
    return leases_.contains(
        format::PackLeaseCell(id.segment.value, id.slot, id.generation));
  }

  // Names are looked up in its index, and given by it.
  void CheckLeader() {
    const region::SegmentList segments = region::SegmentsOf(region_);
    const directory::LeaderView leader = directory::FindLeader(segments);
    if (leader.epoch == 0) {
      return Add({"no node leads the catalog: one that is up claims it in a moment"});
    }
    const auto line = region::ReadIncarnation(*segments[leader.node.value]);
    const bool is_up =
        line.ok() && line->state == static_cast<uint32_t>(format::NodeState::kUp);
    if (is_up && directory::HasIndex(segments, leader)) return;
    Add({NodeText(leader.node), " leads the catalog, but ",
         is_up ? "its index is not complete: it makes it now, or another node claims"
               : "is down: another node claims once it is seen to be"});
  }

  std::string WhyGone(const ObjectId& id) const {
    const region::Segment* segment = region_.segment(id.segment);
    if (segment == nullptr) return ", whose segment is not there";
    const auto slot = directory::ReadSlot(*segment, id.slot);
    if (!slot.ok()) return ": " + slot.status().message();
    // A cell has no more of it than this.
    if (((slot->generation ^ id.generation) & format::kGenerationLowMask) == 0 &&
        directory::IsInUse(directory::StateOf(*slot))) {
      return "";
    }
    return ", which is gone";
  }

  void CheckLeases() {
    for (const auto& [cell, count] : leases_) {
      const ObjectId leased{
          {format::HomeOfLeaseCell(cell)}, format::SlotOfLeaseCell(cell), cell};
      const std::string gone = WhyGone(leased);
      if (!gone.empty()) Add({"there is a lease on ", ObjectText(leased), gone});
    }
  }

  // What the daemon counts must be what its structures say.
  void CheckStructures(NodeId node) {
    const auto report = LookAtSegment(region_.config(), node);
    if (!report.ok()) return AddIfError(report.status());
    for (const std::string& problem : report->problems) {
      Add({NodeText(node), ": ", problem});
    }
    for (const uint64_t session : report->sessions) CheckSession(node, session);
    const region::Segment& segment = *region_.segment({node.value});
    const auto counted = region::ReadControlLine<format::StatisticsLine>(
        segment, segment.NodeLine(format::NodeLine::kStatistics));
    if (!counted || counted->free_bytes == report->free_bytes) return;
    Add({NodeText(node), " counts ", std::to_string(counted->free_bytes),
         " free bytes, but grants and tables leave ",
         std::to_string(report->free_bytes)});
  }

  void CheckSession(NodeId node, uint64_t session) {
    const auto holder =
        platform::FileLock::HolderOf(region_.config().session_lock_folder(node) + "/" +
                                     std::to_string(session) + ".lock");
    if (!holder.ok()) return AddIfError(holder.status());
    if (!holder->empty()) return;
    Add({"session ", std::to_string(session), " of ", NodeText(node),
         " has no process, but holds memory or leases"});
  }

  const region::Region& region_;
  lease::LeaseCounts leases_;
  std::set<std::string> problems_;
};

// As the first node whose segment is there sees it.
arrow::Result<std::shared_ptr<region::Region>> Attach(
    const region::ClusterConfig& config) {
  arrow::Status first = arrow::Status::Invalid("the cluster has no nodes");
  for (uint32_t k = 0; k < config.nodes; ++k) {
    auto region = region::Region::Attach(
        config, {.node = {k}, .role = region::Role::kClient, .relocate = true});
    if (region.ok()) return region;
    if (k == 0) first = region.status();
  }
  return first;
}

}  // namespace

arrow::Result<std::vector<std::string>> CheckLiveCluster(
    const region::ClusterConfig& config) {
  ARROW_ASSIGN_OR_RAISE(const auto region, Attach(config));
  std::set<std::string> problems = Look(*region).TakeProblems();
  for (int i = 1; i < kLooks && !problems.empty(); ++i) {
    platform::SleepFor(kBetweenLooks);
    ARROW_RETURN_NOT_OK(region->AttachMissing());
    const std::set<std::string> again = Look(*region).TakeProblems();
    std::set<std::string> both;
    std::ranges::set_intersection(problems, again, std::inserter(both, both.end()));
    problems = std::move(both);
  }
  return std::vector<std::string>(problems.begin(), problems.end());
}

}  // namespace sheaf::daemon
