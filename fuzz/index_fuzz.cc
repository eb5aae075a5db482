// Any bytes as the catalog's index and the slots that it leads to: a look-up gives an
// error, "absent", or an object that is bound to just this name; a leader that claims the
// catalog over them finds of every name the highest version, and goes on from there.
//
// Input: eight entries (those that the names hash to), the index header line, the catalog
// epochs of both nodes, two slots of each, the records of node 1, the records of node 0.
// Taken as it is, then with right checksums.
//
// Decoders: src/directory/lookup.cc src/directory/claim.cc
// src/directory/catalog_leader.cc src/directory/index_writer.cc

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/buffer.h>

#include "base/check.h"
#include "base/math.h"
#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/slot_reader.h"
#include "format/layout.h"
#include "fuzz/control_lines.h"
#include "fuzz/input.h"
#include "platform/shared_word.h"
#include "region/region.h"
#include "testing/fake_segments.h"

namespace {

using sheaf::directory::CatalogLeader;
using sheaf::directory::Found;
using sheaf::directory::HomeDirectory;
using sheaf::directory::kCatalogEpochMax;
using sheaf::directory::Listed;
using sheaf::format::IndexEntry;
using sheaf::format::IndexHeaderLine;
using sheaf::format::NodeLine;
using sheaf::fuzz::Checksums;

constexpr uint32_t kNodes = 2;
constexpr uint32_t kSlots = 2;  ///< Of each node.
constexpr size_t kEntries = 8;
constexpr uint64_t kTableEntries = 64;  ///< What a leader makes for a few names.
constexpr uint64_t kRecordsBytes = 16384;
constexpr uint64_t kRecordsOfLeader = 4096;  ///< Offset: behind the usual table.
constexpr uint64_t kRecordsOfOther = 2048;   ///< Bytes of input.

/// Names of one length collide, and what a name hashes to is easily guessed.
uint64_t HashLength(std::string_view name) { return name.size(); }

class IndexFuzz {
 public:
  IndexFuzz()
      : segments_({.segments = kNodes,
                   .slots_max = 8,
                   .lease_pages_max = 2,
                   .records_size_bytes = kRecordsBytes}) {}

  void Run(const sheaf::fuzz::Input& input, Checksums checksums) {
    Load(input, checksums);
    ForEachSlot([](uint64_t* line) { sheaf::fuzz::MakeTornIfBusy(line); });
    for (const std::string& name : Names()) CheckLookup(name);
    Load(input, checksums);
    Claim();
  }

 private:
  template <typename SlotFn>
  void ForEachSlot(SlotFn on_slot) {
    for (uint32_t k = 0; k < kNodes; ++k) {
      for (uint32_t i = 0; i < kSlots; ++i) on_slot(segments_[k]->SlotLine(i));
    }
  }

  void Load(sheaf::fuzz::Input input, Checksums checksums) {
    for (uint32_t k = 0; k < kNodes; ++k) {
      sheaf::fuzz::Clear(&segments_[k]->control());
      sheaf::fuzz::StoreMarks(segments_[k], kSlots, 0);
    }
    const bool is_right = checksums == Checksums::kMadeRight;
    sheaf::region::Segment* leader = segments_[0];
    const auto entries = input.Take(kEntries * sizeof(IndexEntry));
    uint64_t* header = leader->NodeLine(NodeLine::kIndexHeader);
    sheaf::fuzz::Fill(header, input.Take(64));
    if (is_right) sheaf::fuzz::MakeRight(header);
    sheaf::fuzz::MakeTornIfBusy(header);
    for (uint32_t k = 0; k < kNodes; ++k) {
      *segments_[k]->NodeLine(NodeLine::kCatalogEpoch) = input.Next<uint64_t>();
    }
    for (uint32_t k = 0; k < kNodes; ++k) {
      sheaf::fuzz::Fill(segments_[k]->SlotLine(0), input.Take(kSlots * 64));
    }
    FillRecords(1, 0, input.Take(kRecordsOfOther));
    FillRecords(0, kRecordsOfLeader, input.Take(kRecordsBytes - kRecordsOfLeader));
    FillTable(entries, is_right);
    for (uint32_t i = 0; is_right && i < kSlots; ++i) {
      for (const uint32_t k : {0, 1}) {
        sheaf::fuzz::MakeSlotRight(segments_[k], i, HashLength);
      }
    }
  }

  void FillRecords(uint32_t node, uint64_t offset, std::span<const uint8_t> bytes) const {
    const sheaf::region::Segment& segment = *segments_[node];
    sheaf::fuzz::Fill(segment.ControlLine(segment.layout().records + offset), bytes);
  }

  /// The table where the header says, or at the beginning: empty entries of its epoch,
  /// and at first those of the input.
  void FillTable(std::span<const uint8_t> entries, bool is_right) const {
    const sheaf::region::Segment& leader = *segments_[0];
    const auto header = std::bit_cast<IndexHeaderLine>(
        sheaf::platform::LoadLine(leader.NodeLine(NodeLine::kIndexHeader)));
    constexpr uint64_t kTableBytes = kTableEntries * sizeof(IndexEntry);
    const bool fits = header.table_offset % 64 == 0 &&
                      sheaf::FitsWithin(header.table_offset, kTableBytes, kRecordsBytes);
    uint64_t* table =
        leader.ControlLine(leader.layout().records + (fits ? header.table_offset : 0));
    IndexEntry empty{};
    empty.epoch = header.epoch;
    constexpr uint64_t kWords = sizeof(IndexEntry) / sizeof(uint64_t);
    for (uint64_t i = 0; i < kTableEntries; ++i) {
      sheaf::fuzz::StoreLine(table + i * kWords, empty);
    }
    sheaf::fuzz::Fill(table, entries);
    for (uint64_t i = 0; i < kEntries; ++i) {
      if (is_right) sheaf::fuzz::MakeRight(table + i * kWords);
      sheaf::fuzz::MakeTornIfBusy(table + i * kWords);
    }
  }

