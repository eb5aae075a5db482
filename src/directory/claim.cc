// A leader's claim: its epoch first, then every slot of every segment (docs/protocol.md
// C1, C2).

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "base/fault_point.h"
#include "directory/catalog.h"
#include "directory/catalog_leader.h"
#include "directory/directory.h"
#include "directory/index_writer.h"
#include "directory/slot_reader.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "platform/shared_word.h"
#include "region/admit_line.h"
#include "region/control_line.h"
#include "region/line_batch.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::directory {
namespace {

using format::LineState;

/// Reads of an object whose slot changes while its record is read: states only go
/// forward, three times at most, until the slot holds another object.
constexpr int kObjectReads = 16;
/// Some milliseconds' work.
constexpr size_t kNamesBetweenProgress = 65536;
/// Of the line of the catalog's epoch: the highest sequence of a removed name.
constexpr size_t kRemovedWord = 1;

/// 0 for what no node noted.
uint64_t RemovedSequenceIn(const uint64_t* line) {
  const uint64_t sequence = platform::SharedWord(line + kRemovedWord).LoadAcquire();
  return sequence <= kRemovedSequenceMax ? sequence : 0;
}

uint64_t HighestEpoch(const region::SegmentList& segments) {
  return FindLeader(segments).epoch;
}

bool MayHoldName(const format::Slot& slot) {
  if ((slot.flags & format::kSlotNamed) == 0) return false;
  if (StateOf(slot) == LineState::kBound) return true;
  // Sealed with a version: granted by a leader, and its publisher may be past its check
  // (C5).
  return StateOf(slot) == LineState::kSealed && slot.version_epoch != 0;
}

}  // namespace

CatalogLines ReadCatalogLines(const region::SegmentList& segments) {
  region::LineBatch lines;
  for (const region::Segment* segment : segments) {
    if (segment == nullptr) continue;
    lines.Drop(segment->control(), segment->NodeLine(format::NodeLine::kCatalogEpoch),
               format::kLineBytes);
  }
  lines.Fence();
  CatalogLines found;
  for (const region::Segment* segment : segments) {
    if (segment == nullptr) continue;
    const uint64_t* line = segment->NodeLine(format::NodeLine::kCatalogEpoch);
    const uint64_t epoch = platform::SharedWord(line).LoadAcquire();
    if (epoch > found.leader.epoch && epoch <= kCatalogEpochMax) {
      found.leader = {epoch, {segment->id().value}};
    }
    const uint64_t removed = RemovedSequenceIn(line);
    found.removed_sequence =
        std::max(found.removed_sequence, static_cast<uint32_t>(removed));
  }
  return found;
}

void DeactivateIndex(HomeDirectory* home) {
  IndexWriter index(home, /*epoch=*/0);
  if (index.is_active()) index.Deactivate();
}

/// In memory before the removal that it is of: a leader whose epoch nobody saw until then
/// reads it after it claimed.
void NoteRemovedSequence(region::Segment* own, uint32_t sequence) {
  sequence = std::min(sequence, kRemovedSequenceMax);
  uint64_t* line = own->NodeLine(format::NodeLine::kCatalogEpoch);
  if (sequence <= RemovedSequenceIn(line)) return;
  region::StoreControlWord(own, line + kRemovedWord, sequence);
}

arrow::Status CatalogLeader::Impl::BeginClaim() {
  ARROW_RETURN_NOT_OK(CheckEpoch());
  index_.Deactivate();
  region::Segment* own = home_->own_segment();
  // Settled before the first slot is loaded: a publisher that this scan misses sees the
  // epoch.
  PassFaultPoint("daemon.claim.before-epoch");
  region::StoreControlWord(own, own->NodeLine(format::NodeLine::kCatalogEpoch), epoch_);
  PassFaultPoint("daemon.claim.after-epoch");
  return arrow::Status::OK();
}

