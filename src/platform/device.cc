#include "platform/device.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <ios>
#include <regex>
#include <string>
#include <system_error>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "platform/cache_instructions.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/shared_word.h"

namespace sheaf::platform {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDaxFolder = "/sys/bus/dax/devices";
constexpr const char* kPciFolder = "/sys/bus/pci/devices";
constexpr const char* kSharedMemoryBar = "/resource2";  // of ivshmem
/// Where sysfs does not say (before Linux 5.10).
constexpr uint64_t kDaxUnitBytes = uint64_t{2} << 20;

// As sysfs writes numbers: decimal or 0x...; 0 if there is none.
uint64_t ReadNumber(const std::string& path) {
  uint64_t number = 0;
  std::ifstream file(path);
  file >> std::setbase(0) >> number;
  return number;
}

arrow::Result<Device> DescribeDax(Device device, dev_t number) {
  const std::string id =
      std::to_string(major(number)) + ":" + std::to_string(minor(number));
  const std::string folder = "/sys/dev/char/" + id;
  std::error_code error;
  if (fs::read_symlink(folder + "/subsystem", error).filename() != "dax") {
    return arrow::Status::IOError(device.path,
                                  " is a character device, but no DAX "
                                  "device (/dev/daxX.Y)");
  }
  device.kind = DeviceKind::kDax;
  device.identity = "char " + id;
  device.size_bytes = ReadNumber(folder + "/size");
  device.unit_bytes = ReadNumber(folder + "/align");
  if (device.unit_bytes == 0) device.unit_bytes = kDaxUnitBytes;
  return device;
}

bool IsPciBar(const std::string& real_path) {
  static const std::regex kPattern(R"(/sys/devices/.*/resource[0-5](_wc)?)");
  return std::regex_match(real_path, kPattern);
}

arrow::Result<Device> DescribePciBar(Device device, const std::string& real_path) {
  device.kind = DeviceKind::kPciBar;
  device.identity = real_path;
  if (device.identity.ends_with("_wc")) device.identity.resize(real_path.size() - 3);
  // A function that does not decode its memory answers each load with ones.
  constexpr std::streamoff kCommandRegister = 4;
  constexpr int kMemorySpace = 2;
  const std::string function = fs::path(real_path).parent_path().string();
  std::ifstream config(function + "/config", std::ios::binary);
  const int command = config.seekg(kCommandRegister).get();
  if (config && (command & kMemorySpace) == 0) {
    return arrow::Status::IOError(device.path,
                                  ": the memory of this PCI function is "
                                  "switched off: echo 1 > ",
                                  function, "/enable");
  }
  return device;
}

constexpr uint64_t kProbedBytes = 64;
constexpr int kProbeRounds = 1001;

// Nanoseconds of one load, after `before` and a fence.
template <typename Before>
double MedianLoad(const uint8_t* line, Before before) {
  const SharedWord word(reinterpret_cast<const uint64_t*>(line));
  std::vector<std::chrono::nanoseconds> times;
  for (int i = 0; i < kProbeRounds; ++i) {
    before();
    FullFence();
    const auto start = std::chrono::steady_clock::now();
    word.LoadAcquire();
    FullFence();
    times.push_back(std::chrono::steady_clock::now() - start);
  }
  std::ranges::nth_element(times, times.begin() + kProbeRounds / 2);
  return static_cast<double>(times[kProbeRounds / 2].count());
}

}  // namespace

const char* ToString(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::kFile:
      return "file";
    case DeviceKind::kDax:
      return "devdax";
    case DeviceKind::kPciBar:
      return "pci";
  }
  return "unknown";
}

arrow::Result<Device> DescribeDevice(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return arrow::Status::KeyError("there is no ", path);
    return OsError("cannot look at", path);
  }
  Device device;
  device.path = path;
  device.unit_bytes = PageBytes();
  if (S_ISCHR(status.st_mode)) return DescribeDax(device, status.st_rdev);
  if (!S_ISREG(status.st_mode)) {
    return arrow::Status::IOError(path, " is neither a device nor a file to map");
  }
  device.size_bytes = CheckedCast<uint64_t>(status.st_size);
  std::error_code error;
  const std::string real_path = fs::canonical(path, error).string();
  if (IsPciBar(real_path)) return DescribePciBar(device, real_path);
  device.identity =
      "file " + std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
  return device;
}

arrow::Result<UniqueFd> OpenDevice(const Device& device, Access access) {
  std::error_code error;
  const fs::path real_path = fs::canonical(device.path, error);
  if (error) return OsError("cannot look at", device.path, error.value());
  ARROW_ASSIGN_OR_RAISE(UniqueFd fd, OpenFile(real_path.string(), access));
  // Whoever may open a device is trusted with it; a file is as private as any other.
  if (device.kind == DeviceKind::kFile) {
    ARROW_RETURN_NOT_OK(CheckOwnFile(fd.get(), device.path));
  }
  return fd;
}

arrow::Result<UniqueFd> LockRange(const Device& device, uint64_t offset,
                                  uint64_t size_bytes) {
  ARROW_ASSIGN_OR_RAISE(UniqueFd fd, OpenDevice(device, Access::kReadWrite));
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = CheckedCast<off_t>(offset);
  lock.l_len = CheckedCast<off_t>(size_bytes);
  if (::fcntl(fd.get(), F_OFD_SETLK, &lock) == 0) return fd;
  if (errno != EAGAIN && errno != EACCES) return OsError("cannot lock", device.path);
  return arrow::Status::AlreadyExists("another process holds bytes ", offset, " to ",
                                      offset + size_bytes, " of ", device.path);
}

arrow::Result<DeviceProbe> ProbeDevice(const Device& device) {
  if (!CanFlushLines()) {
    return arrow::Status::NotImplemented("user space of this CPU cannot flush caches");
  }
  DeviceProbe probe;
  probe.is_writable = OpenDevice(device, Access::kReadWrite).ok();
  ARROW_ASSIGN_OR_RAISE(const UniqueFd fd, OpenDevice(device, Access::kRead));
  ARROW_ASSIGN_OR_RAISE(const Mapping mapping,
                        Mapping::Map(fd.get(), device.unit_bytes, Access::kRead));
  const std::vector<uint8_t> before(mapping.data(), mapping.data() + kProbedBytes);
  probe.cached_ns = MedianLoad(mapping.data(), [] {});
  probe.flushed_ns =
      MedianLoad(mapping.data(), [&] { FlushLines(mapping.data(), kProbedBytes); });
  probe.is_kept = std::memcmp(before.data(), mapping.data(), kProbedBytes) == 0;
  return probe;
}

std::vector<Device> ListDevices() {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator entry(kDaxFolder, error), end; !error && entry != end;
       entry.increment(error)) {
    paths.push_back("/dev/" + entry->path().filename().string());
  }
  error.clear();
  for (fs::directory_iterator entry(kPciFolder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string function = entry->path().string();
    constexpr uint64_t kRedHat = 0x1AF4;
    constexpr uint64_t kIvshmem = 0x1110;
    if (ReadNumber(function + "/vendor") == kRedHat &&
        ReadNumber(function + "/device") == kIvshmem) {
      paths.push_back(function + kSharedMemoryBar);
    }
  }
  std::ranges::sort(paths);
  std::vector<Device> devices;
  for (const std::string& path : paths) {
    const auto device = DescribeDevice(path);
    if (device.ok()) devices.push_back(*device);
  }
  return devices;
}

}  // namespace sheaf::platform
