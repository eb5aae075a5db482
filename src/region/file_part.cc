#include "region/file_part.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "platform/file.h"
#include "region/cluster_config.h"

namespace sheaf::region {

using platform::Access;
using platform::Mapping;

namespace {

arrow::Status Full(const std::string& path, uint64_t needed_bytes) {
  const auto free_bytes = platform::FileSystemFreeBytes(path);
  return arrow::Status::OutOfMemory(
      path, ": ", needed_bytes, " bytes of memory are needed, free there: ",
      free_bytes.ok() ? std::to_string(*free_bytes) + " bytes" : "unknown",
      ". Remove tables, end what else takes memory, or start with a smaller --size or a "
      "larger memory file system");
}

/// A tmpfs hands out more than the host has, and whoever takes it is killed: ask before.
/// Other file systems say themselves when they are full. What a former daemon allocated
/// is there.
arrow::Status CheckMemory(int fd, const std::string& path, uint64_t offset,
                          uint64_t size_bytes) {
  ARROW_ASSIGN_OR_RAISE(const bool takes_memory, platform::IsMemoryFileSystem(path));
  if (!takes_memory) return arrow::Status::OK();
  ARROW_ASSIGN_OR_RAISE(const uint64_t needed_bytes,
                        platform::MissingFileBytes(fd, offset, size_bytes));
  if (needed_bytes == 0) return arrow::Status::OK();
  ARROW_ASSIGN_OR_RAISE(const uint64_t free_bytes, platform::FileSystemFreeBytes(path));
  return needed_bytes <= free_bytes ? arrow::Status::OK() : Full(path, needed_bytes);
}

}  // namespace

arrow::Status AllocateInFile(int fd, const std::string& path, uint64_t offset,
                             uint64_t size_bytes) {
  ARROW_RETURN_NOT_OK(CheckMemory(fd, path, offset, size_bytes));
  const arrow::Status status = platform::AllocateFileRange(fd, offset, size_bytes);
  return status.IsOutOfMemory() ? Full(path, size_bytes) : status;
}

arrow::Result<std::unique_ptr<platform::CacheControl>> MakeCacheControl(
    const ClusterConfig& config) {
  if (config.coherence == Coherence::kCoherent) {
    return platform::MakeCoherentCacheControl();
  }
  return platform::MakeSoftwareCacheControl(config.settle_class, config.posted_delay_us);
}

arrow::Result<platform::UniqueFd> OpenFileFor(const std::string& path,
                                              const PartAccess& access) {
  const bool writable = access.open_writable || access.map_writable;
  ARROW_ASSIGN_OR_RAISE(
      platform::UniqueFd fd,
      platform::OpenFile(path, writable ? Access::kReadWrite : Access::kRead));
  ARROW_RETURN_NOT_OK(platform::CheckOwnFile(fd.get(), path));
  return fd;
}

arrow::Result<std::unique_ptr<FilePart>> FilePart::Open(
    const std::string& path, uint64_t size_bytes, const PartAccess& access,
    std::unique_ptr<platform::CacheControl> cache) {
  ARROW_ASSIGN_OR_RAISE(platform::UniqueFd file, OpenFileFor(path, access));
  return Map(path, std::move(file), size_bytes, access, std::move(cache));
}

arrow::Result<std::unique_ptr<FilePart>> FilePart::Map(
    const std::string& path, platform::UniqueFd file, uint64_t size_bytes,
    const PartAccess& access, std::unique_ptr<platform::CacheControl> cache) {
  std::unique_ptr<FilePart> part(new FilePart());
  part->path_ = path;
  part->access_ = access;
  part->fd_ = std::move(file);
  Access map_access = access.map_writable ? Access::kReadWrite : Access::kRead;
  if (access.copy_on_write) map_access = Access::kCopyOnWrite;
  ARROW_ASSIGN_OR_RAISE(part->mapping_, Mapping::Map(part->fd_.get(), size_bytes,
                                                     map_access, access.wanted_address));
  if (access.huge_pages) part->mapping_.AdviseHugePages();
  part->data_ = part->mapping_.data();
  part->size_bytes_ = size_bytes;
  part->owned_cache_ = std::move(cache);
  part->cache_ = part->owned_cache_.get();
  return part;
}

arrow::Status FilePart::Allocate(uint64_t offset, uint64_t size_bytes) {
  if (!FitsWithin(offset, size_bytes, size_bytes_)) {
    return arrow::Status::Invalid(path_, ": range ", offset, "+", size_bytes,
                                  " ends past its ", size_bytes_, " bytes");
  }
  if (access_.copy_on_write) return arrow::Status::OK();  // as it is written
  if (!access_.open_writable && !access_.map_writable) {
    return arrow::Status::IOError(path_, ": this process may only read it");
  }
  if (size_bytes == 0) return arrow::Status::OK();
  return Populate(offset, size_bytes);
}

arrow::Status FilePart::Populate(uint64_t offset, uint64_t size_bytes) {
  // fallocate gives all or nothing but small pages only; touching gives huge pages but
  // stops half-way when memory ends. So touch only where enough is free.
  if (access_.huge_pages) {
    ARROW_RETURN_NOT_OK(CheckMemory(fd_.get(), path_, offset, size_bytes));
    ARROW_ASSIGN_OR_RAISE(Mapping alias,
                          Mapping::Map(fd_.get(), size_bytes_, Access::kReadWrite));
    alias.AdviseHugePages();
    // The smallest extent is a multiple of every page size but the huge ones.
    const uint64_t begin = RoundDown(offset, format::kSmallExtentBytes);
    const uint64_t end =
        std::min(RoundUp(offset + size_bytes, format::kSmallExtentBytes), size_bytes_);
    arrow::Status status = alias.PopulateWrite(begin, end - begin);
    if (status.IsOutOfMemory()) return Full(path_, size_bytes);
    if (!status.IsNotImplemented()) return status;
  }
  return AllocateInFile(fd_.get(), path_, offset, size_bytes);
}

arrow::Status FilePart::SetWritable(uint64_t offset, uint64_t size_bytes, bool writable) {
  if (!FitsWithin(offset, size_bytes, size_bytes_)) {
    return arrow::Status::Invalid(path_, ": range ", offset, "+", size_bytes,
                                  " ends past its ", size_bytes_, " bytes");
  }
  if (writable && !access_.open_writable && !access_.map_writable) {
    return arrow::Status::IOError(path_, ": this process may only read it");
  }
  return mapping_.Protect(offset, size_bytes,
                          writable ? Access::kReadWrite : Access::kRead);
}

}  // namespace sheaf::region