arrow::Result<bool> CatalogLeader::Impl::GoOnClaiming(uint32_t slots) {
  const region::SegmentList segments = segments_();
  while (slots > 0 && scanned_.segment < segments.size()) {
    const region::Segment* segment = segments[scanned_.segment];
    region::HighWaterMarks marks;
    if (segment != nullptr) {
      ARROW_ASSIGN_OR_RAISE(marks, region::ReadMarks(*segment));
    }
    const uint32_t wanted =
        std::min(slots, marks.slots - std::min(marks.slots, scanned_.slot));
    if (wanted > 0) {
      ARROW_RETURN_NOT_OK(ScanSegment(*segment, scanned_.slot, scanned_.slot + wanted));
    }
    slots -= wanted;
    scanned_.slot += wanted;
    if (scanned_.slot >= marks.slots) scanned_ = {scanned_.segment + 1, 0};
  }
  if (scanned_.segment < segments.size()) return false;
  ARROW_RETURN_NOT_OK(FinishClaim());
  return true;
}

/// C2. Another claim meanwhile may have missed what this one saw, or the other way round
/// (C9): the higher epoch has it.
arrow::Status CatalogLeader::Impl::FinishClaim() {
  PassFaultPoint("daemon.claim.after-scan");
  if (const LeaderView view = FindLeader(segments_()); view.epoch != epoch_) {
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                      "node " + std::to_string(view.node.value) +
                          " claimed the catalog meanwhile, with epoch " +
                          std::to_string(view.epoch));
  }
  // The line that said so is lost, or cannot be read. A version below one that is there
  // would never replace it.
  if (granted_epoch_ >= epoch_) {
    return MakeStatus(arrow::StatusCode::IOError, ErrorReason::kNodeLost,
                      "versions were granted with epoch " +
                          std::to_string(granted_epoch_) +
                          ", by a leader whose line is lost: claimed again above it");
  }
  PassFaultPoint("daemon.claim.after-confirm");
  sequence_floor_ = ReadCatalogLines(segments_()).removed_sequence;
  NoteRemovedSequence(home_->own_segment(), sequence_floor_);
  size_t num_chosen = 0;
  for (auto& [name, state] : names_) {
    ChooseTarget(&state);
    if (++num_chosen % kNamesBetweenProgress == 0) progress_();
  }
  return Rebuild();
}

arrow::Result<uint32_t> NextEpoch(const region::SegmentList& segments, NodeId claimant,
                                  uint32_t granted) {
  const uint64_t numbers =
      segments.at(claimant.value)->header().nodes_max;  // one owner each
  const uint64_t above = std::max<uint64_t>(HighestEpoch(segments), granted) + 1;
  const uint64_t next = above + (claimant.value + numbers - above % numbers) % numbers;
  if (next <= kCatalogEpochMax) return static_cast<uint32_t>(next);
  return arrow::Status::CapacityError("the catalog's epochs are used up");
}

arrow::Status CatalogLeader::Impl::CheckEpoch() const {
  const uint64_t highest = HighestEpoch(segments_());
  if (epoch_ > highest) return arrow::Status::OK();
  return arrow::Status::Invalid("catalog epoch ", epoch_, " is not above ", highest,
                                ", which was claimed before");
}

arrow::Status CatalogLeader::Impl::ScanSegment(const region::Segment& segment,
                                               uint32_t begin, uint32_t end) {
  return ScanSlots(
      segment,
      [&](uint32_t index, const format::Slot& slot) {
        return AdoptObject(segment, index, slot);
      },
      [&](uint32_t index, const arrow::Status& status) {
        return AdoptUnreadable(segment, index, status);
      },
      begin, end);
}

