// Private state of a home's directory: its own copy of every slot and record, and free
// space.

#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "directory/directory.h"
#include "directory/record_space.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::directory {

/// Slots whose memory is really allocated at once: 64 KiB.
constexpr uint64_t kAllocateStep = 1024;

class HomeDirectory::Impl {
 public:
  Impl(region::Segment* segment, HashFn hash);

  void Adopt();  ///< Rebuild from the slots in memory; adopt.cc.
  void DisuseDamaged();

  arrow::Result<ObjectId> Seal(const Record& record, uint8_t flags);
  arrow::Result<Record> Free(const ObjectId& id);

  /// \brief The slot of `id` if it is in one of `states`, to be changed and stored; else
  /// stale.
  arrow::Result<format::Slot> Require(
      const ObjectId& id, std::initializer_list<format::LineState> states) const;
  /// \brief Every transition: the line in shared memory, and the private copy.
  void Store(uint32_t index, const format::Slot& slot, region::Arrival arrival);

  ObjectId IdOf(uint32_t index) const {
    return {segment_->id(), index, entries_[index].slot.generation};
  }
  const std::set<uint32_t>& SlotsIn(format::LineState state) const {
    return by_state_[static_cast<size_t>(state)];
  }

  struct Entry {
    format::Slot slot{};
    std::shared_ptr<const Record> record;  ///< Of slots in use.
  };

  const Entry& entry(uint32_t index) const { return entries_[index]; }
  region::Segment* segment() const { return segment_; }
  RecordSpace& records() { return records_; }
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  /// How a slot is adopted.
  struct Adopted {
    format::Slot slot{};
    std::shared_ptr<const Record> record;
    bool stored = true;  ///< False: the line in memory is not (yet) this.
  };

  arrow::Status CheckSealable(const Record& record, uint8_t flags) const;
  arrow::Result<uint32_t> TakeFreeSlot();
  arrow::Status RaiseSlotsUsed();
  arrow::Status AllocateSlots(uint64_t slots);
  uint64_t NextGeneration(const format::Slot& slot) const;
  void StoreRecord(uint64_t offset, const arrow::Buffer& bytes);

  uint64_t AdoptMark();
  void AdoptSlot(uint32_t index);
  void AdoptIndexTable();
  static Adopted GivenUp();
  Adopted AdoptLine(uint32_t index, const format::LineWords& words);
  Adopted CompleteUpdate(uint32_t index, const format::LineWords& words);
  void TakeOver(uint32_t index, Adopted adopted);
  bool IsOwnGeneration(uint64_t generation) const;
  bool HasNextGeneration(uint64_t generation) const;
  void AddProblem(uint32_t index, const std::string& what);

  region::Segment* segment_;
  HashFn hash_;
  RecordSpace records_;
  std::vector<Entry> entries_;  ///< [slots below the high-water mark in memory]
  std::vector<std::string> problems_;
  std::vector<uint32_t> damaged_;  ///< Slots: stay as they are until they are repaired.
  uint64_t slots_allocated_ = 0;   ///< Slots whose memory is really allocated.
  std::array<std::set<uint32_t>, 7> by_state_;  ///< Index: LineState.
  uint32_t next_slot_ = 0;  ///< The next that is taken, if it is Free.
};

}  // namespace sheaf::directory
