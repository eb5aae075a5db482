// The folder that holds a cluster's memory on this host.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <system_error>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "format/layout.h"
#include "platform/file.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

/// Memory that the kernel could give out now; the largest number if it does not say.
uint64_t AvailableMemoryBytes() {
  std::ifstream file("/proc/meminfo");
  std::string name;
  uint64_t kib = 0;
  std::string unit;
  while (file >> name >> kib >> unit) {
    if (name == "MemAvailable:") return kib * 1024;
  }
  return std::numeric_limits<uint64_t>::max();
}

arrow::Status TooSmall(const ClusterConfig& config, uint64_t needed_bytes,
                       const std::string& what, uint64_t free_bytes) {
  return arrow::Status::OutOfMemory(
      "cluster ", config.name, " needs ", needed_bytes, " bytes (", config.nodes,
      " segments of ", FormatSize(config.segment_size_bytes), ") in ",
      config.memory_folder, ", but ", what, " ", free_bytes,
      " bytes: choose a smaller --size, or make it larger (mount -o remount,size=... for "
      "/dev/shm)");
}

/// Segments of this cluster lie there already: their bytes are not free but count as
/// ours.
bool IsInUse(const ClusterConfig& config) {
  std::error_code error;
  return !std::filesystem::is_empty(config.memory_folder, error) && !error;
}

arrow::Status CheckCapacity(const ClusterConfig& config, uint64_t needed_bytes) {
  std::error_code error;
  const auto space = std::filesystem::space(config.memory_folder, error);
  if (error) return platform::OsError("cannot ask for the size of", config.memory_folder);
  // A tmpfs without a limit says 0: what FileSystemFreeBytes gives then is memory.
  if (space.capacity != 0 && space.capacity < needed_bytes) {
    return TooSmall(config, needed_bytes, "that file system has only", space.capacity);
  }
  if (IsInUse(config)) return arrow::Status::OK();
  ARROW_ASSIGN_OR_RAISE(const uint64_t free_bytes,
                        platform::FileSystemFreeBytes(config.memory_folder));
  if (free_bytes >= needed_bytes) return arrow::Status::OK();
  return TooSmall(config, needed_bytes, "there are free only", free_bytes);
}

/// A file system of our own gives huge pages, and only root may mount one. Without it the
/// folder itself serves.
arrow::Status TryMount(const ClusterConfig& config, uint64_t needed_bytes) {
  if (!config.huge_pages || IsInUse(config)) return arrow::Status::OK();
  ARROW_ASSIGN_OR_RAISE(const bool mounted, platform::IsMountPoint(config.memory_folder));
  if (mounted) return arrow::Status::OK();
  const uint64_t size_bytes = RoundUp(needed_bytes, format::kExtentBytes);
  const arrow::Status status = platform::MountHugeTmpfs(config.memory_folder, size_bytes);
  return status.IsIOError() ? arrow::Status::OK() : status;
}

}  // namespace

arrow::Status PrepareMemoryFolder(const ClusterConfig& incomplete,
                                  uint64_t needed_bytes) {
  ClusterConfig config = incomplete;
  config.ApplyDefaults();
  ARROW_RETURN_NOT_OK(config.Validate());
  ARROW_RETURN_NOT_OK(platform::MakePrivateFolder(config.memory_folder));
  if (config.backend == Backend::kShm) {
    // A tmpfs may be larger than the memory behind it: that would end in a kill, not in
    // an error.
    const uint64_t available_bytes = AvailableMemoryBytes();
    if (!IsInUse(config) && available_bytes < needed_bytes) {
      return TooSmall(config, needed_bytes, "this host has available only",
                      available_bytes);
    }
    ARROW_RETURN_NOT_OK(TryMount(config, needed_bytes));
  }
  return CheckCapacity(config, needed_bytes);
}

arrow::Status RemoveMemoryFolder(const ClusterConfig& incomplete) {
  ClusterConfig config = incomplete;
  config.ApplyDefaults();
  if (config.backend == Backend::kFile) {  // The folder is the user's.
    for (uint32_t node = 0; node < config.nodes; ++node) {
      ARROW_RETURN_NOT_OK(RemoveSegment(config, NodeId{node}));
    }
    return arrow::Status::OK();
  }
  if (config.backend == Backend::kShm) {
    ARROW_RETURN_NOT_OK(platform::Unmount(config.memory_folder));
  }
  return platform::RemoveAll(config.memory_folder);
}

}  // namespace sheaf::region
