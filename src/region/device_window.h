// Where the parts of a segment lie in a device: one range of it, the segment's window,
// holds control, leases and data part one after the other, each from a multiple of 2 MiB.

#pragma once

#include <cstdint>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/device.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::region {

/// \brief A range of a device, in bytes from its start.
struct Window {
  std::string path;
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
  uint64_t end() const { return offset + size_bytes; }
};

/// \brief The window of a segment, as the cluster file says.
Window WindowOf(const ClusterConfig& config, SegmentId segment);
/// \brief Of one of its parts: exactly its bytes, without what fills up to 2 MiB.
Window WindowOf(const ClusterConfig& config, SegmentId segment, PartKind kind);

/// \brief Invalid, naming the key, unless all nodes have windows that are aligned and do
/// not overlap, or none has one. Backends devdax and pci want them, shm and sim have
/// none.
arrow::Status CheckWindows(const ClusterConfig& config);

/// \brief The device of `segment`, whose window lies in it. IOError if there is no such
/// device here, if it is another kind than the backend's, or too small, or if its unit of
/// mapping divides no 2 MiB, saying what there is and what to do.
arrow::Result<platform::Device> FindDevice(const ClusterConfig& config,
                                           SegmentId segment);

/// \brief FindDevice of every segment, and Invalid if windows overlap that have the same
/// device under two paths.
arrow::Status CheckDevices(const ClusterConfig& config);

}  // namespace sheaf::region
