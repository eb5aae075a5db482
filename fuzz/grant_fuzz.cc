// Any bytes as grant lines: a home that starts over them adopts the grants that are
// whole, says of the others that they are not, and gives each line out again under a
// generation that it never had.
//
// Input: four grant lines. Taken as they are, then with right checksums.
//
// Decoders: src/daemon/grant_table.cc

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "daemon/grant_table.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "fuzz/control_lines.h"
#include "fuzz/input.h"
#include "platform/shared_word.h"
#include "region/region.h"
#include "testing/fake_segments.h"

namespace {

using sheaf::daemon::GrantId;
using sheaf::daemon::GrantTable;
using sheaf::fuzz::Checksums;

constexpr uint32_t kGrants = 4;

class GrantFuzz {
 public:
  GrantFuzz()
      : segments_({.slots_max = 8, .lease_pages_max = 2, .records_size_bytes = 4096}),
        segment_(segments_[0]) {}

  void Run(const sheaf::fuzz::Input& input, Checksums checksums) {
    Load(input, checksums);
    std::vector<GrantId> owned;
    {
      const GrantTable table(segment_);
      owned = CheckOwned(table);
    }
    // A home that crashes now finds the same once more.
    GrantTable table(segment_);
    SHEAF_CHECK(CheckOwned(table) == owned);
    for (const GrantId& id : owned) {
      SHEAF_CHECK(table.Free(id).ok() && !table.Find(id).ok());
    }
    SHEAF_CHECK(table.num_owned() == 0 && table.Owned().empty());
    OwnAll(&table, owned);
  }

 private:
  void Load(sheaf::fuzz::Input input, Checksums checksums) {
    sheaf::fuzz::Clear(&segment_->control());
    sheaf::fuzz::Fill(segment_->GrantLine(0), input.Take(kGrants * 64));
    for (uint32_t i = 0; checksums == Checksums::kMadeRight && i < kGrants; ++i) {
      uint64_t* line = segment_->GrantLine(i);
      if (*line != sheaf::format::kBusyWord) sheaf::fuzz::MakeRight(line);
    }
  }

  bool IsOwnGeneration(uint64_t generation) const {
    return generation >> 32 == segment_->header().format_epoch &&
           (generation & 0xFFFFFFFF & ~sheaf::format::kGenerationLowMask) == 0 &&
           (generation & sheaf::format::kGenerationLowMask) != 0;
  }

  /// The grants that are out; each is what its line says.
  std::vector<GrantId> CheckOwned(const GrantTable& table) const {
    std::vector<GrantId> ids;
    for (const uint32_t grant : table.Owned()) {
      const GrantTable::Entry entry = table.Get(grant);
      SHEAF_CHECK(entry.owned && IsOwnGeneration(entry.generation));
      ids.push_back({grant, entry.generation});
      SHEAF_CHECK(table.Find(ids.back()).ok());
      const auto line = std::bit_cast<sheaf::format::Grant>(
          sheaf::platform::LoadLine(segment_->GrantLine(grant)));
      SHEAF_CHECK(line.generation == entry.generation);
      SHEAF_CHECK(line.extent_offset == entry.extent.offset);
      SHEAF_CHECK(line.owner_session == entry.owner.session);
    }
    SHEAF_CHECK(ids.size() == table.num_owned());
    for (const std::string& problem : table.problems()) SHEAF_CHECK(!problem.empty());
    return ids;
  }

  /// All lines that may be used, once: never what was there before.
  void OwnAll(GrantTable* table, const std::vector<GrantId>& before) {
    const uint32_t grants_max = segment_->header().grants_max;
    for (uint32_t i = 0;; ++i) {
      const auto next = table->NextFree();
      if (!next.ok()) {
        SHEAF_CHECK(next.status().IsCapacityError());
        return;
      }
      SHEAF_CHECK(i < grants_max && *next < grants_max);
      const auto id = table->Own(*next, {{0}, 1, 9}, {i * 65536, 65536});
      SHEAF_CHECK(id.ok() && IsOwnGeneration(id->generation));
      for (const GrantId& old : before) {
        SHEAF_CHECK(old.grant != id->grant || old.generation < id->generation);
      }
    }
  }

  sheaf::testing::FakeSegments segments_;
  sheaf::region::Segment* segment_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static GrantFuzz fuzz;
  const sheaf::fuzz::Input input(data, size);
  fuzz.Run(input, Checksums::kAsTheyAre);
  fuzz.Run(input, Checksums::kMadeRight);
  return 0;
}
