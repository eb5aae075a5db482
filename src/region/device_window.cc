#include "region/device_window.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "format/layout.h"
#include "platform/device.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "region/segment_header.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

using platform::DeviceKind;

uint64_t PartBytes(const ClusterConfig& config, SegmentId segment, PartKind kind) {
  switch (kind) {
    case PartKind::kControl:
      return LayoutOf(config).size_bytes;
    case PartKind::kLeases:
      return config.lease_pages_max * format::kLeasePageBytes;
    case PartKind::kData:
      return config.size_bytes_of(segment);
  }
  return 0;
}

uint64_t RoomBytes(const ClusterConfig& config, SegmentId segment, PartKind kind) {
  return RoundUp(PartBytes(config, segment, kind), format::kExtentBytes);
}

std::string RangeText(const Window& window) {
  return FormatSize(window.offset) + " to " + FormatSize(window.end()) + " of " +
         window.path;
}

// What takes the room, for who has to choose smaller sizes.
std::string PartsText(const ClusterConfig& config, SegmentId segment) {
  std::string text;
  for (const PartKind kind : {PartKind::kControl, PartKind::kLeases, PartKind::kData}) {
    text += (text.empty() ? "" : ", ") + std::string(ToString(kind)) + " " +
            FormatSize(RoomBytes(config, segment, kind));
  }
  return text;
}

std::string KeyOf(const ClusterConfig& config, SegmentId segment, const char* key) {
  size_t index = 0;
  while (config.node_tables[index].id != segment.value) ++index;
  return "node[" + std::to_string(index) + "]." + key;
}

/// A window of a device that has several names.
struct Placed {
  std::string device;
  Window window;
  SegmentId segment;
};

arrow::Status OverlapError(const ClusterConfig& config, const Placed& a,
                           const Placed& b) {
  const std::string key = KeyOf(config, b.segment, "offset");
  if (a.window.offset == b.window.offset) {
    return arrow::Status::Invalid(key, ": nodes ", a.segment.value, " and ",
                                  b.segment.value, " have the same segment, from ",
                                  FormatSize(b.window.offset), " on in ", b.window.path);
  }
  return arrow::Status::Invalid(
      key, ": the segments of nodes ", a.segment.value, " and ", b.segment.value,
      " overlap: ", RangeText(a.window), " (", PartsText(config, a.segment), "), and ",
      RangeText(b.window), " (", PartsText(config, b.segment), ")");
}

arrow::Status CheckApart(const ClusterConfig& config, std::vector<Placed> all) {
  std::ranges::sort(all, {}, [](const Placed& placed) {
    return std::tuple(placed.device, placed.window.offset, placed.segment);
  });
  for (size_t i = 1; i < all.size(); ++i) {
    const Placed& before = all[i - 1];
    if (before.device == all[i].device && all[i].window.offset < before.window.end()) {
      return OverlapError(config, before, all[i]);
    }
  }
  return arrow::Status::OK();
}

arrow::Status CheckWindow(const ClusterConfig& config, SegmentId segment) {
  const NodeConfig* node = config.FindNode(segment.value);
  if (node == nullptr || node->path.empty()) {
    return arrow::Status::Invalid(
        "node: there is no path for node ", segment.value,
        ": where some nodes have a device, each needs a table [[node]] with one");
  }
  if (node->path[0] != '/') {
    return arrow::Status::Invalid(KeyOf(config, segment, "path"), ": '", node->path,
                                  "' must be an absolute path");
  }
  if (!IsAligned(node->offset_bytes, format::kExtentBytes) ||
      node->offset_bytes > UINT64_MAX / 2) {
    return arrow::Status::Invalid(KeyOf(config, segment, "offset"), ": ",
                                  FormatSize(node->offset_bytes),
                                  " is not a multiple of 2MiB");
  }
  return arrow::Status::OK();
}

DeviceKind KindOf(Backend backend) {
  switch (backend) {
    case Backend::kDevdax:
      return DeviceKind::kDax;
    case Backend::kPci:
      return DeviceKind::kPciBar;
    default:
      return DeviceKind::kFile;
  }
}

}  // namespace