/// One Busy slot of a home that stopped or died in the middle of it blocks its own name
/// at most. What changes more of a line than its state and checksum holds none: a seal
/// whose publisher has not asked for the name yet, a version whose publisher will look
/// for higher epochs once it is there (C5, C9), a free. A line that its home damaged, or
/// another did, blocks: unless that home is off, and nobody can open the object any more.
arrow::Status CatalogLeader::Impl::AdoptUnreadable(const region::Segment& segment,
                                                   uint32_t index,
                                                   const arrow::Status& status) {
  const format::LineWords words =
      region::LoadControlLine(segment, segment.SlotLine(index));
  const auto fields = std::bit_cast<format::Slot>(words);
  const ObjectId id{segment.id(), index, fields.generation};
  if (words[0] != format::kBusyWord) {
    const NodeId node{segment.id().value};
    if (!region::LoadAdmitLine(*home_->own_segment(), node).is_off()) return status;
    AddProblem(id, "its node is off: " + status.message());
    return arrow::Status::OK();
  }
  const auto slot =
      FindCutShort(words, StoredSize(segment, fields.record_offset).value_or(0));
  if (!slot || !IsPlausible(*slot) || !MayHoldName(*slot)) return arrow::Status::OK();
  const auto record = ReadRecord(segment, *slot);
  if (!record.ok() || hash_(record->name) != slot->name_hash) {
    AddProblem(id, "its record cannot be read");  // by nobody
    return arrow::Status::OK();
  }
  AddProblem(id, "'" + record->name + "' is neither there nor free until node " +
                     std::to_string(segment.id().value) + " runs again");
  if (slot->version_epoch <= kCatalogEpochMax) {
    granted_epoch_ = std::max(granted_epoch_, slot->version_epoch);
  }
  // The slot decides, once it can be read.
  names_[record->name].pending.push_back(
      {id, {slot->version_epoch, slot->version_sequence}, /*is_bound=*/false});
  return arrow::Status::OK();
}

void CatalogLeader::Impl::AddProblem(const ObjectId& object, const std::string& what) {
  problems_.push_back("object in slot " + std::to_string(object.segment.value) + ":" +
                      std::to_string(object.slot) + ": " + what);
}

arrow::Status CatalogLeader::Impl::AdoptObject(const region::Segment& segment,
                                               uint32_t index, format::Slot slot) {
  for (int reads = 0; MayHoldName(slot); ++reads) {
    const auto record = ReadRecord(segment, slot);
    ARROW_ASSIGN_OR_RAISE(const format::Slot again, ReadSlot(segment, index));
    if (record.ok() && again.generation == slot.generation) {
      const ObjectId id{segment.id(), index, slot.generation};
      const bool is_bound = StateOf(again) == LineState::kBound;
      if (!MayHoldName(again)) return arrow::Status::OK();  // Retired meanwhile.
      constexpr bool kMayBeConditional = true;
      if (again.name_hash != hash_(record->name)) {
        AddProblem(id, "its slot has another hash than its name");
        return arrow::Status::OK();
      }
      if (again.version_epoch > kCatalogEpochMax) {
        AddProblem(id, "its version is of an epoch that nobody claimed");
        return arrow::Status::OK();
      }
      granted_epoch_ = std::max(granted_epoch_, again.version_epoch);
      names_[record->name].pending.push_back(
          {id,
           {again.version_epoch, again.version_sequence},
           is_bound,
           kMayBeConditional});
      return arrow::Status::OK();
    }
    if (again.checksum == slot.checksum || reads == kObjectReads) {
      // Nobody can open it, by whatever name.
      AddProblem({segment.id(), index, slot.generation}, record.status().message());
      return arrow::Status::OK();
    }
    slot = again;
  }
  return arrow::Status::OK();
}

/// C2: of several bound objects the highest version wins. One that is only sealed does
/// not hide a bound one; its publisher asks again, or commits.
void CatalogLeader::Impl::ChooseTarget(Name* name) {
  std::ranges::sort(name->pending, [](const Binding& a, const Binding& b) {
    return std::pair(a.is_bound, a.version) > std::pair(b.is_bound, b.version);
  });
  for (const Binding& binding : name->pending) {
    name->last_sequence = std::max(name->last_sequence, binding.version.sequence);
  }
  if (name->pending.empty()) return;
  name->target = name->pending.front();
  name->pending.erase(name->pending.begin());
  std::erase_if(name->pending, [&](const Binding& binding) {
    if (!binding.is_bound) return false;
    losers_.push_back(binding.object);
    name->superseded.push_back(binding.object);
    return true;
  });
}

}  // namespace sheaf::directory
