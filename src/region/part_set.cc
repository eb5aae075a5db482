#include "region/part_set.h"

#include <cstdint>
#include <memory>
#include <regex>
#include <string>
#include <string_view>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "platform/device.h"
#include "platform/file.h"
#include "region/cluster_config.h"
#include "region/device_window.h"
#include "region/file_part.h"
#include "region/region.h"
#include "region/sim_part.h"
#include "region/window_part.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

/// Whether the data part lies in a tmpfs that PrepareMemoryFolder mounted with
/// huge=advise.
bool GivesHugePages(const ClusterConfig& config) {
  if (config.backend != Backend::kShm || !config.huge_pages) return false;
  return platform::IsMountPoint(config.memory_folder).ValueOr(false);
}

PartAccess AccessOf(const ClusterConfig& config, const AttachOptions& options,
                    SegmentId segment, PartKind kind) {
  const bool own = segment.value == options.node.value;
  const bool reads_only = options.role == Role::kReader;
  PartAccess access;
  switch (kind) {
    case PartKind::kControl:
      access.map_writable = own && options.role == Role::kDaemon;
      access.copy_on_write = own && options.role == Role::kInspector;
      break;
    case PartKind::kLeases:
      access.map_writable = own && options.role == Role::kDaemon;
      access.open_writable = own && options.role == Role::kClient;
      access.copy_on_write = own && options.role == Role::kInspector;
      break;
    case PartKind::kData:
      // Of other nodes too: a session may be granted their memory.
      access.open_writable = !reads_only && options.role != Role::kInspector;
      access.huge_pages = GivesHugePages(config);
      if (!options.relocate) access.wanted_address = config.segment_base_address(segment);
      break;
  }
  return access;
}

}  // namespace

const char* ToString(PartKind kind) {
  switch (kind) {
    case PartKind::kControl:
      return "control";
    case PartKind::kLeases:
      return "leases";
    case PartKind::kData:
      return "data";
  }
  return "unknown";
}

bool IsPartFile(std::string_view file_name) {
  // The second half: what SimFilesOf names.
  static const std::regex kPattern(
      R"((control|leases|data)(\.state|\.(image|shadow)[0-9]+)?)");
  return std::regex_match(file_name.begin(), file_name.end(), kPattern);
}

arrow::Result<uint64_t> PartFileSize(const ClusterConfig& config, SegmentId segment,
                                     PartKind kind, int file) {
  if (!config.UsesDevices()) return platform::FileSize(file);
  return WindowOf(config, segment, kind).size_bytes;
}

std::string PartPath(const ClusterConfig& config, SegmentId segment, PartKind kind) {
  return config.segment_folder(segment) + "/" + ToString(kind);
}

arrow::Result<platform::UniqueFd> OpenPartFile(const ClusterConfig& config,
                                               const AttachOptions& options,
                                               SegmentId segment, PartKind kind) {
  if (options.source) return options.source->open(segment, kind);
  const PartAccess access = AccessOf(config, options, segment, kind);
  if (!config.UsesDevices()) return OpenFileFor(PartPath(config, segment, kind), access);
  ARROW_ASSIGN_OR_RAISE(const platform::Device device, FindDevice(config, segment));
  const bool writable = access.open_writable || access.map_writable;
  return platform::OpenDevice(
      device, writable ? platform::Access::kReadWrite : platform::Access::kRead);
}

arrow::Result<std::unique_ptr<Part>> MapPart(const ClusterConfig& config,
                                             const AttachOptions& options,
                                             SegmentId segment, PartKind kind,
                                             platform::UniqueFd file,
                                             uint64_t size_bytes) {
  const PartAccess access = AccessOf(config, options, segment, kind);
  const std::string path = PartPath(config, segment, kind);
  if (config.backend == Backend::kSim) {
    if (options.role == Role::kInspector) {
      return arrow::Status::NotImplemented("the simulator's memory cannot be inspected");
    }
    return OpenSimPart(SimPartId{config, segment, path}, options.node, size_bytes,
                       access);
  }
  ARROW_ASSIGN_OR_RAISE(auto cache, MakeCacheControl(config));
  if (config.UsesDevices()) {
    ARROW_ASSIGN_OR_RAISE(const platform::Device device, FindDevice(config, segment));
    Window window = WindowOf(config, segment, kind);
    window.size_bytes = size_bytes;
    return MapWindow(device, std::move(file), window, access, std::move(cache));
  }
  ARROW_ASSIGN_OR_RAISE(auto part, FilePart::Map(path, std::move(file), size_bytes,
                                                 access, std::move(cache)));
  return part;
}

arrow::Result<std::unique_ptr<Part>> OpenPart(const ClusterConfig& config,
                                              const AttachOptions& options,
                                              SegmentId segment, PartKind kind,
                                              uint64_t size_bytes) {
  ARROW_ASSIGN_OR_RAISE(platform::UniqueFd file,
                        OpenPartFile(config, options, segment, kind));
  return MapPart(config, options, segment, kind, std::move(file), size_bytes);
}

arrow::Status CreatePart(const ClusterConfig& config, SegmentId segment, PartKind kind,
                         uint64_t size_bytes) {
  SHEAF_CHECK(!config.UsesDevices());
  const std::string path = PartPath(config, segment, kind);
  // The truth comes last: another node that finds it finds all the others.
  if (config.backend == Backend::kSim) {
    ARROW_RETURN_NOT_OK(CreateSimFiles(SimPartId{config, segment, path}, size_bytes));
  }
  return platform::CreateFile(path, size_bytes).status();
}

}  // namespace sheaf::region
