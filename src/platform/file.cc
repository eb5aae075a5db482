#include "platform/file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"

namespace sheaf::platform {
namespace {

constexpr mode_t kPrivateFileMode = 0600;
constexpr mode_t kPrivateFolderMode = 0700;
constexpr mode_t kWritableByOthers = S_IWGRP | S_IWOTH;

/// A signal that keeps coming must not keep a long fallocate from ending: give up then.
constexpr int kInterruptedRetriesMax = 64;

/// Between our open and our lock somebody may remove the file: lock the next one,
/// bounded.
constexpr int kLockRetriesMax = 16;

std::string OwnerAndMode(const std::string& path) {
  struct stat status;
  if (::lstat(path.c_str(), &status) != 0) return "its folder may not be searched";
  char mode[8];
  std::snprintf(mode, sizeof(mode), "%04o",
                static_cast<unsigned>(status.st_mode & 07777));
  return "owner uid " + std::to_string(status.st_uid) + ", mode " + mode +
         ", we are uid " + std::to_string(::geteuid());
}

arrow::Status OpenError(const std::string& what, const std::string& path) {
  const int error_number = errno;
  switch (error_number) {
    case ENOENT:
      return arrow::Status::KeyError(what, " ", path, ": there is none");
    case EEXIST:
      return arrow::Status::AlreadyExists(what, " ", path, ": it is there already");
    case EACCES:
    case EPERM:
      return arrow::Status::IOError(what, " ", path, ": permission denied (",
                                    OwnerAndMode(path), ")");
    case ELOOP:
      return arrow::Status::IOError(what, " ", path, ": it is a symbolic link");
    default:
      return OsError(what, path, error_number);
  }
}

/// An exclusive lock of the whole file that belongs to the open file description:
/// inherited by fork and gone with its last copy, like flock, but it can be asked for
/// without being taken.
struct flock WholeFileLock() {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

/// True if `path` still names the file behind `fd`.
bool IsSameFile(int fd, const std::string& path) {
  struct stat ours;
  struct stat named;
  return ::fstat(fd, &ours) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

/// Lines of a lock file: the pid, then the note.
std::string LockOwnerText(int fd) {
  std::array<char, 1024> block;
  const ssize_t size = ::pread(fd, block.data(), block.size(), 0);
  const std::string_view text(block.data(), size > 0 ? static_cast<size_t>(size) : 0);
  int pid = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (parsed.ec != std::errc()) return "another process";
  const size_t pid_size = static_cast<size_t>(parsed.ptr - text.data());
  std::string_view note = text.substr(std::min(text.size(), pid_size + 1));
  note = note.substr(0, note.find('\n'));
  return "process " + std::to_string(pid) + (note.empty() ? "" : ", ") +
         std::string(note);
}

arrow::Status WriteLockOwner(int fd, const std::string& path, const std::string& note) {
  const std::string text = std::to_string(::getpid()) + "\n" + note + "\n";
  if (::ftruncate(fd, 0) == 0 &&
      ::pwrite(fd, text.data(), text.size(), 0) == CheckedCast<ssize_t>(text.size())) {
    return arrow::Status::OK();
  }
  // The text is for people; the lock needs no space.
  if (errno == ENOSPC || errno == EDQUOT) return arrow::Status::OK();
  return OsError("cannot write the pid to lock file", path);
}

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

arrow::Result<struct statfs> FileSystemOf(const std::string& path) {
  struct statfs status;
  if (::statfs(path.c_str(), &status) == 0) return status;
  return OsError("cannot ask for the file system of", path);
}

}  // namespace

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = other.Release();
  }
  return *this;
}

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) ::close(fd_);
}

arrow::Status OsError(const std::string& what, const std::string& path,
                      int error_number) {
  if (error_number == 0) error_number = errno;
  return arrow::Status::IOError(what, " ", path, ": ",
                                std::generic_category().message(error_number));
}

arrow::Result<UniqueFd> OpenFile(const std::string& path, Access access) {
  const int mode = access == Access::kRead ? O_RDONLY : O_RDWR;
  UniqueFd fd(::open(path.c_str(), mode | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return OpenError("cannot open", path);
  return fd;
}

arrow::Result<UniqueFd> CreateFile(const std::string& path, uint64_t size_bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                     kPrivateFileMode));
  if (!fd.valid()) return OpenError("cannot create", path);
  if (::ftruncate(fd.get(), CheckedCast<off_t>(size_bytes)) != 0) {
    const arrow::Status status = OsError("cannot set the size of", path);
    ::unlink(path.c_str());
    return status;
  }
  return fd;
}

arrow::Result<UniqueFd> MakeUnnamedFile(const std::string& name, uint64_t size_bytes) {
  UniqueFd fd(::memfd_create(name.c_str(), MFD_CLOEXEC));
  if (!fd.valid()) return OsError("cannot make a file in memory for", name);
  if (::ftruncate(fd.get(), CheckedCast<off_t>(size_bytes)) == 0) return fd;
  return OsError("cannot set the size of", name);
}

