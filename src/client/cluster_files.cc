#include "client/cluster_files.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <ios>
#include <iterator>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/cancel.h>

#include "client/cluster_shares.h"
#include "client/daemon_processes.h"
#include "format/checksum.h"
#include "platform/file.h"
#include "platform/process.h"
#include "region/cluster_config.h"
#include "region/device_segment.h"
#include "region/region.h"
#include "region/which_node.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

namespace fs = std::filesystem;
using region::ClusterConfig;

// It appears whole or not at all. What is there already needs no memory anew: there may
// be none.
arrow::Status WriteFileWhole(const std::string& path, const std::string& text) {
  if (const auto found = ReadFile(path); found.ok() && *found == text) {
    return arrow::Status::OK();
  }
  // Other hosts may write beside the same memory at the same time.
  const std::string draft = path + "." + std::to_string(platform::RandomBits()) + ".new";
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

std::array<std::string, 2> ClusterFiles(const ClusterConfig& config) {
  return {region::ClusterFilePath(config.name), region::KeptClusterFilePath(config)};
}

// The cluster files as they were.
class FormerFiles {
 public:
  explicit FormerFiles(const ClusterConfig& config) {
    for (const std::string& path : ClusterFiles(config)) {
      texts_.emplace_back(path, ReadFile(path));
    }
  }
  // As well as it can be done.
  void PutBack() const {
    for (const auto& [path, text] : texts_) {
      static_cast<void>(text.ok() ? WriteFileWhole(path, *text)
                                  : platform::RemoveFile(path));
    }
  }

 private:
  std::vector<std::pair<std::string, arrow::Result<std::string>>> texts_;
};

// Of a file what one run, or one host, may not have as it likes; the sizes of nodes are
// in the headers of their segments.
std::string Shape(ClusterConfig config) {
  CopyShares(ClusterConfig(), &config);
  config.prealloc = false;
  config.huge_pages = true;
  config.spin_us = 0;
  config.messages = config.messages_kind();  // By the tables, which go below.
  config.runtime_folder.clear();
  config.nodes = 1;
  config.node_tables.clear();
  return config.ToToml();
}

// Segments of nodes that the file does not list: nobody would look for their leases.
arrow::Status CheckAllAreListed(const ClusterConfig& config, const std::string& path) {
  for (uint32_t k = config.nodes; k < config.nodes_max; ++k) {
    const std::string folder = config.segment_folder({k});
    std::error_code ignored;
    if (!fs::exists(folder, ignored)) continue;
    return arrow::Status::Invalid("there is memory of node ", k, " in ", folder, ", but ",
                                  path, " has nodes 0 to ", config.nodes - 1,
                                  ": nodes may be added to it, not taken away");
  }
  return arrow::Status::OK();
}

// As this host uses it.
arrow::Result<ClusterConfig> LoadShared(const std::string& path) {
  ARROW_ASSIGN_OR_RAISE(const std::string text, ReadFile(path));
  ARROW_ASSIGN_OR_RAISE(ClusterConfig config, ClusterConfig::FromToml(text, path));
  config.cluster_id = SharedClusterId(config);
  config.runtime_folder = region::RuntimeRoot() + "/" + config.name;
  ARROW_RETURN_NOT_OK(config.Validate());
  return config;
}

bool AnyAnswers(const ClusterConfig& config) {
  return std::ranges::any_of(config.LocalNodes(),
                             [&](NodeId node) { return Answers(config, node); });
}

// Processes that are here go by the files that are here.
arrow::Status CheckAsFound(const ClusterConfig& config, const std::string& path) {
  const auto running = ClusterConfig::Load(region::ClusterFilePath(config.name));
  if (running.ok() && running->ToToml() != config.ToToml() && AnyAnswers(*running)) {
    return arrow::Status::Invalid(
        "cluster '", config.name, "' runs on this host with another file than ", path,
        ": start this node with ", region::ClusterFilePath(config.name),
        ", or first end the others: sheaf --cluster ", config.name, " down --keep");
  }
  ARROW_RETURN_NOT_OK(CheckAllAreListed(config, path));
  const auto kept = ClusterConfig::Load(region::KeptClusterFilePath(config));
  if (kept.ok() && Shape(*kept) != Shape(config) && region::HasSegments(config)) {
    return arrow::Status::Invalid(
        "the memory in ", config.memory_folder, " was made with another file than ", path,
        ": start this node with ", region::KeptClusterFilePath(config),
        ", or give that memory up: sheaf --cluster ", config.name, " down");
  }
  return arrow::Status::OK();
}

}  // namespace

