#include "sheaf/cluster.h"

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <ranges>
#include <regex>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/cancel.h>

#include "base/math.h"
#include "client/cluster_files.h"
#include "client/cluster_shares.h"
#include "client/daemon_processes.h"
#include "client/readers_elsewhere.h"
#include "format/layout.h"
#include "platform/file.h"
#include "platform/process.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf {
namespace {

namespace fs = std::filesystem;
using client::Deadline;
using client::Passed;
using region::ClusterConfig;

constexpr uint64_t kMiB = uint64_t{1} << 20;

ClusterStatus StatusOf(const ClusterConfig& config) {
  ClusterStatus status{config.name, config.cluster_id, {}, ""};
  for (const NodeId node : config.LocalNodes()) {
    status.nodes.push_back({node.value, client::Answers(config, node)});
  }
  return status;
}

arrow::Result<std::string> FindDaemon(const std::string& wanted) {
  if (!wanted.empty()) return wanted;
  if (const char* path = std::getenv("SHEAFD"); path != nullptr && *path != '\0')
    return path;
  ARROW_ASSIGN_OR_RAISE(const std::string self, platform::ExecutablePath());
  std::vector<fs::path> folders = {fs::path(self).parent_path()};
  if (const char* path = std::getenv("PATH"); path != nullptr) {
    for (const auto part : std::string_view(path) | std::views::split(':')) {
      folders.emplace_back(std::string_view(part.begin(), part.end()));
    }
  }
  std::error_code error;
  for (const fs::path& folder : folders) {
    if (fs::is_regular_file(folder / "sheafd", error))
      return (folder / "sheafd").string();
  }
  return arrow::Status::IOError(
      "sheafd was not found beside ", self,
      " nor in PATH; name it in the environment variable SHEAFD");
}

// What the file says, if there is one; where it says nothing, `defaults`.
arrow::Result<ClusterConfig> ReadConfig(const std::string& file, ClusterConfig defaults) {
  if (file.empty()) return defaults;
  ARROW_ASSIGN_OR_RAISE(const std::string text, client::ReadFile(file));
  return ClusterConfig::FromToml(text, file, std::move(defaults));
}

arrow::Result<std::string> FolderIn(const std::string& folder, const std::string& name) {
  std::error_code error;
  const fs::path absolute = fs::absolute(folder, error);
  if (error) return arrow::Status::Invalid("--folder ", folder, ": ", error.message());
  return (absolute / ("sheaf-" + name)).lexically_normal().string();
}

// What a device needs beside its name, only a file says.
arrow::Status CheckBackend(region::Backend of_file, region::Backend wanted) {
  const bool needs_file =
      wanted == region::Backend::kDevdax || wanted == region::Backend::kPci;
  if (!needs_file || wanted == of_file) return arrow::Status::OK();
  return arrow::Status::Invalid("--backend ", region::ToString(wanted),
                                " needs a cluster file that says so, with the path of "
                                "each node (docs/configuration.md): --config FILE");
}

// Options win over the file, the file over the environment's cluster name.
arrow::Result<ClusterConfig> MakeConfig(const ClusterOptions& options) {
  ClusterConfig defaults;
  ARROW_ASSIGN_OR_RAISE(defaults.name, ResolveClusterName(options.name));
  if (options.folder) {
    ARROW_ASSIGN_OR_RAISE(defaults.memory_folder,
                          FolderIn(*options.folder, defaults.name));
  }
  ARROW_ASSIGN_OR_RAISE(ClusterConfig config, ReadConfig(options.config_file, defaults));
  if (!options.name.empty() && config.name != options.name) {
    return arrow::Status::Invalid(
        options.config_file, " describes cluster '", config.name, "', asked for '",
        options.name, "' with --cluster or SHEAF_CLUSTER: ask for that one (--cluster ",
        config.name, "), or take `name` out of the file");
  }
  const bool is_shared = config.NamesHosts() || config.UsesDevices();
  config.cluster_id =
      is_shared ? client::SharedClusterId(config) : platform::RandomBits();
  config.runtime_folder = region::RuntimeRoot() + "/" + config.name;
  if (options.folder) {
    ARROW_ASSIGN_OR_RAISE(config.memory_folder, FolderIn(*options.folder, config.name));
  }
  if (options.nodes) config.nodes = *options.nodes;
  if (options.size_bytes) {
    config.segment_size_bytes = RoundUp(*options.size_bytes, format::kExtentBytes);
  }
  if (options.backend) {
    const region::Backend of_file = config.backend;
    ARROW_ASSIGN_OR_RAISE(config.backend, region::ParseBackend(*options.backend));
    ARROW_RETURN_NOT_OK(CheckBackend(of_file, config.backend));
  }
  if (options.coherence) {
    ARROW_ASSIGN_OR_RAISE(config.coherence, region::ParseCoherence(*options.coherence));
    ARROW_RETURN_NOT_OK(config.CheckCoherence());
  }
  if (options.messages) {
    ARROW_ASSIGN_OR_RAISE(config.messages, region::ParseMessages(*options.messages));
  }
  if (options.prealloc) config.prealloc = true;
  client::SetShares(options, &config);
  config.ApplyDefaults();
  ARROW_RETURN_NOT_OK(config.Validate());
  return config;
}

// What starters, daemons and clients of a cluster put there; other files stay.
arrow::Status RemoveRuntimeFolder(const ClusterConfig& config) {
  return platform::RemoveOwnFiles(config.runtime_folder, [](std::string_view name) {
    static const std::regex kPattern(
        R"(cluster\.toml(\.[0-9]+\.new)?|node[0-9]+\.(sock|bell|lock|log|notes))");
    return std::regex_match(name.begin(), name.end(), kPattern);
  });
}

arrow::Status StopAndRemove(const ClusterConfig& config, Deadline deadline, bool force) {
  ARROW_RETURN_NOT_OK(client::StopDaemons(config, deadline));
  ARROW_RETURN_NOT_OK(client::CheckNotUsedElsewhere(config, force));
  arrow::Status memory = region::RemoveMemoryFolder(config);
  if (memory.IsAlreadyExists()) return memory;  // A daemon lives: it needs its folder.
  return memory & RemoveRuntimeFolder(config);
}

// Memory is taken when it is granted: too much of it is an error of some later put.
std::string WarningOf(const ClusterConfig& config) {
  if (config.UsesDevices()) return "";  // It is there.
  const uint64_t full_bytes = region::FullBytes(config);
  const auto free_bytes = platform::FileSystemFreeBytes(config.memory_folder);
  if (!free_bytes.ok() || full_bytes <= *free_bytes) return "";
  return "cluster '" + config.name + "' may take " +
         region::FormatSize(RoundUp(full_bytes, kMiB)) + ", but available in " +
         config.memory_folder + " are " +
         region::FormatSize(RoundDown(*free_bytes, kMiB)) +
         ": what does not fit will be refused when it is put";
}

enum class Memory : uint8_t {
  kNew,   ///< Goes again if the cluster does not start.
  kKept,  ///< Of an earlier run: stays, whatever happens.
};

// Undone as a whole if any of it fails, except what was there before.
arrow::Result<ClusterStatus> Start(const ClusterConfig& config, Memory memory,
                                   const std::string& daemon, Deadline deadline,
                                   const arrow::StopToken& stop_token) {
  ARROW_RETURN_NOT_OK(platform::MakePrivateFolder(config.runtime_folder));
  std::vector<client::StartedDaemon> started;
  std::string warning;
  const auto status = [&]() -> arrow::Status {
    ARROW_RETURN_NOT_OK(region::PrepareMemoryFolder(config));
    warning = WarningOf(config);
    ARROW_RETURN_NOT_OK(client::WriteClusterFiles(config));
    ARROW_RETURN_NOT_OK(client::ShareFolders(config));
    return client::StartDaemons(config, daemon, deadline, stop_token, &started);
  }();
  if (!status.ok()) {
    client::EndDaemons(started);
    if (memory == Memory::kKept) return status;
    // The first error is the one to tell; cleaning up is best effort.
    static_cast<void>(region::RemoveMemoryFolder(config));
    static_cast<void>(RemoveRuntimeFolder(config));
    if (!status.IsCancelled()) return status;
    return status.WithMessage("interrupted while cluster '", config.name,
                              "' was starting; nothing of it is left");
  }
  ClusterStatus cluster = StatusOf(config);
  cluster.warning = std::move(warning);
  cluster.kept = memory == Memory::kKept;
  return cluster;
}

// What an earlier run, ended by `down --keep` or by a crash, says of its memory; nothing
// if there is none.
arrow::Result<std::optional<ClusterConfig>> FindKept(const ClusterConfig& wanted) {
  auto kept = ClusterConfig::Load(region::ClusterFilePath(wanted.name));
  if (kept.status().IsKeyError()) {
    kept = ClusterConfig::Load(region::KeptClusterFilePath(wanted));
  }
  if (kept.status().IsKeyError()) return std::nullopt;
  ARROW_RETURN_NOT_OK(kept.status());
  kept->runtime_folder = wanted.runtime_folder;
  const bool is_there = region::HasSegments(*kept) ||
                        std::ranges::any_of(StatusOf(*kept).nodes, &LocalNode::is_up);
  if (!is_there) return std::nullopt;
  return *kept;
}

// What was asked for must be what is there. Groups and quotas may be others than in an
// earlier run; where daemons of the cluster run, these have decided.
arrow::Status CheckAsKept(const ClusterOptions& options, ClusterConfig wanted,
                          const ClusterConfig& kept, bool runs) {
  std::string different;
  const auto check = [&](bool is_asked_for, bool is_equal, const char* what,
                         const std::string& is = "") {
    if (!is_asked_for || is_equal) return;
    different += (different.empty() ? "" : ", ") + std::string(what);
    if (!is.empty()) different += " (there: " + is + ")";
  };
  check(options.nodes.has_value(), wanted.nodes == kept.nodes, "--nodes",
        std::to_string(kept.nodes));
  check(options.size_bytes.has_value(),
        wanted.segment_size_bytes == kept.segment_size_bytes, "--size",
        region::FormatSize(kept.segment_size_bytes));
  check(options.backend.has_value(), wanted.backend == kept.backend, "--backend",
        region::ToString(kept.backend));
  check(options.coherence.has_value(), wanted.coherence == kept.coherence, "--coherence",
        region::ToString(kept.coherence));
  check(options.messages.has_value(), wanted.messages_kind() == kept.messages_kind(),
        "--messages", region::ToString(kept.messages_kind()));
  check(options.folder.has_value(), wanted.memory_folder == kept.memory_folder,
        "--folder", kept.memory_folder);
  if (runs) {
    check(options.group.has_value(), wanted.group == kept.group, "--group");
    check(options.group_write.has_value(), wanted.group_write == kept.group_write,
          "--group-write");
    check(options.session_quota_bytes.has_value(),
          wanted.session_quota_bytes == kept.session_quota_bytes, "--session-quota");
    check(options.user_quota_bytes.has_value(),
          wanted.user_quota_bytes == kept.user_quota_bytes, "--user-quota");
    check(options.prealloc, kept.prealloc, "--prealloc");
  } else {
    client::CopyShares(kept, &wanted);
  }
  wanted.cluster_id = kept.cluster_id;
  wanted.prealloc = kept.prealloc;
  check(!options.config_file.empty(), wanted.ToToml() == kept.ToToml(), "--config");
  if (different.empty()) return arrow::Status::OK();
  if (runs) {
    return arrow::Status::Invalid(
        "cluster '", kept.name, "' runs with other values of ", different,
        ": leave these out to go on with it. Groups and quotas can change with its "
        "tables "
        "kept, after: sheaf --cluster ",
        kept.name, " down --keep; all else only without them, after: sheaf --cluster ",
        kept.name, " down");
  }
  return arrow::Status::Invalid(
      "the memory that cluster '", kept.name, "' left in ", kept.memory_folder,
      " was made with other values of ", different,
      ": leave these out to go on with it, or give it up: sheaf --cluster ", kept.name,
      " down");
}

}  // namespace

