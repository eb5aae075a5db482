#include "region/region.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/check.h"
#include "base/math.h"
#include "base/plant.h"
#include "format/control_layout.h"
#include "format/layout.h"
#include "platform/file.h"
#include "platform/process.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/part_set.h"
#include "region/segment_header.h"
#include "region/served_check.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

using format::ControlLayout;
using format::SegmentHeader;

arrow::Result<SegmentHeader> ReadHeader(const ClusterConfig& config,
                                        const AttachOptions& options, SegmentId id,
                                        platform::UniqueFd file, uint64_t file_size) {
  ARROW_ASSIGN_OR_RAISE(const auto part, MapPart(config, options, id, PartKind::kControl,
                                                 std::move(file), file_size));
  part->cache()->Invalidate(part->data(), sizeof(SegmentHeader));
  SegmentHeader header;
  std::memcpy(&header, part->data(), sizeof(header));
  return header;
}

bool IsOffForAny(const Region& region, SegmentId id) {
  for (uint32_t k = 0; k < region.num_segments(); ++k) {
    const Segment* home = region.segment({k});
    if (home != nullptr && LoadAdmitLine(*home, {id.value}).is_off()) return true;
  }
  return false;
}

arrow::Result<std::unique_ptr<Part>> OpenChecked(const ClusterConfig& config,
                                                 const AttachOptions& options,
                                                 SegmentId id, PartKind kind,
                                                 uint64_t size_bytes) {
  ARROW_ASSIGN_OR_RAISE(platform::UniqueFd file, OpenPartFile(config, options, id, kind));
  ARROW_ASSIGN_OR_RAISE(const uint64_t file_size,
                        PartFileSize(config, id, kind, file.get()));
  // Of a window the header may say another size of data than this node's file.
  if (file_size != size_bytes && !config.UsesDevices()) {
    return arrow::Status::Invalid(SegmentText(config, id), ": file ", ToString(kind),
                                  " has ", file_size, " bytes, expected ", size_bytes,
                                  " as its header says: ", GiveUpText(config));
  }
  return MapPart(config, options, id, kind, std::move(file), size_bytes);
}

/// The segment, or null if nobody has formatted it yet.
arrow::Result<std::unique_ptr<Segment>> AttachSegment(const ClusterConfig& config,
                                                      const AttachOptions& options,
                                                      SegmentId id) {
  std::error_code error;
  // Cheap: each put by name looks for those that are listed and were never up.
  if (!options.source && !config.UsesDevices() &&
      std::filesystem::symlink_status(PartPath(config, id, PartKind::kControl), error)
              .type() == std::filesystem::file_type::not_found) {
    return nullptr;
  }
  auto file = OpenPartFile(config, options, id, PartKind::kControl);
  if (file.status().IsKeyError()) return nullptr;
  ARROW_RETURN_NOT_OK(file.status());
  ARROW_ASSIGN_OR_RAISE(const uint64_t size,
                        PartFileSize(config, id, PartKind::kControl, file->get()));
  if (size < sizeof(SegmentHeader)) return nullptr;
  ARROW_ASSIGN_OR_RAISE(const SegmentHeader header,
                        ReadHeader(config, options, id, *std::move(file), size));
  if (Inspect(header) == HeaderState::kBlank) return nullptr;
  const uint32_t user_id =
      options.source ? options.source->user_id : platform::CurrentUserId();
  ARROW_RETURN_NOT_OK(CheckHeader(header, config, id, user_id));
  ARROW_ASSIGN_OR_RAISE(auto control, OpenChecked(config, options, id, PartKind::kControl,
                                                  header.control_size_bytes));
  ARROW_ASSIGN_OR_RAISE(auto leases, OpenChecked(config, options, id, PartKind::kLeases,
                                                 header.leases_size_bytes));
  ARROW_ASSIGN_OR_RAISE(auto data, OpenChecked(config, options, id, PartKind::kData,
                                               header.data_size_bytes));
  return std::make_unique<Segment>(id, header, std::move(control), std::move(leases),
                                   std::move(data));
}

}  // namespace

Segment::Segment(SegmentId id, const SegmentHeader& header, std::unique_ptr<Part> control,
                 std::unique_ptr<Part> leases, std::unique_ptr<Part> data)
    : id_(id),
      header_(header),
      layout_(ControlLayout::Make(header.nodes_max, header.lease_pages_max,
                                  header.grants_max, header.slots_max,
                                  header.records_size_bytes)),
      control_(std::move(control)),
      leases_(std::move(leases)),
      data_(std::move(data)) {}

uint64_t* Segment::ControlLine(uint64_t offset) const {
  SHEAF_DCHECK(IsAligned(offset, sizeof(uint64_t)) && offset < control_->size_bytes());
  return reinterpret_cast<uint64_t*>(control_->data() + offset);
}

uint64_t* Segment::NodeLine(format::NodeLine line) const {
  return ControlLine(layout_.node_lines +
                     static_cast<uint32_t>(line) * format::kWriterSpacing);
}

uint64_t* Segment::SlotLine(uint32_t slot) const {
  SHEAF_DCHECK(slot < header_.slots_max);
  return ControlLine(layout_.slots + slot * format::kLineBytes);
}

