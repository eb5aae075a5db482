#include "sheaf/cluster.h"

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <ranges>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "client/daemon_channel.h"
#include "format/layout.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf {
namespace {

namespace fs = std::filesystem;
using region::ClusterConfig;
using Deadline = std::chrono::nanoseconds;  // in BootTime

constexpr std::chrono::milliseconds kPollPeriod{5};
constexpr size_t kLogTailBytes = 2000;

bool Passed(Deadline deadline) { return platform::BootTime() > deadline; }

arrow::Result<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return arrow::Status::KeyError("no file at ", path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// The cluster file appears whole or not at all.
arrow::Status WriteFileWhole(const std::string& path, const std::string& text) {
  const std::string draft = path + ".new";
  {
    std::ofstream file(draft, std::ios::binary | std::ios::trunc);
    file << text;
    if (!file.flush()) return platform::OsError("cannot write", draft);
  }
  std::error_code error;
  fs::rename(draft, path, error);
  if (error)
    return arrow::Status::IOError("cannot rename ", draft, ": ", error.message());
  return arrow::Status::OK();
}

// One starter or stopper of a cluster at a time.
arrow::Result<platform::FileLock> LockControl(const std::string& name,
                                              Deadline deadline) {
  const std::string folder = region::RuntimeRoot();
  ARROW_RETURN_NOT_OK(platform::MakePrivateFolder(folder));
  for (;;) {
    auto lock = platform::FileLock::Acquire(folder + "/" + name + ".control");
    if (lock.ok() || !lock.status().IsAlreadyExists() || Passed(deadline)) return lock;
    platform::SleepFor(kPollPeriod);
  }
}

bool Answers(const ClusterConfig& config, NodeId node) {
  return platform::ConnectUnix(config.socket_path(node)).ok();
}

ClusterStatus StatusOf(const ClusterConfig& config) {
  ClusterStatus status{config.name, config.cluster_id, {}};
  for (uint32_t k = 0; k < config.nodes; ++k)
    status.node_up.push_back(Answers(config, {k}));
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
  auto text = ReadFile(file);
  if (!text.ok()) return arrow::Status::IOError("cannot read the configuration ", file);
  return ClusterConfig::FromToml(*text, file, std::move(defaults));
}

// Options win over the file, the file over the environment's cluster name.
arrow::Result<ClusterConfig> MakeConfig(const ClusterOptions& options) {
  ClusterConfig defaults;
  defaults.name = ResolveClusterName(options.name);
  if (options.folder)
    defaults.memory_folder = *options.folder + "/sheaf-" + defaults.name;
  ARROW_ASSIGN_OR_RAISE(ClusterConfig config, ReadConfig(options.config_file, defaults));
  if (!options.name.empty() && config.name != options.name) {
    return arrow::Status::Invalid(options.config_file, " describes cluster '",
                                  config.name, "', asked for '", options.name, "'");
  }
  config.cluster_id = platform::RandomBits();
  config.runtime_folder = region::RuntimeRoot() + "/" + config.name;
  if (options.folder) config.memory_folder = *options.folder + "/sheaf-" + config.name;
  if (options.nodes) config.nodes = *options.nodes;
  if (options.size_bytes) {
    config.segment_size_bytes = RoundUp(*options.size_bytes, format::kExtentBytes);
  }
  if (options.backend) {
    ARROW_ASSIGN_OR_RAISE(config.backend, region::ParseBackend(*options.backend));
  }
  if (options.coherence) {
    ARROW_ASSIGN_OR_RAISE(config.coherence, region::ParseCoherence(*options.coherence));
  }
  if (options.prealloc) config.prealloc = true;
  config.ApplyDefaults();
  ARROW_RETURN_NOT_OK(config.Validate());
  return config;
}

std::string LogTail(const ClusterConfig& config, NodeId node) {
  auto text = ReadFile(config.log_path(node));
  if (!text.ok()) return "";
  return text->size() > kLogTailBytes ? text->substr(text->size() - kLogTailBytes)
                                      : *text;
}

// The last line of a failed daemon's log is its error message.
std::string LastLine(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

arrow::Status AwaitDaemon(const ClusterConfig& config, NodeId node, int process_id,
                          Deadline deadline) {
  ARROW_ASSIGN_OR_RAISE(auto pidfd, platform::OpenPidFd(process_id));
  for (;;) {
    if (Answers(config, node)) return arrow::Status::OK();
    if (platform::HasExited(pidfd)) {
      return arrow::Status::IOError("the daemon of node ", node.value,
                                    " did not start: ", LastLine(LogTail(config, node)));
    }
    if (Passed(deadline)) {
      return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kTimeout,
                        "the daemon of node " + std::to_string(node.value) +
                            " does not answer; see " + config.log_path(node));
    }
    platform::SleepFor(kPollPeriod);
  }
}

arrow::Status StartDaemons(const ClusterConfig& config, const std::string& daemon,
                           Deadline deadline) {
  std::vector<int> process_ids;
  for (uint32_t k = 0; k < config.nodes; ++k) {
    std::error_code ignored;
    fs::remove(config.log_path({k}), ignored);
    ARROW_ASSIGN_OR_RAISE(const int process_id,
                          platform::SpawnDetached({daemon, "--cluster-file",
                                                   region::ClusterFilePath(config.name),
                                                   "--node", std::to_string(k)},
                                                  config.log_path({k})));
    process_ids.push_back(process_id);
  }
  for (uint32_t k = 0; k < config.nodes; ++k) {
    ARROW_RETURN_NOT_OK(AwaitDaemon(config, {k}, process_ids[k], deadline));
  }
  return arrow::Status::OK();
}

// Ask one daemon to end, and wait until its process has.
arrow::Status StopDaemon(const ClusterConfig& config, NodeId node, Deadline deadline) {
  auto socket = platform::ConnectUnix(config.socket_path(node));
  if (!socket.ok()) return arrow::Status::OK();
  ARROW_ASSIGN_OR_RAISE(auto peer, platform::GetPeerCredentials(socket->get()));
  ARROW_ASSIGN_OR_RAISE(auto pidfd, platform::OpenPidFd(peer.process_id));
  ARROW_ASSIGN_OR_RAISE(auto channel,
                        client::DaemonChannel::Connect(config.socket_path(node)));
  const auto reply = channel->Call(format::Body::ShutdownRequest, [](auto* builder) {
    return format::CreateShutdownRequest(*builder).Union();
  });
  if (!reply.ok() && !IsDisconnected(reply.status())) return reply.status();
  while (!platform::HasExited(pidfd)) {
    if (Passed(deadline)) {
      return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kTimeout,
                        "the daemon of node " + std::to_string(node.value) +
                            " (process " + std::to_string(peer.process_id) +
                            ") does not end");
    }
    platform::SleepFor(kPollPeriod);
  }
  return arrow::Status::OK();
}

arrow::Status StopAndRemove(const ClusterConfig& config, Deadline deadline) {
  for (uint32_t k = 0; k < config.nodes; ++k) {
    ARROW_RETURN_NOT_OK(StopDaemon(config, {k}, deadline));
  }
  for (uint32_t k = 0; k < config.nodes; ++k) {
    ARROW_RETURN_NOT_OK(region::RemoveSegment(config, {k}));
  }
  ARROW_RETURN_NOT_OK(region::RemoveMemoryFolder(config));
  return platform::RemoveAll(config.runtime_folder);
}

uint64_t NeededBytes(const ClusterConfig& config) {
  return config.prealloc ? config.segment_size_bytes * config.nodes : 0;
}

}  // namespace

