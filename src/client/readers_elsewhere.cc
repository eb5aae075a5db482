#include "client/readers_elsewhere.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/lease_cell.h"
#include "lease/lease.h"
#include "platform/file.h"
#include "platform/process.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
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

arrow::Status CheckLeasesOf(const region::Region& region, NodeId reader, NodeId home) {
  const region::Segment* of_home = region.segment({home.value});
  if (of_home == nullptr || region::LoadAdmitLine(*of_home, reader).is_off()) {
    return arrow::Status::OK();
  }
  region::SegmentList only(region.num_segments(), nullptr);
  only[reader.value] = region.segment({reader.value});
  ARROW_ASSIGN_OR_RAISE(const auto counts, lease::CountLeases(only));
  const bool is_reading = std::ranges::any_of(counts, [&](const auto& count) {
    return format::HomeOfLeaseCell(count.first) == home.value;
  });
  if (!is_reading) return arrow::Status::OK();
  const ClusterConfig& config = region.config();
  return arrow::Status::IOError(
      "sessions of node ", reader.value, ", on another host, still read tables of node ",
      home.value,
      ": end them, or, if that node is off for good, start this one and say: ",
      "sheaf node forget ", reader.value, AdviceText(config));
}

}  // namespace

arrow::Status CheckNotReadElsewhere(const ClusterConfig& config) {
  if (!config.UsesDevices() && !config.NamesHosts()) return arrow::Status::OK();
  for (const NodeId home : config.LocalNodes()) {
    if (config.UsesDevices()) ARROW_RETURN_NOT_OK(CheckProcessesOf(config, home));
    const auto region = region::Region::Attach(config, {home, region::Role::kReader});
    if (!region.ok()) continue;
    for (uint32_t k = 0; k < config.nodes; ++k) {
      const region::Segment* segment = (*region)->segment({k});
      if (segment == nullptr || k == home.value || IsOfThisHost(*segment)) continue;
      ARROW_RETURN_NOT_OK(CheckLeasesOf(**region, {k}, home));
    }
  }
  return arrow::Status::OK();
}

}  // namespace sheaf::client
