// Any bytes as slots and the records that they name: readers get an error, or an object
// that is whole; a home that starts over them adopts what is whole, says of the rest that
// it is not, and goes on with slots that nobody used.
//
// Input: four slot lines, the incarnation line (all zero: four slots are in use), the
// index header line, the record area. Taken as it is, then with right checksums.
//
// Decoders: src/directory/slot_reader.cc src/directory/adopt.cc src/directory/list.cc
// src/directory/record_space.cc src/directory/home_directory.cc

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include <arrow/buffer.h>
#include <arrow/status.h>

#include "base/check.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/slot_reader.h"
#include "format/layout.h"
#include "fuzz/control_lines.h"
#include "fuzz/input.h"
#include "fuzz/record_rules.h"
#include "region/region.h"
#include "sheaf/types.h"
#include "testing/fake_segments.h"

namespace {

using sheaf::ObjectId;
using sheaf::directory::HomeDirectory;
using sheaf::format::LineState;
using sheaf::format::NodeLine;
using sheaf::format::Slot;
using sheaf::fuzz::Checksums;

constexpr uint32_t kSlots = 4;
constexpr uint32_t kSlotsMax = 8;
constexpr uint64_t kRecordsBytes = 8192;
constexpr LineState kStatesInUse[] = {LineState::kSealed, LineState::kBound,
                                      LineState::kRetired};

class SlotFuzz {
 public:
  SlotFuzz()
      : segments_({.slots_max = kSlotsMax,
                   .lease_pages_max = 2,
                   .records_size_bytes = kRecordsBytes}),
        segment_(segments_[0]) {}

  void Run(const sheaf::fuzz::Input& input, Checksums checksums) {
    Load(input, checksums);
    for (uint32_t i = 0; i < kSlots; ++i) {
      sheaf::fuzz::MakeTornIfBusy(segment_->SlotLine(i));
    }
    Read();
    Load(input, checksums);
    Start();
  }

 private:
  void Load(sheaf::fuzz::Input input, Checksums checksums) {
    sheaf::fuzz::Clear(&segment_->control());
    const bool is_right = checksums == Checksums::kMadeRight;
    sheaf::fuzz::Fill(segment_->SlotLine(0), input.Take(kSlots * 64));
    uint64_t* marks = segment_->NodeLine(NodeLine::kIncarnation);
    uint64_t* index_header = segment_->NodeLine(NodeLine::kIndexHeader);
    sheaf::fuzz::Fill(marks, input.Take(64));
    sheaf::fuzz::Fill(index_header, input.Take(64));
    sheaf::fuzz::Fill(segment_->ControlLine(segment_->layout().records),
                      input.Take(kRecordsBytes));
    for (uint64_t* line : {marks, index_header}) {
      if (is_right) sheaf::fuzz::MakeRight(line);
      sheaf::fuzz::MakeTornIfBusy(line);
    }
    if (sheaf::fuzz::IsBlank(marks)) sheaf::fuzz::StoreMarks(segment_, kSlots, 0);
    for (uint32_t i = 0; is_right && i < kSlots; ++i) {
      sheaf::fuzz::MakeSlotRight(segment_, i);
    }
  }

  uint64_t data_size_bytes() const { return segment_->header().data_size_bytes; }

  void CheckSlot(const Slot& slot) const {
    SHEAF_CHECK(slot.state <= static_cast<uint8_t>(LineState::kDisused));
    if (!sheaf::directory::IsInUse(sheaf::directory::StateOf(slot))) return;
    SHEAF_CHECK(slot.generation != 0);
    const auto record = sheaf::directory::ReadRecord(*segment_, slot);
    if (!record.ok()) return;
    sheaf::fuzz::CheckRecordOf(*record, segment_->id(), data_size_bytes());
    const bool is_named = (slot.flags & sheaf::format::kSlotNamed) != 0;
    SHEAF_CHECK(is_named == !record->name.empty());
    const bool is_bound = sheaf::directory::StateOf(slot) == LineState::kBound;
    if (sheaf::directory::IsReadable(slot)) SHEAF_CHECK(is_named == is_bound);
  }

