// Segments over plain memory of this process, whose cache operations can be recorded:
// what was stored, flushed, fenced, invalidated and settled, in order and by name.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/status.h>

#include "base/math.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "region/control_line.h"
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

struct FakeOptions {
  uint32_t segments = 1;
  uint32_t slots_max = 256;
  uint32_t lease_pages_max = 8;
  uint64_t records_size_bytes = uint64_t{1} << 20;
  uint64_t data_size_bytes = uint64_t{64} << 20;  ///< Claimed; there is no such memory.
  uint64_t format_epoch = 7;
  bool recording = false;
};

/// \brief Formatted segments 0 to n-1.
class FakeSegments {
 public:
  explicit FakeSegments(const FakeOptions& options = {}) : options_(options) {
    for (uint32_t k = 0; k < options.segments; ++k) Add(k);
  }

  region::Segment* operator[](uint32_t k) const { return segments_[k].get(); }
  region::SegmentList list() const {
    region::SegmentList list;
    for (const auto& segment : segments_) list.push_back(segment.get());
    return list;
  }
  FakePart& control(uint32_t k) const {
    return static_cast<FakePart&>(segments_[k]->control());
  }
  FakePart& leases(uint32_t k) const {
    return static_cast<FakePart&>(segments_[k]->leases());
  }
  /// What was recorded since the last call.
  std::vector<std::string> TakeLog() { return std::exchange(log_, {}); }

 private:
  void Add(uint32_t k) {
    format::SegmentHeader header{};
    header.magic = format::kSegmentMagic;
    header.version = format::kFormatVersion;
    header.segment = k;
    header.format_epoch = options_.format_epoch;
    header.nodes_max = 64;
    header.slots_max = options_.slots_max;
    header.grants_max = 16;
    header.lease_pages_max = options_.lease_pages_max;
    header.records_size_bytes = options_.records_size_bytes;
    header.data_size_bytes = options_.data_size_bytes;
    const auto layout = format::ControlLayout::Make(
        header.nodes_max, header.lease_pages_max, header.grants_max, header.slots_max,
        header.records_size_bytes);
    header.control_size_bytes = layout.size_bytes;
    header.leases_size_bytes = header.lease_pages_max * format::kLeasePageBytes;
    auto control = std::make_unique<FakePart>(layout.size_bytes, MakeCache());
    const arrow::Status formatted = control->Allocate(0, layout.slots);
    if (!formatted.ok()) std::abort();
    WatchLast(*control, [layout](uint64_t offset) { return NameOf(layout, offset); });
    auto leases = std::make_unique<FakePart>(header.leases_size_bytes, MakeCache());
    WatchLast(*leases, [](uint64_t offset) {
      return (offset % format::kLeasePageBytes < format::kLineBytes ? "mark of page "
                                                                    : "cells of page ") +
             std::to_string(offset / format::kLeasePageBytes);
    });
    segments_.push_back(std::make_unique<region::Segment>(
        SegmentId{k}, header, std::move(control), std::move(leases),
        std::make_unique<FakePart>(0, MakeCache())));
  }

  platform::CacheControl* MakeCache() {
    if (options_.recording) {
      caches_.push_back(std::make_unique<RecordingCache>(&log_));
    } else {
      caches_.push_back(platform::MakeCoherentCacheControl());
    }
    return caches_.back().get();
  }

  void WatchLast(const FakePart& part, RecordingCache::NameFn name) {
    if (!options_.recording) return;
    static_cast<RecordingCache*>(caches_.back().get())->Watch(&part, std::move(name));
  }

  static std::string NameOf(const format::ControlLayout& layout, uint64_t offset) {
    if (offset >= layout.records) return "record";
    if (offset >= layout.slots) {
      return "slot " + std::to_string((offset - layout.slots) / format::kLineBytes);
    }
    if (offset >= layout.grants) return "grant";
    if (offset >= layout.page_table) {
      return "word of page " + std::to_string((offset - layout.page_table) / 8);
    }
    if (offset >= layout.admit) return "admit";
    constexpr const char* kLines[] = {"incarnation", "heartbeat", "epoch", "statistics",
                                      "index header"};
    const uint64_t line = (offset - layout.node_lines) / format::kWriterSpacing;
    return line < std::size(kLines) ? kLines[line] : "node line";
  }

  FakeOptions options_;
  std::vector<std::string> log_;
  std::vector<std::unique_ptr<platform::CacheControl>> caches_;
  std::vector<std::unique_ptr<region::Segment>> segments_;
};

}  // namespace sheaf::testing
