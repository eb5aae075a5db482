#include <cstddef>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <fmt/format.h>

#include "apps/sheaf/commands.h"
#include "apps/sheaf/connect.h"
#include "apps/sheaf/output.h"
#include "daemon/fsck.h"
#include "region/cluster_config.h"
#include "region/which_node.h"
#include "sheaf/cluster.h"
#include "sheaf/types.h"

namespace sheaf::cli {
namespace {

using daemon::SegmentReport;

Json ToJson(const SegmentReport& report) {
  return {{"node", report.segment.value},       {"format_epoch", report.format_epoch},
          {"incarnation", report.incarnation},  {"objects", report.objects},
          {"retired", report.retired},          {"grants", report.grants},
          {"sessions", report.sessions.size()}, {"leases", report.cells},
          {"used_bytes", report.used_bytes},    {"free_bytes", report.free_bytes},
          {"problems", report.problems},        {"repaired", report.repaired}};
}

void Print(const std::vector<SegmentReport>& reports) {
  TextTable table({{"NODE", Align::kRight},
                   {"OBJECTS", Align::kRight},
                   {"RETIRED", Align::kRight},
                   {"GRANTS", Align::kRight},
                   {"SESSIONS", Align::kRight},
                   {"LEASES", Align::kRight},
                   {"USED", Align::kRight},
                   {"FREE", Align::kRight},
                   {"PROBLEMS", Align::kRight}});
  for (const SegmentReport& report : reports) {
    table.AddRow({std::to_string(report.segment.value), std::to_string(report.objects),
                  std::to_string(report.retired), std::to_string(report.grants),
                  std::to_string(report.sessions.size()), std::to_string(report.cells),
                  HumanBytes(report.used_bytes), HumanBytes(report.free_bytes),
                  std::to_string(report.problems.size())});
  }
  PrintText(table.ToString());
  for (const SegmentReport& report : reports) {
    for (const std::string& problem : report.problems) {
      PrintText(fmt::format("node {}: {}\n", report.segment.value, OneLine(problem)));
    }
    if (report.repaired) {
      PrintText(fmt::format("node {}: repaired; what was damaged is gone\n",
                            report.segment.value));
    }
  }
}

arrow::Status CheckIsHere(const region::ClusterConfig& config, NodeId node) {
  ARROW_RETURN_NOT_OK(region::CheckIsNode(config, node, "cluster '" + config.name + "'"));
  if (config.IsLocal(node)) return arrow::Status::OK();
  return arrow::Status::Invalid(region::OtherHostText(config, node),
                                ": it is checked there");
}

}  // namespace

arrow::Result<region::ClusterConfig> LoadConfig(const std::string& cluster) {
  ARROW_ASSIGN_OR_RAISE(const std::string name, ResolveClusterName(cluster));
  auto config = region::ClusterConfig::Load(region::ClusterFilePath(name));
  if (!config.status().IsKeyError()) return config;
  region::ClusterConfig lost;
  lost.name = name;
  lost.ApplyDefaults();
  config = region::ClusterConfig::Load(region::KeptClusterFilePath(lost));
  if (!config.status().IsKeyError()) return config;
  return arrow::Status::KeyError("no cluster '", name, "' on this host");
}

arrow::Status Fsck(const Global& global, bool repair) {
  ARROW_ASSIGN_OR_RAISE(const region::ClusterConfig config, LoadConfig(global.cluster));
  if (global.node) ARROW_RETURN_NOT_OK(CheckIsHere(config, {*global.node}));
  std::vector<SegmentReport> reports;
  size_t left = 0;
  for (const NodeId node : config.LocalNodes()) {
    if (global.node && *global.node != node.value) continue;
    ARROW_ASSIGN_OR_RAISE(
        reports.emplace_back(),
        daemon::CheckSegment(config, node,
                             repair ? daemon::Repair::kYes : daemon::Repair::kNo));
    if (!reports.back().repaired) left += reports.back().problems.size();
  }
  if (global.json) {
    Json array = Json::array();
    for (const SegmentReport& report : reports) array.push_back(ToJson(report));
    PrintJson(array);
  } else {
    Print(reports);
  }
  if (left == 0) return arrow::Status::OK();
  return arrow::Status::IOError(
      left, left == 1 ? " problem" : " problems", " found",
      repair ? ": not all can be repaired; remove the tables that are named, or give up "
               "the memory: sheaf down"
             : "; sheaf fsck --repair takes what is damaged out of use");
}

}  // namespace sheaf::cli
