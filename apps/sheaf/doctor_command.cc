#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <fmt/format.h>

#include "apps/sheaf/commands.h"
#include "apps/sheaf/connect.h"
#include "apps/sheaf/doctor_messages.h"
#include "apps/sheaf/etcd_check.h"
#include "apps/sheaf/output.h"
#include "daemon/live_check.h"
#include "platform/cache.h"
#include "platform/device.h"
#include "platform/file.h"
#include "platform/machine.h"
#include "region/cluster_config.h"
#include "region/device_window.h"
#include "region/region.h"
#include "sheaf/cluster.h"
#include "sheaf/store.h"

namespace sheaf::cli {
namespace {

std::string LimitText(const std::optional<uint64_t>& bytes) {
  return bytes ? HumanBytes(*bytes) : "no limit";
}

Json LimitJson(const std::optional<uint64_t>& bytes) {
  return bytes ? Json(*bytes) : Json(nullptr);
}

// Empty if user space can flush its caches here.
std::string CacheError() {
  return platform::MakeSoftwareCacheControl(platform::SettleClass::kArrived, 0)
      .status()
      .message();
}

std::string CacheText() {
  if (!CacheError().empty()) return "none: coherence = software cannot be used";
  return fmt::format("{}; lines of {} B; self-test passed", platform::CacheInstructions(),
                     platform::CacheLineBytes());
}

uint64_t SharedMemoryFreeBytes() {
  return platform::FileSystemFreeBytes("/dev/shm").ValueOr(0);
}

Facts FactsOf(const platform::Machine& machine) {
  return {
      {"machine", fmt::format("{} CPUs, {}, Linux {}", machine.cpus, machine.architecture,
                              machine.kernel)},
      {"memory", fmt::format("{}, {} available", HumanBytes(machine.memory_bytes),
                             HumanBytes(machine.available_bytes))},
      {"/dev/shm", HumanBytes(SharedMemoryFreeBytes()) + " free"},
      {"pages", HumanBytes(machine.page_bytes)},
      {"huge pages",
       machine.huge_page_bytes == 0
           ? "none"
           : fmt::format("{}, in a tmpfs: {}", HumanBytes(machine.huge_page_bytes),
                         machine.huge_pages_in_tmpfs)},
      {"cache operations", CacheText()},
      {"open files", std::to_string(machine.open_files_max)},
      {"mappings", std::to_string(machine.mappings_max)},
      {"size of a file", LimitText(machine.file_size_max_bytes)},
      {"address space", LimitText(machine.address_space_max_bytes)},
  };
}

Json JsonOf(const platform::Machine& machine) {
  const bool can_flush = CacheError().empty();
  return {
      {"cpus", machine.cpus},
      {"architecture", machine.architecture},
      {"kernel", machine.kernel},
      {"memory_bytes", machine.memory_bytes},
      {"memory_available_bytes", machine.available_bytes},
      {"shared_memory_free_bytes", SharedMemoryFreeBytes()},
      {"page_bytes", machine.page_bytes},
      {"huge_page_bytes", machine.huge_page_bytes},
      {"huge_pages_in_tmpfs", machine.huge_pages_in_tmpfs},
      {"cache_instructions", can_flush ? platform::CacheInstructions() : ""},
      {"cache_line_bytes", platform::CacheLineBytes()},
      {"cache_self_test_passed", can_flush},
      {"open_files_max", machine.open_files_max},
      {"mappings_max", machine.mappings_max},
      {"file_size_max_bytes", LimitJson(machine.file_size_max_bytes)},
      {"address_space_max_bytes", LimitJson(machine.address_space_max_bytes)},
  };
}

// What a process needs of this machine to use a cluster like that.
Problems MachineProblems(const platform::Machine& machine,
                         const region::ClusterConfig& config) {
  Problems problems;
  const uint64_t full = region::FullBytes(config);
  if (config.coherence == region::Coherence::kSoftware &&
      config.backend != region::Backend::kSim) {
    const std::string error = CacheError();
    if (!error.empty()) problems.push_back(error);
  }
  if (machine.file_size_max_bytes &&
      *machine.file_size_max_bytes < config.segment_size_bytes) {
    problems.push_back(fmt::format(
        "a file may have {} here, but a segment has {}: raise it with: ulimit -f",
        HumanBytes(*machine.file_size_max_bytes), HumanBytes(config.segment_size_bytes)));
  }
  if (machine.address_space_max_bytes && *machine.address_space_max_bytes < full) {
    problems.push_back(fmt::format(
        "a process may map {} here, but the cluster has {}: raise it with: ulimit -v",
        HumanBytes(*machine.address_space_max_bytes), HumanBytes(full)));
  }
  return problems;
}

// Not wrong, but worth knowing.
std::string AddressText(const region::ClusterConfig& config) {
  const uint64_t size =
      config.segment_base_address({config.nodes}) - config.segment_base_address({0});
  if (platform::IsAddressFree(config.base_address, size)) {
    return fmt::format("{:#x}, free: pointers are equal in all processes",
                       config.base_address);
  }
  return fmt::format("{:#x}, taken: a process maps segments where there is room",
                     config.base_address);
}

arrow::Result<Problems> ClusterProblems(const std::string& name,
                                        const region::ClusterConfig& config) {
  const auto status = GetClusterStatus(name);
  if (status.status().IsKeyError()) {
    return Problems{fmt::format(
        "cluster '{}' is down, its memory is kept: sheaf up goes on with it, and "
        "sheaf fsck checks it",
        name)};
  }
  ARROW_RETURN_NOT_OK(status.status());
  if (std::ranges::none_of(status->nodes, &LocalNode::is_up)) {
    return Problems{fmt::format(
        "cluster '{}' is down: sheaf up starts its daemons, which go on with the tables "
        "there are; sheaf fsck checks those; the logs are in {}",
        name, config.runtime_folder)};
  }
  Problems problems;
  for (const LocalNode& node : status->nodes) {
    if (node.is_up) {
      // It listens; does it answer?
      const auto greeted = Store::Connect({.cluster = name, .node = node.id}).status();
      if (!greeted.ok()) problems.push_back(greeted.message());
      const std::string unrung = DoorbellProblem(config, {node.id});
      if (!unrung.empty()) problems.push_back(unrung);
      continue;
    }
    problems.push_back(fmt::format(
        "no daemon answers for node {}: start it with: sheaf up; its log is {}", node.id,
        config.log_path({node.id})));
  }
  const auto of_memory = daemon::CheckLiveCluster(config);
  if (of_memory.ok()) {
    problems.insert(problems.end(), of_memory->begin(), of_memory->end());
  } else {
    problems.push_back(of_memory.status().message());
  }
  return problems;
}

std::string DeviceText(const platform::Device& device,
                       const platform::DeviceProbe& probe) {
  return fmt::format(
      "{}, {}, mapped by {}; {}; a load takes {:.0f} ns, {:.0f} ns after a "
      "flush; self-test {}",
      platform::ToString(device.kind), HumanBytes(device.size_bytes),
      HumanBytes(device.unit_bytes),
      probe.is_writable ? "may be written" : "read-only for this user", probe.cached_ns,
      probe.flushed_ns, probe.is_kept ? "passed" : "failed");
}

/// What there is to say of devices.
struct DeviceReport {
  Facts facts;
  Json json = Json::array();
  Problems problems;