arrow::Result<std::string> ResolveClusterName(const std::string& name) {
  const char* from_environment = std::getenv("SHEAF_CLUSTER");
  std::string resolved = name;
  if (resolved.empty() && from_environment != nullptr) resolved = from_environment;
  if (resolved.empty()) resolved = "default";
  ARROW_RETURN_NOT_OK(region::CheckClusterName(resolved));
  return resolved;
}

arrow::Result<ClusterStatus> StartCluster(const ClusterOptions& options) {
  const Deadline deadline = platform::BootTime() + options.timeout;
  ARROW_ASSIGN_OR_RAISE(const std::string daemon, FindDaemon(options.daemon_path));
  ARROW_ASSIGN_OR_RAISE(const ClusterConfig config, MakeConfig(options));
  if (config.LocalNodes().empty()) {
    return arrow::Status::Invalid(
        "cluster '", config.name, "' has no node on this host, '", platform::HostName(),
        "' (uname -n, or SHEAF_HOST): see `host` in ", options.config_file);
  }
  const std::string& name = config.name;
  ARROW_ASSIGN_OR_RAISE(auto lock,
                        client::ControlLock::Acquire(name, deadline, options.stop_token));
  ARROW_ASSIGN_OR_RAISE(const auto kept, FindKept(config));
  if (!kept) {
    ARROW_RETURN_NOT_OK(RemoveRuntimeFolder(config));  // of a run whose memory is lost
    // What is there all the same is not ours to take: the daemons refuse it.
    const Memory memory = region::HasSegments(config) ? Memory::kKept : Memory::kNew;
    return Start(config, memory, daemon, deadline, options.stop_token);
  }
  const std::vector<LocalNode> nodes = StatusOf(*kept).nodes;
  const bool runs = std::ranges::any_of(nodes, &LocalNode::is_up);
  ARROW_RETURN_NOT_OK(CheckAsKept(options, config, *kept, runs));
  if (std::ranges::all_of(nodes, &LocalNode::is_up)) {
    ClusterStatus running = StatusOf(*kept);
    running.was_up = true;
    return running;
  }
  ClusterConfig again = *kept;
  if (!runs) {
    if (!options.config_file.empty()) client::CopyShares(config, &again);
    client::SetShares(options, &again);
  }
  ARROW_RETURN_NOT_OK(again.Validate());
  return Start(again, Memory::kKept, daemon, deadline, options.stop_token);
}

