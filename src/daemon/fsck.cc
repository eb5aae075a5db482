#include "daemon/fsck.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range.h"
#include "daemon/grant_table.h"
#include "daemon/guest_table.h"
#include "daemon/home_life.h"
#include "daemon/space.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "lease/lease.h"
#include "platform/file.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "ring/ring.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

using format::LineState;

/// The structures of one segment, adopted as its daemon would.
struct Structures {
  explicit Structures(region::Region* attached)
      : region(attached),
        pages(&attached->own_segment()),
        guests(pages, [this] { return ++last_guest; }),
        space(&attached->own_segment(), GrantOwner{attached->node(), 0, 0}),
        directory(&attached->own_segment()) {
    space.AdoptGuests(&guests);
  }
  region::Region* region;
  uint64_t last_guest = uint64_t{1} << 62;  // Above all numbers of sessions.
  lease::PageTable pages;
  GuestTable guests;
  Space space;
  directory::HomeDirectory directory;
};

// A reference keeps bytes of another home readable; without them rows are lost.
void CheckReferences(const Structures& of, const ObjectId& object,
                     const directory::Record& record, SegmentReport* report) {
  for (const ObjectId& reference : record.references) {
    const region::Segment* segment = of.region->segment(reference.segment);
    std::string problem;
    if (segment == nullptr) {
      problem = "whose segment is not there";
    } else if (const auto slot = directory::ReadSlot(*segment, reference.slot);
               !slot.ok() || slot->generation != reference.generation ||
               slot->state == static_cast<uint8_t>(LineState::kFree)) {
      problem = "which is gone";
    }
    if (problem.empty()) continue;
    report->problems.push_back(ObjectText(object) + " ('" + record.name +
                               "') refers to " + ObjectText(reference) + ", " + problem);
  }
}

void CheckObjects(Structures* of, SegmentReport* report) {
  std::map<std::string, ObjectId> bound;
  for (const LineState state :
       {LineState::kSealed, LineState::kBound, LineState::kRetired}) {
    for (const ObjectId& object : of->directory.ObjectsIn(state)) {
      ++(state == LineState::kRetired ? report->retired : report->objects);
      const auto record = of->directory.GetRecord(object);
      if (!record.ok()) continue;
      std::vector<alloc::Range> ranges;
      for (const GlobalRange& range : (*record)->own_ranges) {
        ranges.push_back({range.begin.offset, range.size_bytes});
      }
      of->space.AdoptObject(ranges);
      CheckReferences(*of, object, **record, report);
      if (state != LineState::kBound) continue;
      const auto [first, is_new] = bound.emplace((*record)->name, object);
      if (!is_new) {  // a replace that was cut short: its leader finishes it
        report->problems.push_back("'" + (*record)->name + "' is the name of " +
                                   ObjectText(first->second) + " and of " +
                                   ObjectText(object));
      }
    }
  }
}

void CheckCells(const Structures& of, SegmentReport* report) {
  const auto counts = lease::CountLeases({&of.region->own_segment()});
  if (!counts.ok()) {
    report->problems.push_back(counts.status().message());
    return;
  }
  for (const auto& [cell, count] : *counts) report->cells += count;
}

// The lines of rings tell themselves whole; their sender's next life writes them anew.
void CheckRings(const region::Segment& own, SegmentReport* report) {
  for (const NodeId peer : ring::DamagedEnds(own)) {
    report->problems.push_back("ring end " + std::to_string(own.id().value) + ":" +
                               std::to_string(peer.value) + " is damaged");
  }
}

void Summarise(const Structures& of, SegmentReport* report) {
  const region::Segment& own = of.region->own_segment();
  report->format_epoch = own.header().format_epoch;
  if (const auto line = region::ReadIncarnation(own); line.ok()) {
    report->incarnation = line->incarnation;
  } else {
    report->problems.push_back(line.status().message());
  }
  report->grants = of.space.num_grants();
  std::vector<uint64_t>& sessions = report->sessions;
  sessions = of.pages.Sessions();
  const std::vector<uint64_t> with_grants = of.space.Sessions();
  sessions.insert(sessions.end(), with_grants.begin(), with_grants.end());
  std::erase_if(sessions, IsHomeSession);
  std::erase_if(sessions, [&](uint64_t session) { return of.guests.Has(session); });
  std::ranges::sort(sessions);
  const auto repeated = std::ranges::unique(sessions);
  sessions.erase(repeated.begin(), repeated.end());
  report->free_bytes = of.space.ranges().free_bytes();
  report->used_bytes = of.space.ranges().size_bytes() - report->free_bytes;
  for (const auto& problems : {of.directory.problems(), of.space.problems()}) {
    report->problems.insert(report->problems.end(), problems.begin(), problems.end());
  }
}