  // One that is not asked for is no problem.
  void Add(const arrow::Result<platform::Device>& device, bool is_asked_for) {
    if (!device.ok()) return problems.push_back(device.status().message());
    const auto probe = platform::ProbeDevice(*device);
    Json entry = {{"path", device->path},
                  {"kind", platform::ToString(device->kind)},
                  {"size_bytes", device->size_bytes},
                  {"unit_bytes", device->unit_bytes}};
    if (probe.ok()) {
      entry.update({{"writable", probe->is_writable},
                    {"load_ns", probe->cached_ns},
                    {"load_after_flush_ns", probe->flushed_ns},
                    {"self_test_passed", probe->is_kept}});
      facts.emplace_back(device->path, DeviceText(*device, *probe));
      if (is_asked_for && !probe->is_writable) {
        problems.push_back(device->path + " may not be written by this user");
      }
      if (!probe->is_kept) problems.push_back(device->path + ": a flush changed bytes");
    } else {
      entry["error"] = probe.status().message();
      facts.emplace_back(device->path, probe.status().message());
      if (is_asked_for) problems.push_back(probe.status().message());
    }
    json.push_back(std::move(entry));
  }
};

void AddDevicesOf(const region::ClusterConfig& config, DeviceReport* report) {
  if (!config.UsesDevices()) return;
  const arrow::Status apart = region::CheckDevices(config);
  if (!apart.ok()) report->problems.push_back(apart.message());
  std::set<std::string> paths;
  for (uint32_t k = 0; k < config.nodes; ++k) {
    const region::Window window = region::WindowOf(config, {k});
    report->facts.emplace_back(
        fmt::format("node {}", k),
        fmt::format("{} from {} on in {}", HumanBytes(window.size_bytes),
                    region::FormatSize(window.offset), window.path));
    if (paths.insert(window.path).second) {
      report->Add(platform::DescribeDevice(window.path), /*is_asked_for=*/true);
    }
  }
}

DeviceReport LookAtDevices(const DoctorArguments& arguments,
                           const std::optional<region::ClusterConfig>& asked) {
  DeviceReport report;
  for (const platform::Device& device : platform::ListDevices()) {
    report.Add(device, /*is_asked_for=*/false);
  }
  if (!arguments.device.empty()) {
    report.Add(platform::DescribeDevice(arguments.device), /*is_asked_for=*/true);
  }
  if (asked) AddDevicesOf(*asked, &report);
  return report;
}

void Print(const Facts& facts, const Problems& problems) {
  TextTable table({{"WHAT"}, {"HERE"}});
  for (const auto& [what, value] : facts) table.AddRow({what, value});
  PrintText(table.ToString());
  for (const std::string& problem : problems) {
    PrintText("problem: " + OneLine(problem) + "\n");
  }
  if (problems.empty()) PrintText("nothing is wrong\n");
}

}  // namespace

arrow::Status Doctor(const Global& global, const DoctorArguments& arguments) {
  const platform::Machine machine = platform::DescribeMachine();
  Facts facts = FactsOf(machine);
  std::optional<region::ClusterConfig> asked;
  if (!arguments.config_file.empty()) {
    ARROW_ASSIGN_OR_RAISE(asked, region::ClusterConfig::Load(arguments.config_file));
  }
  const DeviceReport devices = LookAtDevices(arguments, asked);
  facts.insert(facts.end(), devices.facts.begin(), devices.facts.end());
  Problems problems = devices.problems;
  ARROW_ASSIGN_OR_RAISE(const std::string name, ResolveClusterName(global.cluster));
  const auto config = LoadConfig(name);
  Json messages;
  if (asked || config.ok()) {
    const MessagesReport report = LookAtMessages(asked ? *asked : *config);
    facts.insert(facts.end(), report.facts.begin(), report.facts.end());
    problems.insert(problems.end(), report.problems.begin(), report.problems.end());
    messages = report.json;
  }
  if (config.ok()) {
    facts.emplace_back("base address", AddressText(*config));
    facts.emplace_back("cluster",
                       fmt::format("'{}', {} nodes of {}, {}, {}", name, config->nodes,
                                   HumanBytes(config->segment_size_bytes),
                                   region::ToString(config->backend),
                                   region::ToString(config->coherence)));
    const Problems of_machine = MachineProblems(machine, *config);
    problems.insert(problems.end(), of_machine.begin(), of_machine.end());
    ARROW_ASSIGN_OR_RAISE(const Problems of_cluster, ClusterProblems(name, *config));
    problems.insert(problems.end(), of_cluster.begin(), of_cluster.end());
    if (config->etcd.is_used()) facts.emplace_back("etcd", config->etcd.access.endpoints);
    const std::string error = EtcdError(config->etcd);
    if (!error.empty()) problems.push_back(error);
  } else if (config.status().IsKeyError()) {
    facts.emplace_back("cluster", fmt::format("no '{}' on this host", name));
  } else {
    problems.push_back(config.status().message());
  }
  if (global.json) {
    PrintJson({{"machine", JsonOf(machine)},
               {"devices", devices.json},
               {"messages", messages},
               {"cluster", config.ok() ? Json(name) : Json(nullptr)},
               {"problems", problems}});
  } else {
    Print(facts, problems);
  }
  if (problems.empty()) return arrow::Status::OK();
  return arrow::Status::IOError(
      problems.size(), problems.size() == 1 ? " problem" : " problems", " found");
}

}  // namespace sheaf::cli
