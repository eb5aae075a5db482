// Home::Seal: from a request that nothing is known about to an object that all may read.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "alloc/range.h"
#include "alloc/range_map.h"
#include "base/plant.h"
#include "codec/codec.h"
#include "daemon/coverage.h"
#include "daemon/home.h"
#include "daemon/parent_set.h"
#include "daemon/quotas.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::daemon {
namespace {

/// Parents that one request may name: each of another home costs a lease cell while it is
/// checked.
constexpr size_t kParentsMax = size_t{1} << 16;

codec::SegmentSizeFn SizesOf(const region::Region* region) {
  return [region](SegmentId id) -> std::optional<uint64_t> {
    const region::Segment* segment = region->segment(id);
    if (segment == nullptr) return std::nullopt;
    return segment->header().data_size_bytes;
  };
}

std::vector<GlobalRange> InSegment(SegmentId segment,
                                   const std::vector<alloc::Range>& ranges) {
  std::vector<GlobalRange> global;
  global.reserve(ranges.size());
  for (const alloc::Range& range : ranges) {
    global.push_back({{segment, range.offset}, range.size_bytes});
  }
  return global;
}

}  // namespace

arrow::Result<std::shared_ptr<const codec::Descriptor>> Home::Verify(
    const SealInput& input) const {
  if (!input.name.empty()) ARROW_RETURN_NOT_OK(directory::ValidateName(input.name));
  if (input.parents.size() > kParentsMax) {
    return arrow::Status::CapacityError(input.parents.size(), " parents, at most ",
                                        kParentsMax);
  }
  // A node that came up a moment ago: its tables can be opened, so they can be referred
  // to.
  const arrow::Status attached = region_->AttachMissing();
  auto descriptor = codec::Descriptor::Make(input.descriptor, SizesOf(region_),
                                            codec::Extensions::kStorageOnly);
  // It may be what could not be attached that the descriptor refers to.
  if (!descriptor.ok() && !attached.ok()) {
    return descriptor.status().WithMessage(descriptor.status().message(), "; ",
                                           attached.message());
  }
  return descriptor;
}

arrow::Result<ObjectId> Home::Seal(uint64_t session, const SealInput& input) {
  ARROW_RETURN_NOT_OK(CheckSession(session));
  ARROW_ASSIGN_OR_RAISE(const auto descriptor, Verify(input));
  const std::vector<GlobalRange> ranges = descriptor->Ranges();
  const std::vector<alloc::Range> granules = RoundToGranules(ranges, segment());

  ParentSet parents(segment(), &directory_, &foreign_);
  arrow::Status added;  // all, also after one that has to wait
  for (const ObjectId& parent : input.parents) added &= parents.Add(parent);
  ARROW_RETURN_NOT_OK(added);
  ARROW_RETURN_NOT_OK(CheckOwnRanges(session, granules, &parents));
  ARROW_ASSIGN_OR_RAISE(const Owners references, CoverForeign(ranges, &parents));

  const Holder holder = HolderOf(session);
  ARROW_RETURN_NOT_OK(quotas_.CheckRanges(holder, granules));

  directory::Record record;
  record.name = input.name;
  record.creator_session = session;
  record.creator_request = input.request;
  record.creator_user = holder.user_id;
  record.created_unix_ns = input.now_unix_ns;
  record.home_incarnation = life_.incarnation;
  record.num_rows = descriptor->num_rows();
  record.num_columns = descriptor->num_columns();
  record.num_chunks = descriptor->num_chunks();
  record.data_bytes = descriptor->data_bytes();
  record.has_checksums = descriptor->has_checksums();
  record.own_ranges = InSegment(segment(), granules);
  for (const auto& [reference, extent] : references) {
    if (Planted("no-parents")) break;
    record.references.push_back(reference);
    record.reference_extents.push_back(
        {{reference.segment, extent.offset}, extent.size_bytes});
  }
  record.descriptor = descriptor->bytes();

  ARROW_RETURN_NOT_OK(space_.ranges().AddReference(granules));
  uint8_t flags = 0;
  if (!input.name.empty()) {
    flags = format::kSlotNamed | (input.is_prepared ? format::kSlotPrepared : 0);
  }
  if (input.keep && (input.name.empty() || input.is_prepared)) flags |= format::kSlotKept;
  auto object = directory_.Seal(record, flags);
  if (!object.ok()) {
    space_.ranges().DropReference(granules);
    return object;
  }
  quotas_.Add(holder, granules);
  parents.KeepLeases(record.references);
  return object;
}

// Each run is open in a grant of this session, or sealed out of one, or in a live parent.
arrow::Status Home::CheckOwnRanges(uint64_t session,
                                   const std::vector<alloc::Range>& granules,
                                   ParentSet* parents) {
  std::vector<alloc::Range> of_parents;
  for (const alloc::Range& range : granules) {
    ARROW_ASSIGN_OR_RAISE(const std::vector<alloc::Run> runs,
                          space_.ranges().Runs(range));
    for (const alloc::Run& run : runs) {
      if (run.state == alloc::RunState::kFree ||
          (run.state == alloc::RunState::kOpen &&
           !(run.grant && space_.Holds(session, *run.grant)))) {
        return MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kStaleGeneration,
                          "bytes " + std::to_string(run.range.offset) + "+" +
                              std::to_string(run.range.size_bytes) + " of segment " +
                              std::to_string(segment().value) +
                              " are not in a grant of this session");
      }
      if (!(run.grant && space_.Holds(session, *run.grant)))
        of_parents.push_back(run.range);
    }
  }
  return parents->Cover(segment(), of_parents).status();
}

// Which objects of other homes the ranges in other segments lie in: they stay leased
// (O4).
arrow::Result<Owners> Home::CoverForeign(const std::vector<GlobalRange>& ranges,
                                         ParentSet* parents) {
  std::map<SegmentId, std::vector<alloc::Range>> needed;
  for (const GlobalRange& range : ranges) {
    if (range.begin.segment == segment()) continue;
    needed[range.begin.segment].push_back({range.begin.offset, range.size_bytes});
  }
  Owners references;
  arrow::Status status;
  for (const auto& [foreign, foreign_ranges] : needed) {
    auto owners = parents->Cover(foreign, foreign_ranges);
    status &= owners.status();
    if (owners.ok()) references.merge(*owners);
  }
  ARROW_RETURN_NOT_OK(status);
  return references;
}

}  // namespace sheaf::daemon