  /// Those that are there, and some that may not be.
  std::vector<std::string> Names() const {
    std::vector<std::string> names = {"a", "bb", "ccc", "dddd"};
    for (const Listed& listed : List()) names.push_back(listed.record.name);
    return names;
  }

  std::vector<Listed> List() const {
    return sheaf::directory::List(segments_.list()).ValueOr({});
  }

  std::optional<Found> CheckLookup(const std::string& name) const {
    const auto found = sheaf::directory::Lookup(segments_.list(), name, HashLength);
    if (!found.ok() || !*found) return std::nullopt;
    const auto& [object, version] = **found;
    SHEAF_CHECK(object.segment.value < kNodes);
    const sheaf::region::Segment& home = *segments_[object.segment.value];
    const auto slot = sheaf::directory::ReadSlot(home, object.slot);
    SHEAF_CHECK(slot.ok() && slot->generation == object.generation);
    SHEAF_CHECK(sheaf::directory::StateOf(*slot) == sheaf::format::LineState::kBound);
    SHEAF_CHECK(slot->version_epoch == version.epoch);
    SHEAF_CHECK(slot->version_sequence == version.sequence);
    const auto record = sheaf::directory::ReadRecord(home, *slot);
    SHEAF_CHECK(record.ok() && record->name == name);
    return *found;
  }

  uint64_t HighestEpoch() const {
    uint64_t highest = 0;
    for (uint32_t k = 0; k < kNodes; ++k) {
      const uint64_t epoch = *segments_[k]->NodeLine(NodeLine::kCatalogEpoch);
      if (epoch <= kCatalogEpochMax) highest = std::max(highest, epoch);
    }
    return highest;
  }

  void Claim() {
    HomeDirectory leader_home(segments_[0], HashLength);
    HomeDirectory other_home(segments_[1], HashLength);
    ForEachSlot([](uint64_t* line) { sheaf::fuzz::MakeTornIfBusy(line); });
    const uint64_t epoch = HighestEpoch() + 1;
    if (epoch > kCatalogEpochMax) return;
    const auto claimed =
        CatalogLeader::Claim([this] { return segments_.list(); }, &leader_home,
                             static_cast<uint32_t>(epoch), HashLength);
    if (!claimed.ok()) {
      SHEAF_CHECK(claimed.status().IsIOError() || claimed.status().IsCapacityError());
      return;
    }
    // Where a home gives an object up, its record is overwritten, and a look-up that
    // comes by it fails.
    const bool is_sound = leader_home.problems().empty() && other_home.problems().empty();
    if (is_sound) CheckIndex();
    for (const sheaf::ObjectId& loser : (*claimed)->losers()) {
      SHEAF_CHECK(loser.segment.value < kNodes);
    }
    for (const char* name : {"a", "bb"}) {
      Replace(claimed->get(), &leader_home, name, is_sound);
      Replace(claimed->get(), &other_home, name, is_sound);
    }
    if (is_sound) CheckIndex();
  }

  /// Of each name that a scan of the slots finds, the index leads to the highest version.
  void CheckIndex() const {
    for (const Listed& listed : List()) {
      const sheaf::ObjectId& object = listed.found.object;
      const auto slot =
          sheaf::directory::ReadSlot(*segments_[object.segment.value], object.slot);
      // A slot with another hash than its name has is found by nobody.
      if (slot->name_hash != HashLength(listed.record.name)) continue;
      const auto found = CheckLookup(listed.record.name);
      SHEAF_CHECK(found && found->version == listed.found.version);
    }
  }

  /// A publish in all its steps, as far as it goes.
  void Replace(CatalogLeader* leader, HomeDirectory* home, const std::string& name,
               bool is_sound) {
    sheaf::directory::Record record;
    record.name = name;
    record.descriptor = arrow::Buffer::FromString("descriptor");
    const auto id = home->Seal(record, sheaf::format::kSlotNamed);
    if (!id.ok()) return;
    const auto version = leader->Bind({name, *id, /*replace=*/true});
    if (!version.ok()) {
      SHEAF_CHECK(home->Retire(*id).ok());
      return;
    }
    SHEAF_CHECK(home->SetVersion(*id, version->epoch, version->sequence).ok());
    SHEAF_CHECK(home->Bind(*id).ok());
    const auto superseded = leader->Commit(name, *id, *version);
    SHEAF_CHECK(superseded.ok() || !superseded.status().IsInvalid());
    const auto found = CheckLookup(name);
    if (is_sound && superseded.ok() && std::ranges::count(*superseded, *id) == 0) {
      SHEAF_CHECK(found && found->object == *id);
    }
  }

  sheaf::testing::FakeSegments segments_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static IndexFuzz fuzz;
  const sheaf::fuzz::Input input(data, size);
  fuzz.Run(input, Checksums::kAsTheyAre);
  fuzz.Run(input, Checksums::kMadeRight);
  return 0;
}
