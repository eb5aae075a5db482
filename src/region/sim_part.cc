#include "region/sim_part.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/math.h"
#include "platform/cache.h"
#include "platform/file.h"
#include "region/file_part.h"
#include "region/region.h"
#include "region/sim_memory.h"
#include "region/sim_state.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

/// \brief The protocol's primitives on a simulated part, by address in the mapped image.
class SimCacheControl final : public platform::CacheControl {
 public:
  SimCacheControl(SimMemory memory, const uint8_t* image, uint64_t size_bytes)
      : memory_(std::move(memory)),
        image_(image),
        size_bytes_(size_bytes),
        processor_(platform::MakeCoherentCacheControl()) {}

  void Flush(const void* address, size_t size_bytes) override {
    memory_.Flush(OffsetOf(address, size_bytes), size_bytes);
  }
  void Fence() override {
    processor_->Fence();
    memory_.Fence();
  }
  void Invalidate(const void* address, size_t size_bytes) override {
    Flush(address, size_bytes);
    Fence();
  }
  arrow::Status InvalidateGuarded(const void* address, size_t size_bytes) override {
    ARROW_RETURN_NOT_OK(memory_.CheckReadable(OffsetOf(address, size_bytes), size_bytes));
    Invalidate(address, size_bytes);
    return arrow::Status::OK();
  }
  void Settle(const void* address, size_t size_bytes) override {
    Flush(address, size_bytes);
    Fence();
    memory_.Drain();
  }
  bool coherent() const override { return false; }
  size_t line_bytes() const override { return memory_.line_bytes(); }

 private:
  uint64_t OffsetOf(const void* address, uint64_t size_bytes) const {
    const auto offset =
        reinterpret_cast<uint64_t>(address) - reinterpret_cast<uint64_t>(image_);
    SHEAF_CHECK(FitsWithin(offset, size_bytes, size_bytes_));
    return offset;
  }

  SimMemory memory_;
  const uint8_t* image_;
  uint64_t size_bytes_;
  std::unique_ptr<platform::CacheControl> processor_;  ///< The node itself is coherent.
};

/// \brief A mapped image with its cache operations. Thread-safe.
class SimPart final : public Part {
 public:
  SimPart(SimFiles files, std::unique_ptr<FilePart> image, SimMemory memory, bool is_home)
      : files_(std::move(files)),
        is_home_(is_home),
        image_(std::move(image)),
        owned_cache_(std::move(memory), image_->data(), image_->size_bytes()) {
    data_ = image_->data();
    size_bytes_ = image_->size_bytes();
    cache_ = &owned_cache_;
  }

  arrow::Status Allocate(uint64_t offset, uint64_t size_bytes) override {
    // Checks range and right, and allocates this node's image.
    ARROW_RETURN_NOT_OK(image_->Allocate(offset, size_bytes));
    SHEAF_CHECK(is_home_);
    ARROW_RETURN_NOT_OK(AllocateIn(files_.truth, offset, size_bytes));
    for (const auto* paths : {&files_.images, &files_.shadows}) {
      for (const std::string& path : *paths) {
        ARROW_RETURN_NOT_OK(AllocateIn(path, offset, size_bytes));
      }
    }
    return arrow::Status::OK();
  }

  arrow::Status SetWritable(uint64_t offset, uint64_t size_bytes,
                            bool writable) override {
    return image_->SetWritable(offset, size_bytes, writable);
  }

 private:
  static arrow::Status AllocateIn(const std::string& path, uint64_t offset,
                                  uint64_t size_bytes) {
    ARROW_ASSIGN_OR_RAISE(const auto fd,
                          platform::OpenFile(path, platform::Access::kReadWrite));
    return AllocateInFile(fd.get(), path, offset, size_bytes);
  }

  SimFiles files_;
  bool is_home_;
  std::unique_ptr<FilePart> image_;
  SimCacheControl owned_cache_;
};

}  // namespace

arrow::Result<std::unique_ptr<Part>> OpenSimPart(const SimPartId& id, NodeId node,
                                                 uint64_t size_bytes,
                                                 const PartAccess& access) {
  SimFiles files = SimFilesOf(id.path, id.config.nodes);
  ARROW_ASSIGN_OR_RAISE(SimMemory memory,
                        SimMemory::Open(files, id.config, id.segment, node, size_bytes));
  ARROW_ASSIGN_OR_RAISE(
      auto image, FilePart::Open(files.images[node.value], size_bytes, access, nullptr));
  return std::make_unique<SimPart>(std::move(files), std::move(image), std::move(memory),
                                   id.segment.value == node.value);
}

arrow::Status CreateSimFiles(const SimPartId& id, uint64_t size_bytes) {
  const SimFiles files = SimFilesOf(id.path, id.config.nodes);
  ARROW_RETURN_NOT_OK(SimState::Create(files.state, id.config.nodes));
  for (const auto* paths : {&files.images, &files.shadows}) {
    for (const std::string& path : *paths) {
      ARROW_RETURN_NOT_OK(platform::CreateFile(path, size_bytes).status());
    }
  }
  return arrow::Status::OK();
}

}  // namespace sheaf::region
