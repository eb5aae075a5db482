// Devices whose memory processes may map: device DAX, PCI BARs, and, for the same
// handling, files of a fixed size. What Linux says of them in sysfs. Any thread.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <arrow/result.h>

#include "platform/file.h"

namespace sheaf::platform {

enum class DeviceKind : uint8_t {
  kFile,    ///< A regular file.
  kDax,     ///< A character device /dev/daxX.Y: write-back memory.
  kPciBar,  ///< `resourceN` of a PCI function in sysfs; with `_wc` write-combining.
};
/// "file", "devdax", "pci": as the cluster file calls the backends.
const char* ToString(DeviceKind kind);

/// \brief One thing that can be mapped, as it is now.
struct Device {
  std::string path;      ///< As asked for.
  std::string identity;  ///< Equal for two paths to the same memory of this host.
  DeviceKind kind = DeviceKind::kFile;
  uint64_t size_bytes = 0;
  uint64_t unit_bytes = 0;  ///< Mappings and their protections are multiples of it.
};

/// \brief What `path` is; symbolic links are followed. KeyError if there is none, IOError
/// if it is no such device or a PCI function whose memory is switched off.
arrow::Result<Device> DescribeDevice(const std::string& path);

/// \brief Open it. IOError names owner and mode when permission is denied.
arrow::Result<UniqueFd> OpenDevice(const Device& device, Access access);

/// \brief Lock a range of it against all other processes of this host that do, by
/// whatever path they came to it, until the last copy of the descriptor is closed.
/// AlreadyExists if one holds part of it.
arrow::Result<UniqueFd> LockRange(const Device& device, uint64_t offset,
                                  uint64_t size_bytes);

/// \brief How this host's caches treat a device.
struct DeviceProbe {
  bool is_writable = false;  ///< This process may open it for writing.
  double cached_ns = 0;      ///< A load of a line that was loaded before, median.
  double flushed_ns = 0;     ///< Of one that was flushed since.
  bool is_kept = false;      ///< Flushing changed no byte.
};
/// \brief Flush and load its first line, many times, and write nothing. NotImplemented if
/// user space of this CPU cannot flush; IOError if the device may not be opened or
/// mapped.
arrow::Result<DeviceProbe> ProbeDevice(const Device& device);

/// \brief The DAX devices and the shared-memory BARs (ivshmem) of this host.
std::vector<Device> ListDevices();

}  // namespace sheaf::platform
