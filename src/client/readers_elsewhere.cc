#include "client/readers_elsewhere.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/checksum.h"
#include "format/layout.h"
#include "format/lease_cell.h"
#include "lease/lease.h"
#include "platform/cache.h"
#include "platform/file.h"
#include "platform/process.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "region/served_check.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

using region::ClusterConfig;

std::string AdviceText(const ClusterConfig& config) {
  return "; nothing was given up, and its tables are kept: sheaf --cluster " +
         config.name + " down again when that is done";
}

arrow::Status CheckProcessesOf(const ClusterConfig& config, NodeId node) {
  std::error_code error;
  for (std::filesystem::directory_iterator entry(config.session_lock_folder(node), error),
       end;
       !error && entry != end; entry.increment(error)) {
    ARROW_ASSIGN_OR_RAISE(const std::string holder,
                          platform::FileLock::HolderOf(entry->path().string()));
    if (holder.empty()) continue;
    return arrow::Status::IOError(holder, " still uses node ", node.value,
                                  ", whose device it has mapped: end it",
                                  AdviceText(config));
  }
  return arrow::Status::OK();
}

// Its sessions and their cells are of this boot of this host: they are told apart by
// their locks.
bool IsOfThisHost(const region::Segment& segment) {
  const auto line = region::PeekIncarnation(segment);
  return line && line->boot == platform::BootNumber();
}

// F2: settled, and then what their readers wrote before they saw it is in memory, too.
void WithdrawAll(region::Segment* own, const ClusterConfig& config) {
  for (uint32_t k = 0; k < own->header().nodes_max; ++k) {
    if (k == own->id().value) continue;
    const uint64_t incarnation = region::LoadAdmitLine(*own, {k}).incarnation;
    if (incarnation != 0) region::StoreWithdrawn(own, {k}, incarnation);
  }
  if (config.settle_class != platform::SettleClass::kPosted) return;
  platform::SleepFor(std::chrono::microseconds(config.posted_delay_us));
}

class UseElsewhere {
 public:
  UseElsewhere(const region::Region& region, NodeId home)
      : region_(region), config_(region.config()), home_(home) {}

  arrow::Status Check() const {
    for (uint32_t k = 0; k < region_.num_segments(); ++k) {
      const region::Segment* segment = region_.segment({k});
      if (segment == nullptr || !IsElsewhere({k})) continue;
      const arrow::Status status = CheckLeasesOf({k});
      if (!status.ok()) return status;
    }
    return CheckGuests();
  }
  arrow::Status CannotTell(const std::string& why) const {
    return arrow::Status::IOError(
        "whether sessions of other hosts still use the memory of node ", home_.value,
        " cannot be told: ", why,
        ": end the clients of all hosts, and then say: sheaf --cluster ", config_.name,
        " down --force; nothing was given up, and its tables are kept");
  }

 private:
  bool IsElsewhere(NodeId node) const {
    if (node == home_ || region::LoadAdmitLine(region_.own_segment(), node).is_off()) {
      return false;
    }
    const region::Segment* segment = region_.segment({node.value});
    return segment == nullptr || !IsOfThisHost(*segment);
  }

  arrow::Status CheckLeasesOf(NodeId reader) const {
    region::SegmentList only(region_.num_segments(), nullptr);
    only[reader.value] = region_.segment({reader.value});
    const auto counts = lease::CountLeases(only);
    if (!counts.ok()) {
      return CannotTell("node " + std::to_string(reader.value) + ": " +
                        counts.status().message());
    }
    const bool is_reading = std::ranges::any_of(*counts, [&](const auto& count) {
      return format::HomeOfLeaseCell(count.first) == home_.value;
    });
    if (!is_reading) return arrow::Status::OK();
    return arrow::Status::IOError(
        "sessions of node ", reader.value,
        ", on another host, still read tables of node ", home_.value,
        ": end them, or, if that node is off for good, start this one and say: ",
        "sheaf node forget ", reader.value, AdviceText(config_));
  }

  // Of a session that is over its node says so, to a daemon that runs (D3).
  arrow::Status CheckGuests() const {
    const region::Segment& own = region_.own_segment();
    for (uint32_t grant = 0; grant < own.header().grants_max; ++grant) {
      const auto line = format::OpenLine<format::Grant>(
          region::LoadControlLine(own, own.GrantLine(grant)));
      const bool is_owned =
          line && line->state == static_cast<uint8_t>(format::LineState::kOwned);
      if (!is_owned || !IsElsewhere({line->owner_node})) continue;
      return arrow::Status::IOError(
          "sessions of node ", line->owner_node,
          ", on another host, build in the memory ", "of node ", home_.value,
          ", or ended a moment ago: start this node, end them, ",
          "or, if that node is off for good, say: sheaf node forget ", line->owner_node,
          AdviceText(config_));
    }
    return arrow::Status::OK();
  }

  const region::Region& region_;
  const ClusterConfig& config_;
  NodeId home_;
};

// As the home itself, which nobody serves.
arrow::Status CheckHome(const ClusterConfig& config, NodeId home, bool force) {
  const region::AttachOptions options{
      .node = home, .role = region::Role::kDaemon, .relocate = true, .own_only = true};
  const auto region = region::Region::Attach(config, options);
  if (!region.ok()) {
    // What is not there nobody uses, and another's is not given up.
    if (force || !region.status().IsInvalid()) return arrow::Status::OK();
    return arrow::Status::IOError(
        region.status().message(),
        ": whether sessions of other hosts still use it cannot ",
        "be told: end the clients of all hosts, and then say: sheaf --cluster ",
        config.name, " down --force");
  }
  ARROW_ASSIGN_OR_RAISE(const auto lock, region::LockSegment(config, home));
  const arrow::Status served = region::CheckNotServed(config, (*region)->own_segment());
  // Another host's, which does not name its nodes: it stays.
  if (!served.ok()) return served.IsAlreadyExists() ? arrow::Status::OK() : served;
  WithdrawAll(&(*region)->own_segment(), config);
  if (force) return arrow::Status::OK();
  const arrow::Status attached = (*region)->AttachMissing();
  const UseElsewhere use(**region, home);
  if (!attached.ok()) return use.CannotTell(attached.message());
  return use.Check();
}

}  // namespace

arrow::Status CheckNotUsedElsewhere(const ClusterConfig& config, bool force) {
  if (!config.UsesDevices() && !config.NamesHosts()) return arrow::Status::OK();
  if (config.UsesDevices() && region::HasSegments(config)) {
    // For the locks: the memory is there without a folder.
    ARROW_RETURN_NOT_OK(region::PrepareMemoryFolder(config));
  }
  for (const NodeId home : config.LocalNodes()) {
    if (config.UsesDevices()) ARROW_RETURN_NOT_OK(CheckProcessesOf(config, home));
    ARROW_RETURN_NOT_OK(CheckHome(config, home, force));
  }
  return arrow::Status::OK();
}

}  // namespace sheaf::client
