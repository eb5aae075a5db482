#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/sanitizer.h"

namespace sheaf::platform {
namespace {

/// Mappings start at a multiple of it, so that huge pages can back them.
constexpr uint64_t kMappingAlignment = uint64_t{2} << 20;

/// A signal that keeps coming must not keep a long populate from ending: give up then.
constexpr int kInterruptedRetriesMax = 64;

#ifndef MADV_POPULATE_WRITE  // Linux 5.14; the C library of Debian 12 knows it.
#  define MADV_POPULATE_WRITE 23
#endif
#ifndef MAP_FIXED_NOREPLACE  // Linux 4.17; older kernels take it for a hint.
#  define MAP_FIXED_NOREPLACE 0x100000
#endif

// Thread sanitizer aborts when a fixed address lies in its shadow, and low ones do.
constexpr bool kAddressHintsWork = SHEAF_THREAD_SANITIZER == 0;

int Protection(Access access) {
  return access == Access::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
}

int Sharing(Access access) {
  return access == Access::kCopyOnWrite ? MAP_PRIVATE : MAP_SHARED;
}

std::string RangeText(uint64_t offset, uint64_t size_bytes) {
  return "range " + std::to_string(offset) + "+" + std::to_string(size_bytes);
}

/// What of which file.
struct FileRange {
  int fd;
  off_t offset;
  uint64_t size_bytes;
};

/// The file at exactly `wanted_address`, or null.
void* MapAtWanted(const FileRange& range, Access access, uint64_t wanted_address) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the address comes from a configuration
  void* wanted = reinterpret_cast<void*>(wanted_address);
  void* got = ::mmap(wanted, range.size_bytes, Protection(access),
                     Sharing(access) | MAP_FIXED_NOREPLACE, range.fd, range.offset);
  if (got == MAP_FAILED) return nullptr;
  if (got == wanted) return got;
  ::munmap(got, range.size_bytes);
  return nullptr;
}

/// The file at any address that is a multiple of kMappingAlignment, or MAP_FAILED with
/// errno.
void* MapAnywhere(const FileRange& range, Access access) {
  const uint64_t reserved_bytes =
      RoundUp(range.size_bytes, PageBytes()) + kMappingAlignment;
  void* reserved = ::mmap(nullptr, reserved_bytes, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return MAP_FAILED;
  const auto begin = reinterpret_cast<uintptr_t>(reserved);
  const uint64_t head_bytes = RoundUp(begin, kMappingAlignment) - begin;
  uint8_t* aligned = static_cast<uint8_t*>(reserved) + head_bytes;
  // MAP_FIXED replaces only what was reserved above.
  void* mapped = ::mmap(aligned, range.size_bytes, Protection(access),
                        Sharing(access) | MAP_FIXED, range.fd, range.offset);
  if (mapped == MAP_FAILED) {
    const int error_number = errno;
    ::munmap(reserved, reserved_bytes);
    errno = error_number;
    return MAP_FAILED;
  }
  if (head_bytes > 0) ::munmap(reserved, head_bytes);
  const uint64_t tail_bytes = kMappingAlignment - head_bytes;
  uint8_t* tail = aligned + (reserved_bytes - kMappingAlignment);
  if (tail_bytes > 0) ::munmap(tail, tail_bytes);
  return mapped;
}

/// A mapping past the end of its file raises SIGBUS when touched. Devices have no size.
arrow::Status CheckFileCovers(int fd, uint64_t offset, uint64_t size_bytes) {
  struct stat status;
  if (::fstat(fd, &status) != 0) {
    return OsError("cannot get the size of", "descriptor " + std::to_string(fd));
  }
  if (S_ISREG(status.st_mode) &&
      !FitsWithin(offset, size_bytes, CheckedCast<uint64_t>(status.st_size))) {
    return arrow::Status::Invalid("cannot map ", RangeText(offset, size_bytes),
                                  " of a file of ", status.st_size, " bytes");
  }
  return arrow::Status::OK();
}

}  // namespace

arrow::Result<Mapping> Mapping::Map(int fd, uint64_t size_bytes, Access access,
                                    uint64_t wanted_address, uint64_t file_offset) {
  if (size_bytes == 0) return arrow::Status::Invalid("cannot map 0 bytes");
  ARROW_RETURN_NOT_OK(CheckFileCovers(fd, file_offset, size_bytes));
  const FileRange range{fd, CheckedCast<off_t>(file_offset), size_bytes};
  void* data = nullptr;
  if (wanted_address != 0 && kAddressHintsWork) {
    data = MapAtWanted(range, access, wanted_address);
  }
  if (data == nullptr) data = MapAnywhere(range, access);
  if (data == MAP_FAILED) {
    return OsError("cannot map", std::to_string(size_bytes) + " bytes");
  }
  Mapping mapping(static_cast<uint8_t*>(data), size_bytes);
  if (access == Access::kReadWrite) {
    ARROW_RETURN_NOT_OK(mapping.SetForkRule(0, size_bytes, access));
  }
  return mapping;
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)),
      has_been_writable_(other.has_been_writable_),
      owner_(other.owner_) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    Unmap();
    data_ = std::exchange(other.data_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
    has_been_writable_ = other.has_been_writable_;
    owner_ = other.owner_;
  }
  return *this;
}

