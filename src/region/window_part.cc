#include "region/window_part.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/math.h"
#include "platform/cache.h"
#include "platform/device.h"
#include "platform/file.h"
#include "region/device_window.h"
#include "region/file_part.h"
#include "region/region.h"

namespace sheaf::region {
namespace {

using platform::Access;
using platform::Mapping;

class WindowPart : public Part {
 public:
  static arrow::Result<std::unique_ptr<Part>> Map(
      const platform::Device& device, platform::UniqueFd file, const Window& window,
      const PartAccess& access, std::unique_ptr<platform::CacheControl> cache) {
    auto part = std::make_unique<WindowPart>();
    part->device_ = device;
    part->fd_ = std::move(file);
    part->window_ = window;
    part->access_ = access;
    const Access map_access =
        access.map_writable && !access.copy_on_write ? Access::kReadWrite : Access::kRead;
    ARROW_ASSIGN_OR_RAISE(
        part->mapping_,
        Mapping::Map(part->fd_.get(), RoundUp(window.size_bytes, device.unit_bytes),
                     map_access, access.wanted_address, window.offset));
    part->owned_cache_ = std::move(cache);
    part->cache_ = part->owned_cache_.get();
    part->size_bytes_ = window.size_bytes;
    if (access.copy_on_write) ARROW_RETURN_NOT_OK(part->Copy());
    part->data_ = part->mapping_.data();
    return part;
  }

  arrow::Status Allocate(uint64_t offset, uint64_t size_bytes) override {
    ARROW_RETURN_NOT_OK(CheckRange(offset, size_bytes));
    // The memory of a device is there.
    if (access_.copy_on_write || device_.kind != platform::DeviceKind::kFile) {
      return arrow::Status::OK();
    }
    if (!IsWritable()) return ReadOnly();
    return size_bytes == 0 ? arrow::Status::OK()
                           : AllocateInFile(fd_.get(), device_.path,
                                            window_.offset + offset, size_bytes);
  }

  arrow::Status SetWritable(uint64_t offset, uint64_t size_bytes,
                            bool writable) override {
    ARROW_RETURN_NOT_OK(CheckRange(offset, size_bytes));
    if (writable && !IsWritable()) return ReadOnly();
    const uint64_t unit = device_.unit_bytes;
    if (writable) {
      const uint64_t begin = RoundDown(offset, unit);
      const uint64_t end =
          std::min(RoundUp(offset + size_bytes, unit), mapping_.size_bytes());
      return mapping_.Protect(begin, end - begin, Access::kReadWrite);
    }
    const uint64_t begin = RoundUp(offset, unit);
    const bool is_to_end = offset + size_bytes == size_bytes_;
    const uint64_t end =
        is_to_end ? mapping_.size_bytes() : RoundDown(offset + size_bytes, unit);
    return begin >= end ? arrow::Status::OK()
                        : mapping_.Protect(begin, end - begin, Access::kRead);
  }

 private:
  bool IsWritable() const { return access_.open_writable || access_.map_writable; }

  arrow::Status ReadOnly() const {
    return arrow::Status::IOError(device_.path, ": this process may only read it");
  }

  arrow::Status CheckRange(uint64_t offset, uint64_t size_bytes) const {
    if (FitsWithin(offset, size_bytes, size_bytes_)) return arrow::Status::OK();
    return arrow::Status::Invalid(device_.path, ": range ", offset, "+", size_bytes,
                                  " ends past the ", size_bytes_, " bytes from ",
                                  window_.offset, " on");
  }

  /// In the place of the mapping a private copy of it.
  arrow::Status Copy() {
    cache_->Invalidate(mapping_.data(), size_bytes_);
    ARROW_ASSIGN_OR_RAISE(fd_, platform::MakeUnnamedFile("sheaf-copy", size_bytes_));
    ARROW_ASSIGN_OR_RAISE(auto copy,
                          Mapping::Map(fd_.get(), size_bytes_, Access::kReadWrite));
    std::memcpy(copy.data(), mapping_.data(), size_bytes_);
    mapping_ = std::move(copy);
    return arrow::Status::OK();
  }

  platform::Device device_;
  platform::UniqueFd fd_;
  Window window_;
  PartAccess access_;
  Mapping mapping_;
  std::unique_ptr<platform::CacheControl> owned_cache_;
};

}  // namespace

arrow::Result<std::unique_ptr<Part>> MapWindow(
    const platform::Device& device, platform::UniqueFd file, const Window& window,
    const PartAccess& access, std::unique_ptr<platform::CacheControl> cache) {
  return WindowPart::Map(device, std::move(file), window, access, std::move(cache));
}

}  // namespace sheaf::region
