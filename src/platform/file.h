// Files, locks and mappings: thin owners of OS resources with clear errors. Any thread.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/owner_process.h"

namespace sheaf::platform {

/// \brief Owns a file descriptor; -1 means none.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  ~UniqueFd();
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

enum class Access : uint8_t {
  kRead,
  kReadWrite,
  kCopyOnWrite,  ///< Of a mapping: writable, and nobody else sees what is written.
};

/// \brief IOError with `what`, the path and the text of `error_number` (default: errno).
arrow::Status OsError(const std::string& what, const std::string& path,
                      int error_number = 0);

/// \brief Open an existing file. KeyError if there is none; IOError names owner and mode
/// when permission is denied. Symbolic links are refused at the last component.
arrow::Result<UniqueFd> OpenFile(const std::string& path, Access access);

/// \brief Create `path` (mode 0600) with `size_bytes` of holes; AlreadyExists if it is
/// there.
arrow::Result<UniqueFd> CreateFile(const std::string& path, uint64_t size_bytes);

/// \brief A file in memory (memfd) of `size_bytes` of holes; `name` is for people.
arrow::Result<UniqueFd> MakeUnnamedFile(const std::string& name, uint64_t size_bytes);

arrow::Result<uint64_t> FileSize(int fd);

/// \brief Really allocate the bytes (fallocate), so that storing there can never raise
/// SIGBUS. OutOfMemory if the file system is full; nothing stays allocated that was not
/// before. NotImplemented on a file system without fallocate.
arrow::Status AllocateFileRange(int fd, uint64_t offset, uint64_t size_bytes);

/// \brief How many bytes of the range have no memory yet, at most: pages that were
/// allocated but never stored to may count.
arrow::Result<uint64_t> MissingFileBytes(int fd, uint64_t offset, uint64_t size_bytes);

/// \brief Give whole pages of the range back to the file system (a hole, reads as zeros).
arrow::Status FreeFileRange(int fd, uint64_t offset, uint64_t size_bytes);

/// \brief Free bytes of the file system that holds `path` (a folder or file). Of a tmpfs
/// no more than the host's available memory: its limit may be larger, and to take more
/// than there is would end in a kill, not in an error.
arrow::Result<uint64_t> FileSystemFreeBytes(const std::string& path);
/// \brief True if files there take the host's memory: `path` lies in a tmpfs.
arrow::Result<bool> IsMemoryFileSystem(const std::string& path);

/// \brief User id of the owner of folder `path`, whom whoever uses it trusts. IOError if
/// it is no folder or others may write it; KeyError if there is none.
arrow::Result<uint32_t> FolderOwner(const std::string& path);
/// \brief True if this process may list the folder and open what is in it.
bool MaySearch(const std::string& folder);
/// \brief FolderOwner, and IOError if that is another user.
arrow::Status CheckPrivateFolder(const std::string& path);
/// \brief Create `path` and missing parents with mode 0700; refuse one that
/// CheckPrivateFolder refuses.
arrow::Status MakePrivateFolder(const std::string& path);

/// \brief Change the mode of what this user owns.
arrow::Status SetMode(const std::string& path, uint32_t mode);
/// \brief The first folder above `path` that only its owner may search, if there is one.
std::optional<std::string> FindClosedParent(const std::string& path);
/// \brief Give what this user owns to group `group_id`, with `mode`. IOError if this user
/// is not in that group.
arrow::Status ShareWithGroup(const std::string& path, uint32_t group_id, uint32_t mode);

/// \brief IOError if the open file (`path` is for messages) belongs to another user.
arrow::Status CheckOwnFile(int fd, const std::string& path);

/// \brief Remove a file; OK if there is none.
arrow::Status RemoveFile(const std::string& path);
/// \brief Remove a folder; OK if there is none. One that is not empty stays: OK too.
arrow::Status RemoveEmptyFolder(const std::string& path);
/// \brief Remove the files in `folder` (not below it) whose names `is_own` knows, then
/// the folder if that left it empty. How a folder goes that may hold files of others.
arrow::Status RemoveOwnFiles(const std::string& folder,
                             const std::function<bool(std::string_view)>& is_own);
/// \brief Remove a file or a folder with all below it; OK if there is none. Never for a
/// path that a user chose.
arrow::Status RemoveAll(const std::string& path);

/// \brief An exclusive lock of `path` (created 0600, holds the owner's pid and note as
/// text), held until destruction, inherited by fork with the descriptor. Not flock's but
/// F_OFD_SETLK's, for which IsHeld can ask without making an Acquire fail.
class FileLock {
 public:
  /// \brief AlreadyExists, naming pid and note of the holder, if held. `note` is one line
  /// for whoever is refused.
  static arrow::Result<FileLock> Acquire(const std::string& path,
                                         const std::string& note = "");
  /// \brief A lock for somebody else: it lasts as long as a copy of the descriptor does,
  /// in whatever process, and nothing can be written through it. AlreadyExists if there
  /// is such a file; IsHeld and Acquire know the lock as any other.
  static arrow::Result<UniqueFd> MakeFor(const std::string& path,
                                         const std::string& note);
  /// True if some process holds the lock at `path`; false if none or no file.
  static arrow::Result<bool> IsHeld(const std::string& path);
  /// \brief "process 17", and the note it left; empty if nobody holds the lock.
  static arrow::Result<std::string> HolderOf(const std::string& path);