arrow::Result<std::string> ReadFile(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    return platform::OsError("cannot read", path, EISDIR);
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return platform::OsError("cannot read", path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

uint64_t SharedClusterId(const ClusterConfig& config) {
  if (config.cluster_id != 0) return config.cluster_id;
  const auto* name = reinterpret_cast<const uint8_t*>(config.name.data());
  return std::max<uint64_t>(format::Checksum({name, config.name.size()}), 1);
}

arrow::Status WriteClusterFiles(const ClusterConfig& config) {
  for (const std::string& path : ClusterFiles(config)) {
    ARROW_RETURN_NOT_OK(WriteFileWhole(path, config.ToToml()));
  }
  return arrow::Status::OK();
}

arrow::Result<std::unique_ptr<ControlLock>> ControlLock::Acquire(
    const std::string& name, Deadline deadline, const arrow::StopToken& stop_token) {
  const std::string folder = region::RuntimeRoot();
  const std::string path = folder + "/" + name + ".control";
  ARROW_RETURN_NOT_OK(platform::MakePrivateFolder(folder));
  for (;;) {
    auto lock = platform::FileLock::Acquire(path);
    if (lock.ok()) return std::make_unique<ControlLock>(std::move(*lock));
    if (!lock.status().IsAlreadyExists() || Passed(deadline)) return lock.status();
    ARROW_RETURN_NOT_OK(stop_token.Poll());
    platform::SleepFor(kPollPeriod);
  }
}

arrow::Status JoinCluster(
    const std::string& path, Deadline deadline,
    const std::function<arrow::Status(const ClusterConfig&)>& start) {
  ARROW_ASSIGN_OR_RAISE(const ClusterConfig config, LoadShared(path));
  ARROW_ASSIGN_OR_RAISE(
      const auto lock,
      ControlLock::Acquire(config.name, deadline, arrow::StopToken::Unstoppable()));
  ARROW_RETURN_NOT_OK(CheckAsFound(config, path));
  const bool had_segments = region::HasSegments(config);
  ARROW_RETURN_NOT_OK(platform::MakePrivateFolder(config.runtime_folder));
  ARROW_RETURN_NOT_OK(region::PrepareMemoryFolder(config));
  FormerFiles former(config);
  arrow::Status status = WriteClusterFiles(config);
  if (status.ok()) status = ShareFolders(config);
  if (status.ok()) status = start(config);
  if (status.ok()) return status;
  // The first error is the one to tell.
  former.PutBack();
  static_cast<void>(had_segments ? region::RemoveUnusedMemoryFolder(config)
                                 : region::RemoveMemoryFolder(config));
  static_cast<void>(platform::RemoveEmptyFolder(config.runtime_folder));
  return status;
}

arrow::Status FormatNode(const std::string& path, NodeId node, bool force) {
  ARROW_ASSIGN_OR_RAISE(const ClusterConfig config, LoadShared(path));
  if (!config.UsesDevices()) {
    return arrow::Status::Invalid(path, " names no device: memory of backend ",
                                  region::ToString(config.backend),
                                  " is made when its cluster starts");
  }
  ARROW_RETURN_NOT_OK(region::CheckIsNode(config, node, path));
  ARROW_RETURN_NOT_OK(region::PrepareMemoryFolder(config));
  const arrow::Status status = [&]() -> arrow::Status {
    ARROW_ASSIGN_OR_RAISE(const auto lock, region::LockSegment(config, node));
    arrow::Status made = force ? region::FormatAnyway(config, node)
                               : region::FormatWhereNothingIs(config, node);
    return made & lock.Remove();
  }();
  return status & region::RemoveUnusedMemoryFolder(config);
}

}  // namespace sheaf::client