arrow::Result<uint64_t> FileSize(int fd) {
  struct stat status;
  if (::fstat(fd, &status) != 0) {
    return OsError("cannot get the size of", "descriptor " + std::to_string(fd));
  }
  return CheckedCast<uint64_t>(status.st_size);
}

arrow::Status CheckOwnFile(int fd, const std::string& path) {
  struct stat status;
  if (::fstat(fd, &status) != 0) return OsError("cannot look at", path);
  if (status.st_uid == ::geteuid()) return arrow::Status::OK();
  return arrow::Status::IOError(path, " is another user's: ", OwnerAndMode(path));
}

arrow::Status AllocateFileRange(int fd, uint64_t offset, uint64_t size_bytes) {
  if (size_bytes == 0) return arrow::Status::OK();
  const auto begin = CheckedCast<off_t>(offset);
  const auto size = CheckedCast<off_t>(size_bytes);
  int error_number = EINTR;
  for (int i = 0; i < kInterruptedRetriesMax && error_number == EINTR; ++i) {
    if (::fallocate(fd, 0, begin, size) == 0) return arrow::Status::OK();
    error_number = errno;
  }
  const std::string range = std::to_string(offset) + "+" + std::to_string(size_bytes);
  if (error_number == ENOSPC || error_number == ENOMEM || error_number == EDQUOT) {
    return arrow::Status::OutOfMemory("cannot allocate file range ", range,
                                      ": the file system is full");
  }
  if (error_number == EOPNOTSUPP) {
    return arrow::Status::NotImplemented("this file system has no fallocate");
  }
  return OsError("cannot allocate file range", range, error_number);
}

arrow::Result<uint64_t> MissingFileBytes(int fd, uint64_t offset, uint64_t size_bytes) {
  struct stat status;
  if (::fstat(fd, &status) != 0) {
    return OsError("cannot look at", "descriptor " + std::to_string(fd));
  }
  constexpr uint64_t kBlockBytes = 512;  // of st_blocks, whatever the file system's are
  const auto file_bytes = CheckedCast<uint64_t>(status.st_size);
  const uint64_t allocated_bytes =
      std::min(CheckedCast<uint64_t>(status.st_blocks) * kBlockBytes, file_bytes);
  uint64_t hole_bytes = 0;
  uint64_t cursor = offset;
  const uint64_t end = offset + size_bytes;
  while (cursor < end) {
    const off_t data = ::lseek(fd, CheckedCast<off_t>(cursor), SEEK_DATA);
    const uint64_t hole_end = data < 0 ? end : std::min<uint64_t>(end, data);
    hole_bytes += hole_end - cursor;
    if (hole_end == end) break;
    const off_t hole = ::lseek(fd, data, SEEK_HOLE);
    cursor = hole < 0 ? end : CheckedCast<uint64_t>(hole);
  }
  return std::min(hole_bytes, file_bytes - allocated_bytes);
}

arrow::Status FreeFileRange(int fd, uint64_t offset, uint64_t size_bytes) {
  if (size_bytes == 0) return arrow::Status::OK();
  if (::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  CheckedCast<off_t>(offset), CheckedCast<off_t>(size_bytes)) != 0) {
    return OsError("cannot free file range",
                   std::to_string(offset) + "+" + std::to_string(size_bytes));
  }
  return arrow::Status::OK();
}

arrow::Result<uint64_t> FileSystemFreeBytes(const std::string& path) {
  ARROW_ASSIGN_OR_RAISE(const struct statfs status, FileSystemOf(path));
  const uint64_t free_bytes = status.f_bavail * static_cast<uint64_t>(status.f_frsize);
  if (status.f_type != TMPFS_MAGIC) return free_bytes;
  const uint64_t memory_bytes = AvailableMemoryBytes();
  // One without a limit reports no blocks at all.
  return status.f_blocks == 0 ? memory_bytes : std::min(free_bytes, memory_bytes);
}

arrow::Result<bool> IsMemoryFileSystem(const std::string& path) {
  ARROW_ASSIGN_OR_RAISE(const struct statfs status, FileSystemOf(path));
  return status.f_type == TMPFS_MAGIC;
}

arrow::Result<uint32_t> FolderOwner(const std::string& path) {
  struct stat status;
  if (::lstat(path.c_str(), &status) != 0) return OpenError("cannot look at", path);
  if (!S_ISDIR(status.st_mode)) {
    return arrow::Status::IOError(path, " is not a folder");
  }
  if ((status.st_mode & kWritableByOthers) == 0) return status.st_uid;
  return arrow::Status::IOError("folder ", path, " is not private: ", OwnerAndMode(path));
}

bool MaySearch(const std::string& folder) {
  return ::faccessat(AT_FDCWD, folder.c_str(), R_OK | X_OK, AT_EACCESS) == 0;
}

arrow::Status CheckPrivateFolder(const std::string& path) {
  ARROW_ASSIGN_OR_RAISE(const uint32_t owner, FolderOwner(path));
  if (owner == ::geteuid()) return arrow::Status::OK();
  return arrow::Status::IOError("folder ", path, " is not private: ", OwnerAndMode(path));
}