bool ClusterConfig::UsesDevices() const {
  return std::ranges::any_of(node_tables,
                             [](const NodeConfig& node) { return !node.path.empty(); });
}

Window WindowOf(const ClusterConfig& config, SegmentId segment) {
  const NodeConfig* node = config.FindNode(segment.value);
  if (node == nullptr) return {};
  uint64_t size_bytes = 0;
  for (const PartKind kind : {PartKind::kControl, PartKind::kLeases, PartKind::kData}) {
    size_bytes += RoomBytes(config, segment, kind);
  }
  return {node->path, node->offset_bytes, size_bytes};
}

Window WindowOf(const ClusterConfig& config, SegmentId segment, PartKind kind) {
  Window window = WindowOf(config, segment);
  for (const PartKind before : {PartKind::kControl, PartKind::kLeases}) {
    if (kind == before) break;
    window.offset += RoomBytes(config, segment, before);
  }
  window.size_bytes = PartBytes(config, segment, kind);
  return window;
}

arrow::Status CheckWindows(const ClusterConfig& config) {
  const bool wants_devices =
      config.backend == Backend::kDevdax || config.backend == Backend::kPci;
  for (size_t i = 0; i < config.node_tables.size(); ++i) {
    const NodeConfig& node = config.node_tables[i];
    if (!node.path.empty() || node.offset_bytes == 0) continue;
    return arrow::Status::Invalid("node[", i, "].offset: there is no path beside it");
  }
  const bool may_have_them = wants_devices || config.backend == Backend::kFile;
  if (config.UsesDevices() && !may_have_them) {
    return arrow::Status::Invalid("node: backend ", ToString(config.backend),
                                  " makes its memory itself: there is no path to say");
  }
  if (!config.UsesDevices() && !wants_devices) return arrow::Status::OK();
  if (!config.socket_group().empty()) {
    return arrow::Status::Invalid(
        config.group.empty() ? "group_write" : "group",
        ": whoever may open a device reads and writes all of it: a cluster on devices is "
        "for its own user");
  }
  std::vector<Placed> all;
  for (uint32_t k = 0; k < config.nodes; ++k) {
    ARROW_RETURN_NOT_OK(CheckWindow(config, {k}));
    const Window window = WindowOf(config, {k});
    all.push_back({window.path, window, {k}});
  }
  return CheckApart(config, std::move(all));
}

arrow::Result<platform::Device> FindDevice(const ClusterConfig& config,
                                           SegmentId segment) {
  const Window window = WindowOf(config, segment);
  auto device = platform::DescribeDevice(window.path);
  if (!device.ok()) {
    return arrow::Status::IOError("node ", segment.value, ": ", device.status().message(),
                                  ": sheaf doctor lists the devices of this host");
  }
  if (device->kind != KindOf(config.backend)) {
    return arrow::Status::IOError("node ", segment.value, ": ", window.path,
                                  " is of kind ", platform::ToString(device->kind),
                                  ", but the backend is ", ToString(config.backend));
  }
  if (window.end() > device->size_bytes) {
    return arrow::Status::IOError(
        "node ", segment.value, ": its segment takes ", RangeText(window), " (",
        PartsText(config, segment), "), which has ", FormatSize(device->size_bytes),
        ": choose another offset, or smaller size, records_size or slots_max");
  }
  if (device->unit_bytes == 0 || format::kExtentBytes % device->unit_bytes != 0) {
    return arrow::Status::IOError(
        "node ", segment.value, ": ", window.path, " is mapped in units of ",
        FormatSize(device->unit_bytes),
        ", 2MiB are needed: daxctl reconfigure-device, or ndctl --align, sets it");
  }
  return device;
}

arrow::Status CheckDevices(const ClusterConfig& config) {
  std::vector<Placed> all;
  for (uint32_t k = 0; k < config.nodes; ++k) {
    ARROW_ASSIGN_OR_RAISE(const platform::Device device, FindDevice(config, {k}));
    all.push_back({device.identity, WindowOf(config, {k}), {k}});
  }
  return CheckApart(config, std::move(all));
}

}  // namespace sheaf::region
