#include "region/device_segment.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/format_claim.h"
#include "format/layout.h"
#include "platform/process.h"
#include "platform/shared_word.h"
#include "region/cluster_config.h"
#include "region/device_window.h"
#include "region/format_claim.h"
#include "region/part_set.h"
#include "region/region.h"
#include "region/segment_header.h"
#include "region/served_check.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

using format::SegmentHeader;

/// Whose bytes they are shows early: file systems, tables of partitions and labels of
/// devices begin within it.
constexpr uint64_t kLookedAtBytes = format::kExtentBytes;
/// A fraction of a millisecond, to a few of a slow link: another host may claim it.
constexpr uint64_t kZeroedAtOnceBytes = uint64_t{1} << 20;

arrow::Result<std::unique_ptr<Part>> MapFor(const ClusterConfig& config,
                                            SegmentId segment, Role role, PartKind kind,
                                            uint64_t size_bytes) {
  const AttachOptions options{NodeId{segment.value}, role, /*relocate=*/true};
  ARROW_ASSIGN_OR_RAISE(auto part, OpenPart(config, options, segment, kind, size_bytes));
  part->cache()->Invalidate(part->data(), part->size_bytes());
  return part;
}

arrow::Status CheckZero(const ClusterConfig& config, SegmentId segment, PartKind kind,
                        uint64_t size_bytes) {
  ARROW_ASSIGN_OR_RAISE(const auto part,
                        MapFor(config, segment, Role::kReader, kind, size_bytes));
  const std::span<const uint8_t> bytes(part->data(), size_bytes);
  const auto is_set = [](uint8_t byte) { return byte != 0; };
  auto found = std::ranges::find_if(bytes, is_set);
  // A claim of one that died, or that is at it: Sheaf's.
  const auto claim = bytes.begin() + format::kFormatClaimOffset;
  if (kind == PartKind::kControl && found >= claim &&
      found < claim + format::kLineBytes && IsClaimOrZero(&*claim)) {
    found = std::find_if(claim + format::kLineBytes, bytes.end(), is_set);
  }
  if (found == bytes.end()) return arrow::Status::OK();
  const Window window = WindowOf(config, segment, kind);
  return arrow::Status::Invalid(
      SegmentText(config, segment),
      ": there are bytes that are not Sheaf's, the first at ",
      window.offset + static_cast<uint64_t>(found - bytes.begin()),
      ": choose another path or offset, or ", RemoveByHand(config, segment));
}

arrow::Status Zero(Part* part, uint64_t begin, uint64_t end, FormatClaim* claim) {
  for (uint64_t next = begin; next < end; next += kZeroedAtOnceBytes) {
    ARROW_RETURN_NOT_OK(claim->Check());
    const uint64_t size_bytes = std::min(end - next, kZeroedAtOnceBytes);
    std::memset(part->data() + next, 0, size_bytes);
    part->cache()->Flush(part->data() + next, size_bytes);
  }
  part->cache()->Settle(part->data() + begin, end - begin);
  return arrow::Status::OK();
}

}  // namespace

arrow::Result<SegmentHeader> ReadWindowHeader(const ClusterConfig& config,
                                              SegmentId segment) {
  ARROW_ASSIGN_OR_RAISE(
      const auto part,
      MapFor(config, segment, Role::kReader, PartKind::kControl, sizeof(SegmentHeader)));
  SegmentHeader header;
  std::memcpy(&header, part->data(), sizeof(header));
  return header;
}

bool IsGivenUp(const SegmentHeader& header) {
  SegmentHeader whole = header;
  whole.magic = format::kSegmentMagic;
  return header.magic == 0 && Inspect(whole) == HeaderState::kGood;
}

arrow::Status CheckMayOverwrite(const ClusterConfig& config, SegmentId segment,
                                const SegmentHeader& found) {
  switch (Inspect(found)) {
    case HeaderState::kBlank:
      if (IsGivenUp(found)) return arrow::Status::OK();
      ARROW_RETURN_NOT_OK(
          CheckZero(config, segment, PartKind::kControl, LayoutOf(config).records));
      ARROW_RETURN_NOT_OK(
          CheckZero(config, segment, PartKind::kLeases,
                    WindowOf(config, segment, PartKind::kLeases).size_bytes));
      return CheckZero(config, segment, PartKind::kData,
                       std::min(config.size_bytes_of(segment), kLookedAtBytes));
    case HeaderState::kTorn:
      return arrow::Status::OK();
    case HeaderState::kForeign:
    case HeaderState::kOtherVersion:
      return CheckHeader(found, config, segment, platform::CurrentUserId());
    case HeaderState::kGood:
      break;
  }
  const uint32_t user_id = platform::CurrentUserId();
  if (found.cluster_id == config.cluster_id && found.segment == segment.value &&
      found.user_id == user_id) {
    return arrow::Status::OK();
  }
  return arrow::Status::Invalid(
      SegmentText(config, segment), ": there is segment ", found.segment,
      " of cluster id ", found.cluster_id, ", user ", found.user_id,
      ", we are cluster id ", config.cluster_id, ", user ", user_id,
      ": choose another path or offset, give that cluster up with its own file (sheaf "
      "down), or ",
      RemoveByHand(config, segment));
}

arrow::Status CheckWindowNotServed(const ClusterConfig& config, SegmentId segment,
                                   const SegmentHeader& found) {
  const uint64_t room_bytes = WindowOf(config, segment).size_bytes;
  // Of another cluster its lines may lie elsewhere: where its own header says.
  const auto layout = format::ControlLayout::Make(found.nodes_max, found.lease_pages_max,
                                                  found.grants_max, found.slots_max,
                                                  found.records_size_bytes);
  if (Inspect(found) != HeaderState::kGood || layout.slots > room_bytes) {
    return arrow::Status::OK();
  }
  ARROW_ASSIGN_OR_RAISE(auto control, MapFor(config, segment, Role::kReader,
                                             PartKind::kControl, layout.slots));
  return CheckNotServed(config,
                        Segment(segment, found, std::move(control), nullptr, nullptr));
}

arrow::Status GiveUpWindow(const ClusterConfig& config, SegmentId segment) {
  ARROW_ASSIGN_OR_RAISE(
      const auto control,
      MapFor(config, segment, Role::kDaemon, PartKind::kControl, sizeof(SegmentHeader)));
  auto* magic = reinterpret_cast<uint64_t*>(control->data());
  platform::SharedWord(magic).StoreFenced(0);
  control->cache()->Settle(magic, sizeof(uint64_t));
  return arrow::Status::OK();
}

arrow::Status ClearWindow(const ClusterConfig& config, SegmentId segment, Part* control,
                          FormatClaim* claim) {
  const format::ControlLayout layout = LayoutOf(config);
  const uint64_t after_records =
      layout.records + format::ControlLayout::Page(config.records_size_bytes);
  ARROW_RETURN_NOT_OK(
      Zero(control, sizeof(SegmentHeader), format::kFormatClaimOffset, claim));
  ARROW_RETURN_NOT_OK(Zero(control, format::kFormatClaimOffset + format::kLineBytes,
                           layout.records, claim));
  ARROW_RETURN_NOT_OK(Zero(control, after_records, layout.size_bytes, claim));
  ARROW_ASSIGN_OR_RAISE(const auto leases,
                        MapFor(config, segment, Role::kDaemon, PartKind::kLeases,
                               WindowOf(config, segment, PartKind::kLeases).size_bytes));
  ARROW_RETURN_NOT_OK(leases->Allocate(0, leases->size_bytes()));
  return Zero(leases.get(), 0, leases->size_bytes(), claim);
}

}  // namespace sheaf::region