uint64_t* Segment::GrantLine(uint32_t grant) const {
  SHEAF_DCHECK(grant < header_.grants_max);
  return ControlLine(layout_.grants + grant * format::kLineBytes);
}

uint64_t* Segment::LeasePage(uint32_t page) const {
  SHEAF_DCHECK(page < header_.lease_pages_max);
  return reinterpret_cast<uint64_t*>(leases_->data() + page * format::kLeasePageBytes);
}

Region::Region(ClusterConfig config, AttachOptions options)
    : config_(std::move(config)),
      options_(std::move(options)),
      segments_(config_.nodes) {}

Region::~Region() = default;

arrow::Result<std::shared_ptr<Region>> Region::Attach(const ClusterConfig& config,
                                                      const AttachOptions& options) {
  Planted("");  // Reads the environment now, before threads start.
  ClusterConfig complete = config;
  complete.ApplyDefaults();
  ARROW_RETURN_NOT_OK(complete.Validate());
  if (options.node.value >= complete.nodes) {
    return arrow::Status::Invalid("node ", options.node.value, " of cluster ",
                                  complete.name, " with nodes 0 .. ", complete.nodes - 1);
  }
  std::shared_ptr<Region> region(new Region(std::move(complete), options));
  const SegmentId own{options.node.value};
  for (const auto& [id, status] : region->Map(region->options_.own_only)) {
    // Whoever starts here may not have been asked yet to forget it.
    if (id == own || !IsOffForAny(*region, id)) return status;
  }
  if (region->segment(own) == nullptr) {
    return arrow::Status::IOError(SegmentText(region->config_, own),
                                  " does not exist: start node ", own.value,
                                  " (`sheaf up`)");
  }
  return region;
}

Segment* Region::segment(SegmentId id) const {
  if (id.value >= segments_.size()) return nullptr;
  // pairs with the releases in Map and AttachAnew
  return segments_[id.value].load(std::memory_order_acquire);
}

Segment& Region::own_segment() const {
  Segment* own = segment(SegmentId{options_.node.value});
  SHEAF_CHECK(own != nullptr);
  return *own;
}

Region::Problems Region::Map(bool own_only) {
  Problems problems;
  const std::lock_guard lock(attach_mutex_);
  for (uint32_t i = 0; i < segments_.size(); ++i) {
    const SegmentId id{i};
    if (segment(id) != nullptr) continue;
    if (own_only && i != options_.node.value) continue;
    auto attached = AttachSegment(config_, options_, id);
    if (!attached.ok()) problems.emplace_back(id, attached.status());
    if (!attached.ok() || *attached == nullptr) continue;
    owned_.push_back(std::move(*attached));
    segments_[i].store(owned_.back().get(), std::memory_order_release);
  }
  return problems;
}

arrow::Status Region::AttachMissing() {
  const bool complete =
      std::ranges::all_of(segments_, [](const std::atomic<Segment*>& entry) {
        // pairs with the release in Map
        return entry.load(std::memory_order_acquire) != nullptr;
      });
  if (complete) return arrow::Status::OK();
  arrow::Status status;
  for (const auto& [id, problem] : Map(/*own_only=*/false)) {
    if (!LoadAdmitLine(own_segment(), {id.value}).is_off()) status &= problem;
  }
  return status;
}

// Not the own segment: who formatted that anew is another daemon, whose lines this one
// may not write (L1).
bool Region::AttachAnew() {
  bool is_any = false;
  for (uint32_t i = 0; i < segments_.size(); ++i) {
    const Segment* mapped = i == options_.node.value ? nullptr : segment({i});
    if (mapped == nullptr || !IsGivenUpSince(*mapped)) continue;
    const std::lock_guard lock(attach_mutex_);
    auto attached = AttachSegment(config_, options_, {i});
    // Not yet formatted again, or not for us: membership says so, round by round.
    if (!attached.ok() || *attached == nullptr) continue;
    owned_.push_back(std::move(*attached));
    segments_[i].store(owned_.back().get(), std::memory_order_release);
    is_any = true;
  }
  return is_any;
}

uint8_t* Region::Resolve(const GlobalRange& range) const {
  const Segment* found = segment(range.begin.segment);
  if (found == nullptr ||
      !FitsWithin(range.begin.offset, range.size_bytes, found->data().size_bytes())) {
    return nullptr;
  }
  return found->data().data() + range.begin.offset;
}

std::optional<GlobalAddress> Region::Locate(const void* address,
                                            uint64_t size_bytes) const {
  const auto begin = reinterpret_cast<uint64_t>(address);
  for (const auto& entry : segments_) {
    const Segment* candidate = entry.load(std::memory_order_acquire);
    if (candidate == nullptr) continue;
    const Part& data = candidate->data();
    const auto data_begin = reinterpret_cast<uint64_t>(data.data());
    // The end itself is no place in the part: the next segment may begin there.
    if (begin < data_begin || begin - data_begin >= data.size_bytes()) continue;
    const uint64_t offset = begin - data_begin;
    if (!FitsWithin(offset, size_bytes, data.size_bytes())) return std::nullopt;
    return GlobalAddress{candidate->id(), offset};
  }
  return std::nullopt;
}

}  // namespace sheaf::region
