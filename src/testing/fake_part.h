// A part over plain memory of this process, and cache operations that can be recorded.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/status.h>

#include "base/math.h"
#include "platform/cache.h"
#include "region/region.h"

namespace sheaf::testing {

/// \brief Memory of a part. Counts what was really allocated, and can refuse.
class FakePart : public region::Part {
 public:
  FakePart(uint64_t size_bytes, platform::CacheControl* cache)
      : memory_(size_bytes == 0 ? nullptr
                                : static_cast<uint8_t*>(std::aligned_alloc(
                                      kPageBytes, RoundUp(size_bytes, kPageBytes)))),
        allocated_(size_bytes / kPageBytes + 1, false) {
    data_ = memory_.get();
    size_bytes_ = size_bytes;
    cache_ = cache;
    if (data_ != nullptr) std::memset(data_, 0, RoundUp(size_bytes, kPageBytes));
  }

  arrow::Status Allocate(uint64_t offset, uint64_t size_bytes) override {
    if (is_full) return arrow::Status::OutOfMemory("no more memory");
    if (!FitsWithin(offset, size_bytes, RoundUp(size_bytes_, kPageBytes))) {
      return arrow::Status::Invalid("outside of the part");
    }
    for (uint64_t page = offset / kPageBytes; page * kPageBytes < offset + size_bytes;
         ++page) {
      allocated_[page] = true;
    }
    return arrow::Status::OK();
  }
  arrow::Status SetWritable(uint64_t, uint64_t, bool) override {
    return arrow::Status::OK();
  }
  bool IsAllocated(uint64_t offset) const { return allocated_[offset / kPageBytes]; }

  bool is_full = false;

 private:
  static constexpr uint64_t kPageBytes = 4096;
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t, Free> memory_;
  std::vector<bool> allocated_;
};

/// \brief Logs each operation with the name of the place, and before it the places that
/// were stored to since the last one. One thread.
class RecordingCache : public platform::CacheControl {
 public:
  using NameFn = std::function<std::string(uint64_t offset)>;

  void Watch(const FakePart* part, NameFn name) {
    part_ = part;
    name_ = std::move(name);
    shadow_.assign(part->data(), part->data() + part->size_bytes());
  }
  explicit RecordingCache(std::vector<std::string>* log) : log_(log) {}

  void Flush(const void* address, size_t /*size_bytes*/) override {
    Log("flush", address);
  }
  void Fence() override {
    LogStores();
    log_->push_back("fence");
  }
  void Invalidate(const void* address, size_t /*size_bytes*/) override {
    Log("invalidate", address);
  }
  void Settle(const void* address, size_t /*size_bytes*/) override {
    Log("settle", address);
  }
  bool coherent() const override { return false; }
  size_t line_bytes() const override { return format::kLineBytes; }

 private:
  void Log(const std::string& operation, const void* address) {
    LogStores();
    const auto offset =
        static_cast<uint64_t>(static_cast<const uint8_t*>(address) - part_->data());
    log_->push_back(operation + " " + name_(offset));
  }
  void LogStores() {
    std::string last;
    for (uint64_t i = 0; i + 8 <= shadow_.size(); i += 8) {
      if (std::memcmp(shadow_.data() + i, part_->data() + i, 8) == 0) continue;
      std::memcpy(shadow_.data() + i, part_->data() + i, 8);
      std::string place = name_(i);
      if (!part_->IsAllocated(i)) place += " NOT ALLOCATED";
      if (place != last) log_->push_back("store " + place);
      last = place;
    }
  }

  std::vector<std::string>* log_;
  const FakePart* part_ = nullptr;
  NameFn name_;
  std::vector<uint8_t> shadow_;
};

}  // namespace sheaf::testing