arrow::Status StopCluster(const std::string& name, const StopOptions& options) {
  const Deadline deadline = platform::BootTime() + options.timeout;
  ARROW_ASSIGN_OR_RAISE(const std::string resolved, ResolveClusterName(name));
  ARROW_ASSIGN_OR_RAISE(
      auto lock,
      client::ControlLock::Acquire(resolved, deadline, arrow::StopToken::Unstoppable()));
  auto config = ClusterConfig::Load(region::ClusterFilePath(resolved));
  if (config.status().IsKeyError()) {
    ClusterConfig lost;  // its runtime folder, that is; its memory may be there
    lost.name = resolved;
    lost.runtime_folder = region::RuntimeRoot() + "/" + resolved;
    lost.ApplyDefaults();
    ARROW_ASSIGN_OR_RAISE(const auto kept, FindKept(lost));
    if (kept) {
      config = *kept;
    } else if (region::HasSegments(lost)) {
      config = lost;
    }
  }
  if (config.status().IsKeyError()) {
    return arrow::Status::KeyError("no cluster '", resolved, "' on this host");
  }
  ARROW_RETURN_NOT_OK(config.status());
  return options.keep ? client::StopDaemons(*config, deadline)
                      : StopAndRemove(*config, deadline, options.force);
}

arrow::Result<ClusterStatus> GetClusterStatus(const std::string& name) {
  ARROW_ASSIGN_OR_RAISE(const std::string resolved, ResolveClusterName(name));
  auto config = ClusterConfig::Load(region::ClusterFilePath(resolved));
  if (config.status().IsKeyError()) {
    return arrow::Status::KeyError("no cluster '", resolved, "' on this host");
  }
  ARROW_RETURN_NOT_OK(config.status());
  return StatusOf(*config);
}

}  // namespace sheaf