Mapping::~Mapping() { Unmap(); }

void Mapping::Unmap() {
  if (data_ == nullptr || (has_been_writable_ && !owner_.IsThisOne())) return;
  ::munmap(data_, size_bytes_);
}

/// A process that forks must not let its child dirty lines nobody accounts for
/// (docs/protocol.md P3).
arrow::Status Mapping::SetForkRule(uint64_t offset, uint64_t size_bytes, Access access) {
  has_been_writable_ |= access == Access::kReadWrite;
  const int advice = access == Access::kRead ? MADV_DOFORK : MADV_DONTFORK;
  if (::madvise(data_ + offset, size_bytes, advice) != 0) {
    // Linux refuses to undo it for the memory of a PCI function: no child has it then.
    if (advice == MADV_DOFORK && errno == EINVAL) return arrow::Status::OK();
    return OsError("cannot set the fork rule of", "mapping");
  }
  return arrow::Status::OK();
}

arrow::Status Mapping::Protect(uint64_t offset, uint64_t size_bytes, Access access) {
  ARROW_RETURN_NOT_OK(CheckPages(offset, size_bytes));
  if (access == Access::kReadWrite) {
    ARROW_RETURN_NOT_OK(SetForkRule(offset, size_bytes, access));
  }
  if (::mprotect(data_ + offset, size_bytes, Protection(access)) != 0) {
    if (errno == ENOMEM) {
      return arrow::Status::OutOfMemory("cannot protect ", RangeText(offset, size_bytes),
                                        ": too many mappings (vm.max_map_count)");
    }
    return OsError("cannot protect", RangeText(offset, size_bytes));
  }
  if (access == Access::kRead) return SetForkRule(offset, size_bytes, access);
  return arrow::Status::OK();
}

void Mapping::AdviseHugePages() { ::madvise(data_, size_bytes_, MADV_HUGEPAGE); }

arrow::Status Mapping::PopulateWrite(uint64_t offset, uint64_t size_bytes) {
  ARROW_RETURN_NOT_OK(CheckPages(offset, size_bytes));
  int error_number = EINTR;
  for (int i = 0; i < kInterruptedRetriesMax && error_number == EINTR; ++i) {
    if (::madvise(data_ + offset, size_bytes, MADV_POPULATE_WRITE) == 0) {
      return arrow::Status::OK();
    }
    error_number = errno;
  }
  switch (error_number) {
    case EFAULT:  // Storing there would raise SIGBUS: the file system is full.
    case ENOMEM:
      return arrow::Status::OutOfMemory("no memory for ", RangeText(offset, size_bytes),
                                        " of a mapping of ", size_bytes_, " bytes");
    case EINVAL:
      return arrow::Status::NotImplemented(
          "this kernel cannot populate a mapping (Linux 5.14 can)");
    default:
      return OsError("cannot populate", RangeText(offset, size_bytes), error_number);
  }
}

arrow::Status Mapping::CheckPages(uint64_t offset, uint64_t size_bytes) const {
  if (FitsWithin(offset, size_bytes, size_bytes_) && IsAligned(offset, PageBytes())) {
    return arrow::Status::OK();
  }
  return arrow::Status::Invalid(RangeText(offset, size_bytes),
                                " is not page-aligned or ends past the mapping of ",
                                size_bytes_, " bytes");
}

}  // namespace sheaf::platform