  /// Reads what any process may, one-sided.
  void Read() {
    for (uint32_t i = 0; i <= kSlotsMax; ++i) {
      const auto slot = sheaf::directory::ReadSlot(*segment_, i);
      if (i == kSlotsMax) SHEAF_CHECK(!slot.ok());
      if (slot.ok()) CheckSlot(*slot);
    }
    SHEAF_CHECK(sheaf::directory::SlotsUsed(*segment_) <= kSlotsMax);
    uint32_t scanned = 0;
    const arrow::Status status = sheaf::directory::ScanSlots(
        *segment_,
        [&](uint32_t, const Slot& slot) {
          ++scanned;
          CheckSlot(slot);
          return arrow::Status::OK();
        },
        [&](uint32_t, const arrow::Status& unreadable) {
          ++scanned;
          SHEAF_CHECK(!unreadable.ok());
          return arrow::Status::OK();
        });
    if (status.ok()) SHEAF_CHECK(scanned == sheaf::directory::SlotsUsed(*segment_));
    const auto listed = sheaf::directory::List(segments_.list());
    if (!listed.ok()) return;
    std::string last;
    for (const auto& [found, record] : *listed) {
      SHEAF_CHECK(sheaf::directory::ValidateName(record.name).ok());
      SHEAF_CHECK(last < record.name);
      last = record.name;
    }
  }

  bool IsOwnGeneration(uint64_t generation) const {
    return generation >> 32 == segment_->header().format_epoch &&
           (generation & 0xFFFFFFFF & ~sheaf::format::kGenerationLowMask) == 0 &&
           (generation & sheaf::format::kGenerationLowMask) != 0;
  }

  using Objects = std::set<std::pair<ObjectId, LineState>>;

  /// The objects of `home`; each is whole, and readers see the same.
  Objects CheckObjects(const HomeDirectory& home) const {
    Objects objects;
    for (const LineState state : kStatesInUse) {
      for (const ObjectId& id : home.ObjectsIn(state)) {
        objects.emplace(id, state);
        const auto slot = home.GetSlot(id);
        const auto record = home.GetRecord(id);
        SHEAF_CHECK(slot.ok() && record.ok() && *record != nullptr);
        SHEAF_CHECK(sheaf::directory::StateOf(*slot) == state);
        SHEAF_CHECK(IsOwnGeneration(id.generation));
        sheaf::fuzz::CheckRecordOf(**record, segment_->id(), data_size_bytes());
        const auto seen = sheaf::directory::ReadSlot(*segment_, id.slot);
        SHEAF_CHECK(seen.ok() && seen->generation == id.generation);
        SHEAF_CHECK(sheaf::directory::StateOf(*seen) == state);
        const auto read = sheaf::directory::ReadRecord(*segment_, *seen);
        SHEAF_CHECK(read.ok() && sheaf::fuzz::IsSame(*read, **record));
      }
    }
    SHEAF_CHECK(objects.size() == home.num_objects());
    return objects;
  }

  void Start() {
    Objects adopted;
    {
      HomeDirectory home(segment_);
      adopted = CheckObjects(home);
      for (const std::string& problem : home.problems()) SHEAF_CHECK(!problem.empty());
    }
    // A home that crashes now finds the same once more.
    HomeDirectory home(segment_);
    SHEAF_CHECK(CheckObjects(home) == adopted);
    used_.clear();
    for (const auto& [id, state] : adopted) used_.insert(id);
    SealAll(&home);
    for (const auto& [id, state] : adopted) {
      SHEAF_CHECK(home.Retire(id).ok());
      SHEAF_CHECK(home.Free(id).ok());
    }
    SealAll(&home);
    CheckObjects(home);
  }

  /// Uses up the slots, or the record area: every new object is whole, and its
  /// generation was never used.
  void SealAll(HomeDirectory* home) {
    sheaf::directory::Record record;
    record.name = "n";
    record.descriptor = arrow::Buffer::FromString("descriptor");
    for (uint32_t i = 0; i <= kSlotsMax; ++i) {
      const auto id = home->Seal(record, sheaf::format::kSlotNamed);
      if (!id.ok()) {
        SHEAF_CHECK(id.status().IsCapacityError());
        return;
      }
      SHEAF_CHECK(IsOwnGeneration(id->generation));
      SHEAF_CHECK(used_.insert(*id).second);
      SHEAF_CHECK(home->SetVersion(*id, 1, 1).ok() && home->Bind(*id).ok());
    }
    SHEAF_CHECK(false);  // More objects than slots.
  }

  sheaf::testing::FakeSegments segments_;
  sheaf::region::Segment* segment_;
  std::set<ObjectId> used_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static SlotFuzz fuzz;
  const sheaf::fuzz::Input input(data, size);
  fuzz.Run(input, Checksums::kAsTheyAre);
  fuzz.Run(input, Checksums::kMadeRight);
  return 0;
}
