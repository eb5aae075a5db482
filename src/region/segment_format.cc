// The life of a segment's files: made by its home's daemon, removed when the cluster
// ends.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_point.h"
#include "format/control_layout.h"
#include "format/layout.h"
#include "platform/device.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/shared_word.h"
#include "region/cluster_config.h"
#include "region/device_segment.h"
#include "region/device_window.h"
#include "region/format_claim.h"
#include "region/part_set.h"
#include "region/region.h"
#include "region/segment_header.h"
#include "sheaf/types.h"

namespace sheaf::region {
namespace {

using format::SegmentHeader;

/// The header that a former life left, read from the truth: its caches are gone.
arrow::Result<SegmentHeader> ReadLeftover(const ClusterConfig& config, SegmentId id) {
  if (config.UsesDevices()) return ReadWindowHeader(config, id);
  SegmentHeader header{};
  ARROW_ASSIGN_OR_RAISE(const platform::UniqueFd fd,
                        platform::OpenFile(PartPath(config, id, PartKind::kControl),
                                           platform::Access::kRead));
  ARROW_ASSIGN_OR_RAISE(const uint64_t size, platform::FileSize(fd.get()));
  if (size == 0) return header;
  // Of a shorter file all that is there: enough to know a stranger.
  const uint64_t known_bytes = std::min<uint64_t>(size, sizeof(header));
  ARROW_ASSIGN_OR_RAISE(
      const auto mapping,
      platform::Mapping::Map(fd.get(), known_bytes, platform::Access::kRead));
  std::memcpy(&header, mapping.data(), known_bytes);
  return header;
}

/// Parts are made control first and removed control last: without it they are strangers.
arrow::Status CheckNoParts(const ClusterConfig& config, SegmentId id) {
  std::error_code ignored;
  for (const PartKind kind : {PartKind::kLeases, PartKind::kData}) {
    if (!std::filesystem::exists(PartPath(config, id, kind), ignored)) continue;
    return arrow::Status::Invalid(SegmentText(config, id), ": there is a file ",
                                  ToString(kind), " but no ",
                                  ToString(PartKind::kControl),
                                  ": these are not Sheaf's files: choose another cluster "
                                  "name or memory_folder, or ",
                                  RemoveByHand(config, id));
  }
  return arrow::Status::OK();
}

/// 0 if it cannot be told. As it is: also one that cannot be.
uint64_t FormerEpoch(const SegmentHeader& found) {
  const bool is_whole = Inspect(found) == HeaderState::kGood || IsGivenUp(found);
  return is_whole ? found.format_epoch : 0;
}

/// The format epoch of a leftover, 0 if there is none or it cannot be read. Invalid if it
/// is not ours to overwrite or to remove.
arrow::Result<uint64_t> CheckLeftover(const ClusterConfig& config, SegmentId id) {
  const auto found = ReadLeftover(config, id);
  if (found.status().IsKeyError()) {
    ARROW_RETURN_NOT_OK(CheckNoParts(config, id));
    return 0;
  }
  ARROW_RETURN_NOT_OK(found.status());
  if (config.UsesDevices()) {
    ARROW_RETURN_NOT_OK(CheckMayOverwrite(config, id, *found));
    ARROW_RETURN_NOT_OK(CheckWindowNotServed(config, id, *found));
    return FormerEpoch(*found);
  }
  switch (Inspect(*found)) {
    case HeaderState::kBlank:
    case HeaderState::kTorn:
      return 0;
    case HeaderState::kForeign:
    case HeaderState::kOtherVersion:
      return CheckHeader(*found, config, id, platform::CurrentUserId());
    case HeaderState::kGood:
      break;
  }
  if (found->user_id != platform::CurrentUserId()) {
    return arrow::Status::Invalid(SegmentText(config, id), ": belongs to user id ",
                                  found->user_id, ", we are ", platform::CurrentUserId(),
                                  ": choose another cluster name or memory_folder");
  }
  return FormerEpoch(*found);
}

arrow::Status CreateFiles(const ClusterConfig& config, SegmentId id,
                          const SegmentHeader& header) {
  ARROW_RETURN_NOT_OK(
      CreatePart(config, id, PartKind::kControl, header.control_size_bytes));
  ARROW_RETURN_NOT_OK(
      CreatePart(config, id, PartKind::kLeases, header.leases_size_bytes));
  return CreatePart(config, id, PartKind::kData, header.data_size_bytes);
}

/// Makes the segment exist for others, last of all; or no more.
void WriteMagic(uint64_t magic, Part* control) {
  auto* word = reinterpret_cast<uint64_t*>(control->data());
  platform::SharedWord(word).StoreFenced(magic);
  control->cache()->Settle(word, sizeof(magic));
}

/// Tells those who have the files mapped, also on other hosts. Best effort: what cannot
/// be mapped is nobody's.
void GiveUpFiles(const ClusterConfig& config, SegmentId id) {
  const auto found = ReadLeftover(config, id);
  if (!found.ok() || Inspect(*found) != HeaderState::kGood) return;
  const AttachOptions options{NodeId{id.value}, Role::kDaemon, /*relocate=*/true};
  const auto control =
      OpenPart(config, options, id, PartKind::kControl, sizeof(SegmentHeader));
  if (control.ok()) WriteMagic(0, control->get());
}

/// The files that CreateFiles makes, and the folder if nothing else is in it.
arrow::Status RemoveParts(const ClusterConfig& config, SegmentId id) {
  if (config.UsesDevices()) return GiveUpWindow(config, id);
  GiveUpFiles(config, id);
  const std::string folder = config.segment_folder(id);
  ARROW_RETURN_NOT_OK(platform::RemoveOwnFiles(folder, [](std::string_view name) {
    return IsPartFile(name) && name != ToString(PartKind::kControl);
  }));
  return platform::RemoveOwnFiles(folder, IsPartFile);
}

void WriteHeaderBody(const SegmentHeader& header, Part* control) {
  constexpr size_t kMagicBytes = sizeof(header.magic);
  static_assert(offsetof(SegmentHeader, magic) == 0);
  std::memcpy(control->data() + kMagicBytes,
              reinterpret_cast<const uint8_t*>(&header) + kMagicBytes,
              sizeof(header) - kMagicBytes);
  control->cache()->Settle(control->data(), sizeof(header));
}

/// `claim` is null where nobody else can write to what is being made.
arrow::Status MakeSegment(const ClusterConfig& config, SegmentId id,
                          uint64_t format_epoch, FormatClaim* claim) {
  const SegmentHeader header = MakeHeader(config, id, format_epoch);
  if (!config.UsesDevices()) ARROW_RETURN_NOT_OK(CreateFiles(config, id, header));
  const AttachOptions options{NodeId{id.value}, Role::kDaemon, false};
  ARROW_ASSIGN_OR_RAISE(auto control, OpenPart(config, options, id, PartKind::kControl,
                                               header.control_size_bytes));
  // What every node may look at. Slots, records, rings and lease pages: as they are used.
  const format::ControlLayout layout = LayoutOf(config);
  ARROW_RETURN_NOT_OK(control->Allocate(0, layout.slots));
  ARROW_RETURN_NOT_OK(
      control->Allocate(layout.ring_ends, layout.records - layout.ring_ends));
  PassFaultPoint("daemon.format.after-create");
  if (claim != nullptr) ARROW_RETURN_NOT_OK(claim->Check());
  WriteHeaderBody(header, control.get());
  PassFaultPoint("daemon.format.after-header");
  if (claim != nullptr) {
    ARROW_RETURN_NOT_OK(ClearWindow(config, id, control.get(), claim));
  }
  PassFaultPoint("daemon.format.after-clear");
  if (claim != nullptr) ARROW_RETURN_NOT_OK(claim->Check());
  WriteMagic(header.magic, control.get());
  // Who has not seen that it is there has written a claim that is seen here.
  return claim != nullptr ? claim->Check() : arrow::Status::OK();
}

arrow::Result<ClusterConfig> Complete(const ClusterConfig& incomplete, NodeId node) {
  ClusterConfig config = incomplete;
  config.ApplyDefaults();
  ARROW_RETURN_NOT_OK(config.Validate());
  if (node.value >= config.nodes || config.cluster_id == 0) {
    return arrow::Status::Invalid(
        "cannot format segment ", node.value, " of cluster ", config.name, ": it has ",
        config.nodes, " nodes and cluster_id ", config.cluster_id,
        " (not 0, chosen at random by who creates the cluster)");
  }
  if (config.UsesDevices()) ARROW_RETURN_NOT_OK(CheckDevices(config));
  return config;
}

arrow::Status MakeFolder(const ClusterConfig& config, SegmentId id) {
  return config.UsesDevices() ? arrow::Status::OK()
                              : platform::MakePrivateFolder(config.segment_folder(id));
}

/// What another cluster's lock, in another folder, would not tell.
arrow::Status LockWindow(const ClusterConfig& config, SegmentId id,
                         platform::FileLock* lock) {
  ARROW_ASSIGN_OR_RAISE(const platform::Device device, FindDevice(config, id));
  const Window window = WindowOf(config, id);
  auto held = platform::LockRange(device, window.offset, window.size_bytes);
  if (held.status().IsAlreadyExists()) {
    return held.status().WithMessage(SegmentText(config, id),
                                     ": a daemon of another cluster of this host runs "
                                     "on it: ",
                                     held.status().message());
  }
  ARROW_RETURN_NOT_OK(held.status());
  lock->Keep(*std::move(held));
  return arrow::Status::OK();
}

enum class UsedUp : uint8_t { kRefuse, kBeginAnew };

/// An epoch above the limit is garbage, and lost. The last one is used up: a clock that
/// was wrong, or damage.
arrow::Result<uint64_t> EpochAbove(const ClusterConfig& config, SegmentId id,
                                   uint64_t old_epoch, uint64_t last_epoch,
                                   UsedUp used_up) {
  const uint64_t limit =
      used_up == UsedUp::kBeginAnew ? kFormatEpochMax - 1 : kFormatEpochMax;
  if (old_epoch > limit) old_epoch = 0;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const uint64_t epoch =
      NextFormatEpoch(std::max(old_epoch, last_epoch),
                      std::chrono::duration_cast<std::chrono::seconds>(now).count(),
                      platform::RandomBits());
  if (epoch <= kFormatEpochMax) return epoch;
  if (last_epoch >= kFormatEpochMax) {
    return arrow::Status::Invalid(SegmentText(config, id), ": format epochs up to ",
                                  last_epoch,
                                  " are used up, says etcd: choose another etcd prefix");
  }
  return arrow::Status::Invalid(
      SegmentText(config, id), ": format epochs up to ", old_epoch,
      " are used up, and nodes that know of them honour nothing below: end the cluster "
      "on all hosts (sheaf down), then ",
      RemoveByHand(config, id));
}

/// Who finds the window claimed has written nothing else, or stops where it is: it is
/// another's.
arrow::Result<std::unique_ptr<FormatClaim>> Claim(const ClusterConfig& config,
                                                  SegmentId id, uint64_t old_epoch) {
  std::unique_ptr<FormatClaim> claim;
  if (config.UsesDevices()) {
    ARROW_ASSIGN_OR_RAISE(claim, FormatClaim::Write(config, id));
  }
  PassFaultPoint("daemon.format.after-claim");
  if (claim != nullptr) ARROW_RETURN_NOT_OK(claim->Confirm(old_epoch));
  return claim;
}

/// Over what is there, whose epoch was `old_epoch`; what was lost had up to `last_epoch`.
arrow::Status FormatOver(const ClusterConfig& config, SegmentId id, uint64_t old_epoch,
                         uint64_t last_epoch = 0, UsedUp used_up = UsedUp::kRefuse) {
  ARROW_ASSIGN_OR_RAISE(const uint64_t epoch,
                        EpochAbove(config, id, old_epoch, last_epoch, used_up));
  ARROW_ASSIGN_OR_RAISE(const auto claim, Claim(config, id, old_epoch));
  // New files, not the old ones emptied: who still reads a former life keeps its bytes.
  ARROW_RETURN_NOT_OK(RemoveParts(config, id));
  PassFaultPoint("daemon.format.after-remove");
  ARROW_RETURN_NOT_OK(MakeFolder(config, id));
  arrow::Status status = MakeSegment(config, id, epoch, claim.get());
  if (claim != nullptr && status.IsAlreadyExists()) return status;  // It is another's.
  if (!status.ok()) {
    ARROW_RETURN_NOT_OK(RemoveParts(config, id));  // Nothing half-made stays.
  }
  if (claim != nullptr) claim->Release();
  return status;
}

}  // namespace

arrow::Status FormatSegment(const ClusterConfig& incomplete, NodeId node,
                            uint64_t last_epoch) {
  ARROW_ASSIGN_OR_RAISE(const ClusterConfig config, Complete(incomplete, node));
  const SegmentId id{node.value};
  ARROW_RETURN_NOT_OK(MakeFolder(config, id));
  ARROW_ASSIGN_OR_RAISE(const uint64_t old_epoch, CheckLeftover(config, id));
  return FormatOver(config, id, old_epoch, last_epoch);
}

arrow::Status FormatAnyway(const ClusterConfig& incomplete, NodeId node) {
  ARROW_ASSIGN_OR_RAISE(const ClusterConfig config, Complete(incomplete, node));
  const SegmentId id{node.value};
  ARROW_ASSIGN_OR_RAISE(const SegmentHeader found, ReadWindowHeader(config, id));
  ARROW_RETURN_NOT_OK(CheckWindowNotServed(config, id, found));
  return FormatOver(config, id, FormerEpoch(found), /*last_epoch=*/0, UsedUp::kBeginAnew);
}

arrow::Status FormatWhereNothingIs(const ClusterConfig& incomplete, NodeId node) {
  ARROW_ASSIGN_OR_RAISE(const ClusterConfig config, Complete(incomplete, node));
  const SegmentId id{node.value};
  ARROW_RETURN_NOT_OK(CheckLeftover(config, id).status());
  ARROW_ASSIGN_OR_RAISE(const SegmentHeader found, ReadWindowHeader(config, id));
  if (found.magic != 0) {
    return arrow::Status::Invalid(SegmentText(config, id),
                                  ": there is a segment of this cluster: sheafd goes on "
                                  "with it, with --force what is in it is lost");
  }
  return FormatSegment(config, node);
}

// A header is written once, magic last: one without it was never used.
arrow::Result<SegmentOrigin> PrepareSegment(const ClusterConfig& incomplete, NodeId node,
                                            uint64_t last_epoch) {
  ClusterConfig config = incomplete;
  config.ApplyDefaults();
  const SegmentId id{node.value};
  if (config.UsesDevices()) ARROW_RETURN_NOT_OK(CheckDevices(config));
  const auto found = ReadLeftover(config, id);
  if (!found.ok() && !found.status().IsKeyError()) return found.status();
  if (!found.ok() || Inspect(*found) == HeaderState::kBlank) {
    ARROW_RETURN_NOT_OK(FormatSegment(config, node, last_epoch));
    return SegmentOrigin::kFormatted;
  }
  arrow::Status usable = CheckHeader(*found, config, id, platform::CurrentUserId());
  if (usable.ok() && found->data_size_bytes != config.size_bytes_of(id)) {
    usable = arrow::Status::Invalid(SegmentText(config, id), ": data size is ",
                                    found->data_size_bytes, ", expected ",
                                    config.size_bytes_of(id));
  }
  if (usable.ok()) return SegmentOrigin::kKept;
  return usable.WithMessage(usable.message(),
                            "; or give up what is in it: sheaf --cluster ", config.name,
                            " down");
}

arrow::Status RemoveSegment(const ClusterConfig& incomplete, NodeId node) {
  ClusterConfig config = incomplete;
  config.ApplyDefaults();
  const SegmentId id{node.value};
  ARROW_ASSIGN_OR_RAISE(const uint64_t epoch, CheckLeftover(config, id));
  if (!config.UsesDevices()) return RemoveParts(config, id);
  ARROW_ASSIGN_OR_RAISE(const SegmentHeader found, ReadWindowHeader(config, id));
  if (found.magic == 0) return arrow::Status::OK();
  ARROW_ASSIGN_OR_RAISE(const auto claim, Claim(config, id, epoch));
  const arrow::Status status = RemoveParts(config, id);
  claim->Release();
  return status;
}

arrow::Result<platform::FileLock> LockSegment(const ClusterConfig& incomplete,
                                              NodeId node) {
  ClusterConfig config = incomplete;
  config.ApplyDefaults();
  ARROW_RETURN_NOT_OK(platform::MakePrivateFolder(config.memory_folder));
  const SegmentId id{node.value};
  const std::string root =
      std::filesystem::path(config.runtime_folder).parent_path().string();
  auto lock =
      platform::FileLock::Acquire(config.segment_lock_path(id),
                                  "end it with: SHEAF_RUNTIME_DIR=" + root +
                                      " sheaf --cluster " + config.name + " down --keep");
  if (lock.ok() && config.UsesDevices()) {
    const arrow::Status whole = LockWindow(config, id, &*lock);
    if (!whole.ok()) return whole & lock->Remove();
  }
  if (!lock.status().IsAlreadyExists()) return lock;
  return lock.status().WithMessage(SegmentText(config, id),
                                   ": a daemon runs on it: ", lock.status().message());
}

}  // namespace sheaf::region
