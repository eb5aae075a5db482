// The life of a segment's files: made by its home's daemon, removed when the cluster
// ends.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/layout.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/shared_word.h"
#include "region/cluster_config.h"
#include "region/file_part.h"
#include "region/part_set.h"
#include "region/region.h"
#include "region/segment_header.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

using format::SegmentHeader;

/// The header that a former life left, read from the truth: its caches are gone.
arrow::Result<SegmentHeader> ReadLeftover(const ClusterConfig& config, SegmentId id) {
  SegmentHeader header{};
  ARROW_ASSIGN_OR_RAISE(const platform::UniqueFd fd,
                        platform::OpenFile(PartPath(config, id, PartKind::kControl),
                                           platform::Access::kRead));
  ARROW_ASSIGN_OR_RAISE(const uint64_t size, platform::FileSize(fd.get()));
  if (size < sizeof(header)) return header;
  ARROW_ASSIGN_OR_RAISE(
      const auto mapping,
      platform::Mapping::Map(fd.get(), sizeof(header), platform::Access::kRead));
  std::memcpy(&header, mapping.data(), sizeof(header));
  return header;
}

/// The format epoch of a leftover, 0 if there is none or it cannot be read. Invalid if it
/// is not ours to overwrite.
arrow::Result<uint64_t> TakeOver(const ClusterConfig& config, SegmentId id) {
  const auto found = ReadLeftover(config, id);
  if (found.status().IsKeyError()) return 0;
  ARROW_RETURN_NOT_OK(found.status());
  switch (Inspect(*found)) {
    case HeaderState::kBlank:
    case HeaderState::kTorn:
      return 0;
    case HeaderState::kForeign:
    case HeaderState::kOtherVersion:
      return CheckHeader(*found, config, id);
    case HeaderState::kGood:
      break;
  }
  if (found->user_id != platform::CurrentUserId()) {
    return arrow::Status::Invalid(SegmentText(config, id), ": belongs to user id ",
                                  found->user_id, ", we are ", platform::CurrentUserId(),
                                  ": choose another cluster name or memory_folder");
  }
  return found->format_epoch <= kFormatEpochMax ? found->format_epoch : 0;
}

arrow::Status CreateFiles(const ClusterConfig& config, SegmentId id,
                          const SegmentHeader& header) {
  ARROW_RETURN_NOT_OK(
      CreatePart(config, id, PartKind::kLeases, header.leases_size_bytes));
  ARROW_RETURN_NOT_OK(CreatePart(config, id, PartKind::kData, header.data_size_bytes));
  return CreatePart(config, id, PartKind::kControl, header.control_size_bytes);
}

/// Makes the segment exist for others: all of the header, and only then its magic.
void WriteHeader(const SegmentHeader& header, Part* control) {
  constexpr size_t kMagicBytes = sizeof(header.magic);
  static_assert(offsetof(SegmentHeader, magic) == 0);
  std::memcpy(control->data() + kMagicBytes,
              reinterpret_cast<const uint8_t*>(&header) + kMagicBytes,
              sizeof(header) - kMagicBytes);
  control->cache()->Settle(control->data(), sizeof(header));
  platform::SharedWord(reinterpret_cast<uint64_t*>(control->data()))
      .StoreFenced(header.magic);
  control->cache()->Settle(control->data(), sizeof(header.magic));
}

arrow::Status MakeSegment(const ClusterConfig& config, SegmentId id,
                          uint64_t format_epoch) {
  const SegmentHeader header = MakeHeader(config, id, format_epoch);
  ARROW_RETURN_NOT_OK(CreateFiles(config, id, header));
  const AttachOptions options{NodeId{id.value}, Role::kDaemon, false};
  ARROW_ASSIGN_OR_RAISE(auto control, OpenPart(config, options, id, PartKind::kControl,
                                               header.control_size_bytes));
  // Scanned as a whole by every node. Slots, records and lease pages: as they are used.
  const auto layout = format::ControlLayout::Make(
      header.nodes_max, header.lease_pages_max, header.grants_max, header.slots_max,
      header.records_size_bytes);
  ARROW_RETURN_NOT_OK(control->Allocate(0, layout.slots));
  WriteHeader(header, control.get());
  return arrow::Status::OK();
}

}  // namespace

arrow::Status FormatSegment(const ClusterConfig& incomplete, NodeId node) {
  ClusterConfig config = incomplete;
  config.ApplyDefaults();
  ARROW_RETURN_NOT_OK(config.Validate());
  if (node.value >= config.nodes || config.cluster_id == 0) {
    return arrow::Status::Invalid(
        "cannot format segment ", node.value, " of cluster ", config.name, ": it has ",
        config.nodes, " nodes and cluster_id ", config.cluster_id,
        " (not 0, chosen at random by who creates the cluster)");
  }
  const SegmentId id{node.value};
  const std::string folder = config.segment_folder(id);
  ARROW_RETURN_NOT_OK(platform::MakePrivateFolder(folder));
  ARROW_ASSIGN_OR_RAISE(const uint64_t old_epoch, TakeOver(config, id));
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const uint64_t epoch = NextFormatEpoch(
      old_epoch, std::chrono::duration_cast<std::chrono::seconds>(now).count(),
      platform::RandomBits());
  if (epoch > kFormatEpochMax) {
    return arrow::Status::Invalid(SegmentText(config, id), ": format epoch ", epoch,
                                  " is above ", kFormatEpochMax, ": remove the folder");
  }
  // New files, not the old ones emptied: who still reads a former life keeps its bytes.
  ARROW_RETURN_NOT_OK(platform::RemoveAll(folder));
  ARROW_RETURN_NOT_OK(platform::MakePrivateFolder(folder));
  const arrow::Status status = MakeSegment(config, id, epoch);
  if (!status.ok()) {
    arrow::Status explained = ExplainFull(status, folder);
    ARROW_RETURN_NOT_OK(platform::RemoveAll(folder));  // Nothing half-made stays.
    return explained;
  }
  return arrow::Status::OK();
}

arrow::Status RemoveSegment(const ClusterConfig& incomplete, NodeId node) {
  ClusterConfig config = incomplete;
  config.ApplyDefaults();
  return platform::RemoveAll(config.segment_folder(SegmentId{node.value}));
}

}  // namespace sheaf::region