std::string ResolveClusterName(const std::string& name) {
  if (!name.empty()) return name;
  const char* from_environment = std::getenv("SHEAF_CLUSTER");
  return from_environment != nullptr && *from_environment != '\0' ? from_environment
                                                                  : "default";
}

arrow::Result<ClusterStatus> StartCluster(const ClusterOptions& options) {
  const Deadline deadline = platform::BootTime() + options.timeout;
  ARROW_ASSIGN_OR_RAISE(const std::string daemon, FindDaemon(options.daemon_path));
  ARROW_ASSIGN_OR_RAISE(const ClusterConfig config, MakeConfig(options));
  const std::string& name = config.name;
  ARROW_ASSIGN_OR_RAISE(auto lock, LockControl(name, deadline));

  if (auto old = ClusterConfig::Load(region::ClusterFilePath(name)); old.ok()) {
    for (const bool up : StatusOf(*old).node_up) {
      if (up) {
        return arrow::Status::AlreadyExists(
            "cluster '", name, "' is up; end it first with: sheaf --cluster ", name,
            " down");
      }
    }
    ARROW_RETURN_NOT_OK(StopAndRemove(*old, deadline));  // what a crash left
  }
  ARROW_RETURN_NOT_OK(platform::MakePrivateFolder(config.runtime_folder));
  auto started = [&]() -> arrow::Status {
    ARROW_RETURN_NOT_OK(region::PrepareMemoryFolder(config, NeededBytes(config)));
    ARROW_RETURN_NOT_OK(WriteFileWhole(region::ClusterFilePath(name), config.ToToml()));
    return StartDaemons(config, daemon, deadline);
  }();
  if (!started.ok()) {
    // The first error is the one to tell; cleaning up is best effort.
    static_cast<void>(StopAndRemove(config, deadline));
    return started;
  }
  return StatusOf(config);
}

arrow::Status StopCluster(const std::string& name, std::chrono::milliseconds timeout) {
  const Deadline deadline = platform::BootTime() + timeout;
  const std::string resolved = ResolveClusterName(name);
  ARROW_ASSIGN_OR_RAISE(auto lock, LockControl(resolved, deadline));
  auto config = ClusterConfig::Load(region::ClusterFilePath(resolved));
  if (config.status().IsKeyError()) {
    return arrow::Status::KeyError("no cluster '", resolved, "' on this host");
  }
  ARROW_RETURN_NOT_OK(config.status());
  return StopAndRemove(*config, deadline);
}

arrow::Result<ClusterStatus> GetClusterStatus(const std::string& name) {
  const std::string resolved = ResolveClusterName(name);
  auto config = ClusterConfig::Load(region::ClusterFilePath(resolved));
  if (config.status().IsKeyError()) {
    return arrow::Status::KeyError("no cluster '", resolved, "' on this host");
  }
  ARROW_RETURN_NOT_OK(config.status());
  return StatusOf(*config);
}

}  // namespace sheaf