arrow::Status SetMode(const std::string& path, uint32_t mode) {
  if (::chmod(path.c_str(), mode) == 0) return arrow::Status::OK();
  return OsError("cannot set the mode of", path);
}

std::optional<std::string> FindClosedParent(const std::string& path) {
  for (size_t end = path.find('/', 1); end != std::string::npos;
       end = path.find('/', end + 1)) {
    struct stat status;
    std::string parent = path.substr(0, end);
    if (::stat(parent.c_str(), &status) == 0 &&
        (status.st_mode & (S_IXGRP | S_IXOTH)) == 0) {
      return parent;
    }
  }
  return std::nullopt;
}

arrow::Status ShareWithGroup(const std::string& path, uint32_t group_id, uint32_t mode) {
  // A folder or socket in a folder of our own: nobody else can exchange it.
  if (::chown(path.c_str(), static_cast<uid_t>(-1), group_id) == 0) {
    return SetMode(path, mode);
  }
  return OsError("cannot give group " + std::to_string(group_id) + " access to", path);
}

arrow::Status MakePrivateFolder(const std::string& path) {
  for (size_t end = path.find('/', 1); end != std::string::npos;
       end = path.find('/', end + 1)) {
    const std::string parent = path.substr(0, end);
    if (::mkdir(parent.c_str(), kPrivateFolderMode) != 0 && errno != EEXIST) {
      return OpenError("cannot create folder", parent);
    }
  }
  if (::mkdir(path.c_str(), kPrivateFolderMode) != 0 && errno != EEXIST) {
    return OpenError("cannot create folder", path);
  }
  return CheckPrivateFolder(path);
}

arrow::Status RemoveFile(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return arrow::Status::OK();
  return OsError("cannot remove", path);
}

arrow::Status RemoveEmptyFolder(const std::string& path) {
  if (::rmdir(path.c_str()) == 0 || errno == ENOENT || errno == ENOTEMPTY ||
      errno == EEXIST) {
    return arrow::Status::OK();
  }
  return OsError("cannot remove folder", path);
}

arrow::Status RemoveOwnFiles(const std::string& folder,
                             const std::function<bool(std::string_view)>& is_own) {
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  if (error == std::errc::no_such_file_or_directory) return arrow::Status::OK();
  for (; !error && entry != std::filesystem::directory_iterator();
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (is_own(name)) ARROW_RETURN_NOT_OK(RemoveFile(entry->path().string()));
  }
  if (error) return OsError("cannot list", folder, error.value());
  return RemoveEmptyFolder(folder);
}

arrow::Status RemoveAll(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);  // Does not follow symbolic links.
  if (error) return OsError("cannot remove", path, error.value());
  return arrow::Status::OK();
}

arrow::Result<FileLock> FileLock::Acquire(const std::string& path,
                                          const std::string& note) {
  for (int i = 0; i < kLockRetriesMax; ++i) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                       kPrivateFileMode));
    if (!fd.valid()) return OpenError("cannot open lock file", path);
    struct flock lock = WholeFileLock();
    if (::fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
      if (errno != EAGAIN && errno != EACCES) return OsError("cannot lock", path);
      return arrow::Status::AlreadyExists("lock ", path, " is held by ",
                                          LockOwnerText(fd.get()));
    }
    if (!IsSameFile(fd.get(), path)) continue;
    ARROW_RETURN_NOT_OK(WriteLockOwner(fd.get(), path, note));
    return FileLock(std::move(fd), path);
  }
  return arrow::Status::IOError("lock file ", path, " is removed again and again");
}

arrow::Result<UniqueFd> FileLock::MakeFor(const std::string& path,
                                          const std::string& note) {
  ARROW_ASSIGN_OR_RAISE(const UniqueFd made, CreateFile(path, 0));
  arrow::Status status = WriteLockOwner(made.get(), path, note);
  if (status.ok() && FileSize(made.get()).ValueOr(0) == 0) {
    status = arrow::Status::OutOfMemory("no room for lock file ", path);
  }
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (status.ok() && !fd.valid()) status = OpenError("cannot open lock file", path);
  // A lock for reading is all that such a descriptor can hold. It conflicts with those
  // that Acquire takes, and that IsHeld asks for.
  struct flock lock = WholeFileLock();
  lock.l_type = F_RDLCK;
  if (status.ok() && ::fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
    status = OsError("cannot lock", path);
  }
  if (status.ok()) return fd;
  ::unlink(path.c_str());
  return status;
}

arrow::Result<bool> FileLock::IsHeld(const std::string& path) {
  ARROW_ASSIGN_OR_RAISE(const std::string holder, HolderOf(path));
  return !holder.empty();
}

arrow::Result<std::string> FileLock::HolderOf(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) {
    if (errno == ENOENT) return "";
    return OpenError("cannot open lock file", path);
  }
  struct flock lock = WholeFileLock();
  if (::fcntl(fd.get(), F_OFD_GETLK, &lock) != 0)
    return OsError("cannot query lock", path);
  return lock.l_type == F_UNLCK ? "" : LockOwnerText(fd.get());
}

arrow::Status FileLock::Remove() const { return RemoveFile(path_); }

}  // namespace sheaf::platform
