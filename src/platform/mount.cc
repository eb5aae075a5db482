#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/file.h"

namespace sheaf::platform {
namespace {

constexpr uint64_t kKiB = 1024;

/// What smaps tells about one mapping, in KiB.
struct SmapsEntry {
  uint64_t page_kib = 0;
  uint64_t resident_kib = 0;
  uint64_t huge_kib = 0;  ///< Mapped by huge pages although `page_kib` is the small size.
};

/// True if `line` opens a mapping ("7f00-7f10 rw-s ..."); then tells whether `address` is
/// in it.
bool ParseRange(const std::string& line, uint64_t address, bool* contains) {
  unsigned long begin = 0;  // NOLINT(google-runtime-int): what sscanf wants
  unsigned long end = 0;    // NOLINT(google-runtime-int)
  if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) != 2) return false;
  *contains = begin <= address && address < end;
  return true;
}

void ParseField(const std::string& line, SmapsEntry* entry) {
  std::istringstream words(line);
  std::string name;
  uint64_t kib = 0;
  if (!(words >> name >> kib)) return;
  if (name == "KernelPageSize:") entry->page_kib = kib;
  if (name == "Rss:") entry->resident_kib = kib;
  if (name == "ShmemPmdMapped:" || name == "FilePmdMapped:") entry->huge_kib += kib;
}

uint64_t HugePageBytes() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
  uint64_t bytes = 0;
  file >> bytes;
  return bytes;
}

}  // namespace

arrow::Result<uint64_t> BackingPageSize(const void* address) {
  std::ifstream smaps("/proc/self/smaps");
  SmapsEntry entry;
  bool contains = false;
  for (std::string line; std::getline(smaps, line);) {
    bool next_contains = false;
    if (!ParseRange(line, reinterpret_cast<uint64_t>(address), &next_contains)) {
      if (contains) ParseField(line, &entry);
      continue;
    }
    if (contains) break;
    contains = next_contains;
  }
  if (entry.page_kib == 0) {
    return arrow::Status::IOError("/proc/self/smaps does not know the page size of ",
                                  address);
  }
  const bool mostly_huge = entry.huge_kib > 0 && entry.huge_kib >= entry.resident_kib / 2;
  return mostly_huge ? HugePageBytes() : entry.page_kib * kKiB;
}

arrow::Status MountHugeTmpfs(const std::string& folder, uint64_t size_bytes) {
  const std::string options = "mode=0700,huge=advise,size=" + std::to_string(size_bytes);
  if (::mount("sheaf", folder.c_str(), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              options.c_str()) != 0) {
    return OsError("cannot mount a tmpfs on", folder);
  }
  return arrow::Status::OK();
}

arrow::Status Unmount(const std::string& folder) {
  // Detached: processes that still map its files keep that memory until they end.
  if (::umount2(folder.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
    return arrow::Status::OK();
  }
  const int error_number = errno;
  if (error_number == EINVAL || error_number == ENOENT) return arrow::Status::OK();
  ARROW_ASSIGN_OR_RAISE(const bool mounted, IsMountPoint(folder));
  if (!mounted) return arrow::Status::OK();
  return OsError("cannot unmount", folder, error_number);
}

arrow::Result<bool> IsMountPoint(const std::string& folder) {
  struct statx status;
  if (::statx(AT_FDCWD, folder.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE,
              &status) != 0) {
    if (errno == ENOENT) return false;
    return OsError("cannot look at", folder);
  }
  if ((status.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0) {
    return (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  }
  // Before Linux 5.8: a mount point is on another device than its parent.
  struct statx parent;
  if (::statx(AT_FDCWD, (folder + "/..").c_str(), 0, STATX_TYPE, &parent) != 0) {
    return OsError("cannot look at the parent of", folder);
  }
  return status.stx_dev_major != parent.stx_dev_major ||
         status.stx_dev_minor != parent.stx_dev_minor;
}

}  // namespace sheaf::platform