arrow::Result<SegmentReport> Inspect(region::Region* region) {
  SegmentReport report;
  report.segment = region->own_segment().id();
  Structures structures(region);
  CheckObjects(&structures, &report);
  CheckCells(structures, &report);
  CheckRings(region->own_segment(), &report);
  Summarise(structures, &report);
  return report;
}

// Whose process lives may read what is damaged, and write what it was granted.
arrow::Status CheckNoSessionLives(const region::ClusterConfig& config, NodeId node) {
  std::error_code error;
  const std::string folder = config.session_lock_folder(node);
  for (std::filesystem::directory_iterator entry(folder, error), end;
       !error && entry != end; entry.increment(error)) {
    ARROW_ASSIGN_OR_RAISE(const std::string holder,
                          platform::FileLock::HolderOf(entry->path().string()));
    if (holder.empty()) continue;
    return arrow::Status::Invalid(
        "nothing was repaired: ", holder, " still uses node ", node.value,
        ", and may read or write what is damaged: end it first");
  }
  return arrow::Status::OK();
}

// Only the daemon of its own node can tell that one of another node has ended.
arrow::Status CheckNoGuest(const Structures& of) {
  for (const uint64_t session : of.space.Sessions()) {
    const auto guest = of.guests.NameOf(session);
    if (!guest) continue;
    return arrow::Status::Invalid(
        "nothing was repaired: sessions of node ", guest->node.value,
        " may still write memory of node ", of.region->node().value,
        ": end them while the daemons of both nodes run, or declare that node off with: "
        "sheaf node forget ",
        guest->node.value);
  }
  return arrow::Status::OK();
}

arrow::Status CheckNoLeases(const region::Region& region) {
  ARROW_ASSIGN_OR_RAISE(const auto leased,
                        lease::ScanLeases(region, region.own_segment().id()));
  if (leased.empty()) return arrow::Status::OK();
  return arrow::Status::Invalid(
      "nothing was repaired: other nodes still read tables of node ", region.node().value,
      ", and it cannot be told which bytes the damaged ones have: end their readers "
      "first, with: sheaf down --keep, and the processes that use Sheaf");
}

arrow::Status RepairSegment(const region::ClusterConfig& config, NodeId node) {
  ARROW_RETURN_NOT_OK(CheckNoSessionLives(config, node));
  ARROW_ASSIGN_OR_RAISE(const auto region,
                        region::Region::Attach(config, {node, region::Role::kDaemon}));
  Structures structures(region.get());
  ARROW_RETURN_NOT_OK(CheckNoGuest(structures));
  for (const uint64_t session : structures.pages.Sessions()) {
    // No process has it any more; what the home leases of others (O4) its next life
    // needs.
    if (!IsHomeSession(session)) structures.pages.Release(session);
  }
  ARROW_RETURN_NOT_OK(CheckNoLeases(*region));
  structures.directory.DisuseDamaged();
  region::Segment* const own = &region->own_segment();
  ring::ClearEnds(own, ring::DamagedEnds(*own));
  GrantTable grants(own);
  return grants.FreeAll();
}

}  // namespace

std::string ObjectText(const ObjectId& object) {
  return "object " + std::to_string(object.segment.value) + ":" +
         std::to_string(object.slot);
}

arrow::Result<SegmentReport> LookAtSegment(const region::ClusterConfig& config,
                                           NodeId node) {
  ARROW_ASSIGN_OR_RAISE(const auto region,
                        region::Region::Attach(config, {node, region::Role::kInspector}));
  return Inspect(region.get());
}

arrow::Result<SegmentReport> CheckSegment(const region::ClusterConfig& config,
                                          NodeId node, Repair repair) {
  ARROW_ASSIGN_OR_RAISE(const platform::FileLock lock, region::LockSegment(config, node));
  ARROW_ASSIGN_OR_RAISE(SegmentReport report, LookAtSegment(config, node));
  if (repair == Repair::kYes && !report.problems.empty()) {
    ARROW_RETURN_NOT_OK(RepairSegment(config, node));
    std::vector<std::string> found = std::move(report.problems);
    ARROW_ASSIGN_OR_RAISE(report, LookAtSegment(config, node));
    report.repaired = report.problems.empty();
    report.problems = std::move(found);
  }
  ARROW_RETURN_NOT_OK(lock.Remove());
  return report;
}

}  // namespace sheaf::daemon