  /// Hold another lock as long (LockRange of device.h).
  void Keep(UniqueFd other) { other_ = std::move(other); }
  /// \brief Remove the file while it is still locked: who locks next makes a new one.
  arrow::Status Remove() const;

 private:
  FileLock(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  UniqueFd fd_;
  UniqueFd other_;
  std::string path_;
};

/// \brief A shared mapping of a range of a file, unmapped on destruction. In a forked
/// child one that ever was writable stays mapped: what was not inherited is a hole, where
/// anything else may lie by now.
class Mapping {
 public:
  /// \brief Map a range of whole pages at `wanted_address` if it is not 0 and free
  /// (MAP_FIXED_NOREPLACE), anywhere else (aligned to 2 MiB) otherwise. Invalid if a
  /// regular file is shorter. Under thread sanitizer always anywhere.
  static arrow::Result<Mapping> Map(int fd, uint64_t size_bytes, Access access,
                                    uint64_t wanted_address = 0,
                                    uint64_t file_offset = 0);
  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  uint8_t* data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }

  /// \brief Change access of a page-aligned range (mprotect). The file must be open for
  /// it. Writable ranges are not inherited by fork (MADV_DONTFORK), read-only ones are.
  arrow::Status Protect(uint64_t offset, uint64_t size_bytes, Access access);

  /// \brief Ask for huge pages on the whole mapping; has effect only where the system
  /// gives them.
  void AdviseHugePages();

  /// \brief Really allocate and touch a range through this writable mapping
  /// (MADV_POPULATE_WRITE): huge pages where advised. OutOfMemory if the memory is not
  /// there: pages touched before stay allocated, FreeFileRange gives them back.
  /// NotImplemented on a kernel without it (before Linux 5.14): AllocateFileRange does
  /// the same there, page by page.
  arrow::Status PopulateWrite(uint64_t offset, uint64_t size_bytes);

 private:
  Mapping(uint8_t* data, uint64_t size_bytes) : data_(data), size_bytes_(size_bytes) {}
  arrow::Status CheckPages(uint64_t offset, uint64_t size_bytes) const;
  arrow::Status SetForkRule(uint64_t offset, uint64_t size_bytes, Access access);
  void Unmap();

  uint8_t* data_ = nullptr;
  uint64_t size_bytes_ = 0;
  bool has_been_writable_ = false;
  OwnerProcess owner_;
};

/// \brief Page size that backs most of the touched part of the mapping around `address`
/// in this process now, in bytes (from smaps; slow).
arrow::Result<uint64_t> BackingPageSize(const void* address);

/// \brief Mount a tmpfs with huge=advise of `size_bytes` on `folder`, mode 0700. IOError
/// if the caller may not mount.
arrow::Status MountHugeTmpfs(const std::string& folder, uint64_t size_bytes);
/// \brief Unmount what is mounted on `folder`, if anything is.
arrow::Status Unmount(const std::string& folder);
arrow::Result<bool> IsMountPoint(const std::string& folder);

}  // namespace sheaf::platform
