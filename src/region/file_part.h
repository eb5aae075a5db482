// A part that is one mapped file: backends shm and file, and what the simulator's parts
// are made of.

#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/cache.h"
#include "platform/file.h"
#include "region/region.h"

namespace sheaf::region {

/// \brief What this process may do with a part.
struct PartAccess {
  bool open_writable = false;  ///< May become writable (SetWritable) and be allocated.
  bool map_writable = false;   ///< Writable from the start. Implies `open_writable`.
  bool copy_on_write = false;  ///< Writable, without changing the file.
  uint64_t wanted_address = 0;
  bool huge_pages = false;  ///< Of a file system that gives them where they are advised.
};

/// \brief Open `path`, a file of this user, for `access`.
arrow::Result<platform::UniqueFd> OpenFileFor(const std::string& path,
                                              const PartAccess& access);

/// \brief A part over one file. Thread-safe.
class FilePart : public Part {
 public:
  /// \brief Map the first `size_bytes` of `path`.
  static arrow::Result<std::unique_ptr<FilePart>> Open(
      const std::string& path, uint64_t size_bytes, const PartAccess& access,
      std::unique_ptr<platform::CacheControl> cache);
  /// \brief The same of `file`, which is open for `access`; `path` is for messages.
  static arrow::Result<std::unique_ptr<FilePart>> Map(
      const std::string& path, platform::UniqueFd file, uint64_t size_bytes,
      const PartAccess& access, std::unique_ptr<platform::CacheControl> cache);

  arrow::Status Allocate(uint64_t offset, uint64_t size_bytes) override;
  arrow::Status SetWritable(uint64_t offset, uint64_t size_bytes, bool writable) override;

 private:
  FilePart() = default;
  arrow::Status Populate(uint64_t offset, uint64_t size_bytes);

  std::string path_;
  PartAccess access_;
  platform::UniqueFd fd_;
  platform::Mapping mapping_;
  std::unique_ptr<platform::CacheControl> owned_cache_;
};

/// \brief Really allocate a range of the file `path`, open as `fd`. OutOfMemory says what
/// is needed, what is free and what to do; nothing changes then.
arrow::Status AllocateInFile(int fd, const std::string& path, uint64_t offset,
                             uint64_t size_bytes);

/// \brief What the memory of a backend other than the simulator needs.
arrow::Result<std::unique_ptr<platform::CacheControl>> MakeCacheControl(
    const ClusterConfig& config);

}  // namespace sheaf::region
