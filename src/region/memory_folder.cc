// The folder that holds a cluster's memory on this host: what is made there, and what may
// be removed again.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "format/control_layout.h"
#include "format/layout.h"
#include "platform/file.h"
#include "region/cluster_config.h"
#include "region/device_segment.h"
#include "region/region.h"
#include "region/segment_header.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMiB = uint64_t{1} << 20;

/// Lies in a folder that PrepareMemoryFolder made, and in no other: in the tmpfs, if it
/// mounted one there. Folder and tmpfs go when it is all that is left in them.
constexpr const char* kMarkerName = ".made-by-sheaf";

std::string MarkerPath(const ClusterConfig& config) {
  return config.memory_folder + "/" + kMarkerName;
}

bool Exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

/// Files that hold each byte: with backend sim the truth, and of each node image and
/// shadow.
uint64_t CopiesOf(const ClusterConfig& config) {
  return config.backend == Backend::kSim ? 1 + 2 * uint64_t{config.nodes} : 1;
}

/// No file of the cluster can ever make the tmpfs larger. Most of it is never taken.
uint64_t TmpfsBytes(const ClusterConfig& config) {
  const format::SegmentHeader header = MakeHeader(config, SegmentId{0}, 1);
  const uint64_t beside_data = RoundUp(header.control_size_bytes, format::kExtentBytes) +
                               RoundUp(header.leases_size_bytes, format::kExtentBytes);
  // Locks and the marker have a small page each.
  return config.nodes * beside_data + config.total_size_bytes() + format::kExtentBytes;
}

/// An empty folder of the default name is what somebody left who unmounted it by hand.
bool IsAbandoned(const ClusterConfig& config) {
  std::error_code error;
  return config.memory_folder == DefaultMemoryFolder(config.name) &&
         fs::is_empty(config.memory_folder, error) && !error &&
         !platform::IsMountPoint(config.memory_folder).ValueOr(true);
}

/// In a new folder. A file system of our own gives huge pages, and only root may mount
/// one; without it the folder itself serves.
arrow::Status MarkAndMount(const ClusterConfig& config) {
  const bool mounted =
      config.backend == Backend::kShm && config.huge_pages &&
      platform::MountHugeTmpfs(config.memory_folder, TmpfsBytes(config)).ok();
  arrow::Status status = platform::CreateFile(MarkerPath(config), 0).status();
  if (!status.ok()) {
    if (mounted) status &= platform::Unmount(config.memory_folder);
    status &= platform::RemoveEmptyFolder(config.memory_folder);
  }
  return status;
}

arrow::Status CheckCapacity(const ClusterConfig& config) {
  // A cluster that goes on has allocated it: its daemons say what is missing. What a
  // device has is there.
  if (!config.prealloc || config.UsesDevices() || HasSegments(config)) {
    return arrow::Status::OK();
  }
  ARROW_ASSIGN_OR_RAISE(const uint64_t free_bytes,
                        platform::FileSystemFreeBytes(config.memory_folder));
  const uint64_t needed_bytes = FullBytes(config);
  if (needed_bytes <= free_bytes) return arrow::Status::OK();
  return arrow::Status::OutOfMemory(
      "cluster ", config.name, " needs ", FormatSize(RoundUp(needed_bytes, kMiB)), " (",
      config.LocalNodes().size(), " segments of ", FormatSize(config.segment_size_bytes),
      ", to be allocated at once) in ", config.memory_folder,
      ", available there: ", FormatSize(RoundDown(free_bytes, kMiB)),
      ": choose a smaller --size, or leave out --prealloc");
}

arrow::Result<std::set<std::string>> NamesIn(const std::string& folder) {
  std::set<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    names.insert(entry->path().filename().string());
  }
  if (error) return platform::OsError("cannot list", folder, error.value());
  return names;
}

/// Undoes what PrepareMemoryFolder made, once nothing else is there.
arrow::Status RemoveFolder(const ClusterConfig& config) {
  ARROW_ASSIGN_OR_RAISE(const auto names, NamesIn(config.memory_folder));
  if (names != std::set<std::string>{kMarkerName}) return arrow::Status::OK();
  ARROW_RETURN_NOT_OK(platform::RemoveFile(MarkerPath(config)));
  ARROW_RETURN_NOT_OK(platform::Unmount(config.memory_folder));
  return platform::RemoveEmptyFolder(config.memory_folder);
}

/// Nodes of which something is there. This cluster may not have them: a former one had
/// more.
arrow::Result<std::set<NodeId>> NodesIn(const ClusterConfig& config) {
  ARROW_ASSIGN_OR_RAISE(const auto names, NamesIn(config.memory_folder));
  std::set<NodeId> nodes;
  for (const std::string& name : names) {
    static const std::regex kPattern(R"(node(0|[1-9][0-9]{0,3})(\.(lock|sessions))?)");
    std::smatch match;
    if (std::regex_match(name, match, kPattern)) {
      nodes.insert({static_cast<uint32_t>(std::stoul(match[1]))});
    }
  }
  return nodes;
}

