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
#include "format/control_layout.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "region/control_line.h"
#include "region/region.h"
#include "testing/fake_part.h"

namespace sheaf::testing {

/// \brief Coherent memory, where something may happen between an invalidate and the load
/// that follows it.
class HookedCache : public platform::CacheControl {
 public:
  struct Hook {
    const void* address = nullptr;
    std::function<void()> run;
  };
  /// `hook` is shared by the caches of all parts, and run once.
  explicit HookedCache(Hook* hook)
      : hook_(hook), coherent_(platform::MakeCoherentCacheControl()) {}

  void Flush(const void* /*address*/, size_t /*size_bytes*/) override {}
  void Fence() override { coherent_->Fence(); }
  void Invalidate(const void* address, size_t /*size_bytes*/) override {
    if (hook_->address != nullptr && hook_->address == address) {
      hook_->address = nullptr;
      hook_->run();
    }
  }
  void Settle(const void* /*address*/, size_t /*size_bytes*/) override {}
  bool coherent() const override { return true; }
  size_t line_bytes() const override { return coherent_->line_bytes(); }

 private:
  Hook* hook_;
  std::unique_ptr<platform::CacheControl> coherent_;
};

struct FakeOptions {
  uint32_t segments = 1;
  uint32_t slots_max = 256;
  uint32_t lease_pages_max = 8;
  uint64_t records_size_bytes = uint64_t{1} << 20;
  uint64_t data_size_bytes = uint64_t{64} << 20;  ///< Claimed; there is no such memory.
  uint64_t format_epoch = 7;
  bool recording = false;
  bool has_rings = false;  ///< Else there is no such memory either.
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
  /// \brief Run `hook` once, when a reader is about to load from `address`. Without
  /// recording, one thread.
  void OnNextLoad(const void* address, std::function<void()> hook) {
    hook_ = {address, std::move(hook)};
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
    auto control = std::make_unique<FakePart>(
        options_.has_rings ? layout.size_bytes : layout.rings, MakeCache());
    const arrow::Status formatted =
        control->Allocate(0, layout.slots) &
        control->Allocate(layout.ring_ends, layout.records - layout.ring_ends);
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
      caches_.push_back(std::make_unique<HookedCache>(&hook_));
    }
    return caches_.back().get();
  }

  void WatchLast(const FakePart& part, RecordingCache::NameFn name) {
    if (!options_.recording) return;
    static_cast<RecordingCache*>(caches_.back().get())->Watch(&part, std::move(name));
  }

  static std::string NameOf(const format::ControlLayout& layout, uint64_t offset) {
    if (offset >= layout.rings) {
      return "ring to " + std::to_string((offset - layout.rings) / format::kRingBytes);
    }
    if (offset >= layout.records) return "record";
    if (offset >= layout.ring_ends) {
      return "ring end " +
             std::to_string((offset - layout.ring_ends) / format::kLineBytes);
    }
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
  HookedCache::Hook hook_;
  std::vector<std::unique_ptr<platform::CacheControl>> caches_;
  std::vector<std::unique_ptr<region::Segment>> segments_;
};

}  // namespace sheaf::testing