/// Locks and kept file alone say nothing of a device: its memory does.
std::set<NodeId> WindowsIn(const ClusterConfig& config) {
  std::set<NodeId> nodes;
  for (const NodeId node : config.LocalNodes()) {
    const auto header = ReadWindowHeader(config, SegmentId{node.value});
    if (header.ok() && header->magic != 0) nodes.insert(node);
  }
  return nodes;
}

/// The kept cluster file, and drafts of it that a crash left.
bool IsKeptFile(std::string_view name) {
  static const std::regex kPattern(R"(\.sheaf-cluster\.toml(\.[0-9]+\.new)?)");
  return std::regex_match(name.begin(), name.end(), kPattern);
}

bool MayRemove(const ClusterConfig& config, NodeId node) {
  const bool is_listed = !config.UsesDevices() || node.value < config.nodes;
  return is_listed && config.IsLocal(node);
}

arrow::Status CheckNoDaemonLives(const ClusterConfig& config, NodeId node) {
  ARROW_ASSIGN_OR_RAISE(
      const std::string holder,
      platform::FileLock::HolderOf(config.segment_lock_path(SegmentId{node.value})));
  if (holder.empty()) return arrow::Status::OK();
  return arrow::Status::AlreadyExists(
      "the memory of cluster ", config.name, " in ", config.memory_folder,
      " is in use: the daemon of node ", node.value, " is ", holder);
}

arrow::Status RemoveLeftover(const ClusterConfig& config, NodeId node) {
  ARROW_ASSIGN_OR_RAISE(const platform::FileLock lock, LockSegment(config, node));
  arrow::Status status = RemoveSegment(config, node);
  if (status.ok()) {
    status = platform::RemoveOwnFiles(
        config.session_lock_folder(node),
        [](std::string_view name) { return name.ends_with(".lock"); });
  }
  return status & lock.Remove();
}

}  // namespace

uint64_t FullBytes(const ClusterConfig& config) {
  const format::ControlLayout layout = LayoutOf(config);
  uint64_t control_bytes = layout.slots + layout.records - layout.ring_ends;
  if (config.messages_kind() == Messages::kRings) {
    control_bytes += (config.nodes - 1) * format::kRingBytes;
  }
  uint64_t size_bytes = 0;
  for (const NodeId node : config.LocalNodes()) {
    size_bytes += config.size_bytes_of({node.value}) + control_bytes;
  }
  return CopiesOf(config) * size_bytes;
}

arrow::Status PrepareMemoryFolder(const ClusterConfig& incomplete) {
  ClusterConfig config = incomplete;
  config.ApplyDefaults();
  ARROW_RETURN_NOT_OK(config.Validate());
  const bool exists = Exists(config.memory_folder);
  ARROW_RETURN_NOT_OK(platform::MakePrivateFolder(config.memory_folder));
  if (!exists || IsAbandoned(config)) ARROW_RETURN_NOT_OK(MarkAndMount(config));
  arrow::Status status = CheckCapacity(config);
  // The first error is the one to tell.
  if (!status.ok()) static_cast<void>(RemoveFolder(config));
  return status;
}

arrow::Status RemoveUnusedMemoryFolder(const ClusterConfig& config) {
  return RemoveFolder(config);
}

bool HasSegments(const ClusterConfig& incomplete) {
  ClusterConfig config = incomplete;
  config.ApplyDefaults();
  if (config.UsesDevices()) return !WindowsIn(config).empty();
  if (!Exists(config.memory_folder)) return false;
  const auto nodes = NodesIn(config);
  return nodes.ok() && std::ranges::any_of(*nodes, [&](NodeId node) {
           return config.IsLocal(node) &&
                  Exists(config.segment_folder(SegmentId{node.value}));
         });
}

arrow::Status RemoveMemoryFolder(const ClusterConfig& incomplete) {
  ClusterConfig config = incomplete;
  config.ApplyDefaults();
  if (config.UsesDevices() && HasSegments(config)) {
    // For the locks: the memory is there without a folder.
    ARROW_RETURN_NOT_OK(PrepareMemoryFolder(config));
  }
  const arrow::Status found = platform::CheckPrivateFolder(config.memory_folder);
  if (found.IsKeyError()) return arrow::Status::OK();
  ARROW_RETURN_NOT_OK(found);
  ARROW_ASSIGN_OR_RAISE(auto nodes, NodesIn(config));
  if (config.UsesDevices()) nodes.merge(WindowsIn(config));
  const size_t of_other_hosts =
      std::erase_if(nodes, [&](NodeId node) { return !MayRemove(config, node); });
  for (const NodeId node : nodes) {
    ARROW_RETURN_NOT_OK(CheckNoDaemonLives(config, node));
  }
  arrow::Status status;
  for (const NodeId node : nodes) status &= RemoveLeftover(config, node);
  if (of_other_hosts > 0) return status;
  if (status.ok()) {
    ARROW_ASSIGN_OR_RAISE(const auto left, NamesIn(config.memory_folder));
    for (const std::string& name : left) {
      if (IsKeptFile(name)) {
        status &= platform::RemoveFile(config.memory_folder + "/" + name);
      }
    }
  }
  return status & RemoveFolder(config);
}

}  // namespace sheaf::region
