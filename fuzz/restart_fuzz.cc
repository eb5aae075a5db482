// Any bytes as all that a home finds in its segment: it starts, unless there is no lease
// page left; it finds the same if it starts once more; when everything that it found is
// ended, no byte, lease page or lease is left in use; and after a repair nothing is
// wrong.
//
// Input: four grant lines, the page table, the incarnation line, four slots (all are in
// use if the line is zero), the records. Taken as they are, then with right checksums.
//
// Decoders: src/daemon/home.cc src/daemon/space.cc src/daemon/grant_table.cc
// src/daemon/foreign_leases.cc src/alloc/range_map.cc

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include <arrow/result.h>

#include "base/check.h"
#include "daemon/grant_table.h"
#include "daemon/home.h"
#include "daemon/node_lines.h"
#include "daemon/test_node.h"
#include "directory/directory.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "fuzz/control_lines.h"
#include "fuzz/input.h"
#include "fuzz/message_world.h"
#include "fuzz/world_daemon.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace {

using sheaf::ObjectId;
using sheaf::daemon::Home;
using sheaf::format::LineState;
using sheaf::format::NodeLine;
using sheaf::fuzz::Checksums;

constexpr uint32_t kGrants = 4;
constexpr uint32_t kSlots = 4;
constexpr uint32_t kPages = sheaf::fuzz::kWorldLeasePages;
constexpr uint64_t kRecordsBytes = 8192;
constexpr std::chrono::seconds kLongAgo{60};

class RestartFuzz {
 public:
  void Run(const sheaf::fuzz::Input& input, Checksums checksums) {
    region_ = world_.Blank(0);
    segment_ = &region_->own_segment();
    Load(input, checksums);
    Found first;
    {
      const auto home = Start();
      if (!home.ok()) return;
      first = Look(**home);
    }
    bool is_damaged = false;
    {
      const auto home = Start();
      if (!home.ok()) return;
      SHEAF_CHECK(Look(**home) == first);
      EndAll(home->get());
      Use(home->get());
      is_damaged = !(*home)->problems().empty();
    }
    if (is_damaged) Repair();
  }

 private:
  /// As `sheaf fsck --repair` does.
  void Repair() {
    sheaf::directory::HomeDirectory(segment_).DisuseDamaged();
    SHEAF_CHECK(sheaf::daemon::GrantTable(segment_).FreeAll().ok());
    const auto home = Start();
    if (!home.ok()) return;
    SHEAF_CHECK((*home)->problems().empty());
    Use(home->get());
  }

  /// What a home found.
  struct Found {
    std::set<uint64_t> sessions;
    std::set<std::pair<ObjectId, LineState>> objects;
    uint64_t used_bytes = 0;
    bool operator==(const Found&) const = default;
  };

  void Load(sheaf::fuzz::Input input, Checksums checksums) {
    const bool is_right = checksums == Checksums::kMadeRight;
    sheaf::fuzz::Fill(segment_->GrantLine(0), input.Take(kGrants * 64));
    sheaf::fuzz::Fill(segment_->ControlLine(segment_->layout().page_table),
                      input.Take(kPages * sizeof(uint64_t)));
    uint64_t* marks = segment_->NodeLine(NodeLine::kIncarnation);
    sheaf::fuzz::Fill(marks, input.Take(64));
    if (is_right) sheaf::fuzz::MakeRight(marks);
    sheaf::fuzz::MakeTornIfBusy(marks);
    if (sheaf::fuzz::IsBlank(marks)) sheaf::fuzz::StoreMarks(segment_, kSlots, kPages);
    sheaf::fuzz::Fill(segment_->SlotLine(0), input.Take(kSlots * 64));
    sheaf::fuzz::Fill(segment_->ControlLine(segment_->layout().records),
                      input.Take(kRecordsBytes));
    for (uint32_t i = 0; is_right && i < kGrants; ++i) {
      uint64_t* line = segment_->GrantLine(i);
      if (*line != sheaf::format::kBusyWord) sheaf::fuzz::MakeRight(line);
    }
    for (uint32_t i = 0; is_right && i < kSlots; ++i) {
      sheaf::fuzz::MakeSlotRight(segment_, i);
    }
  }

  arrow::Result<std::unique_ptr<Home>> Start() {
    const auto life =
        sheaf::daemon::NodeLines(segment_).BeginLife(sheaf::fuzz::kWorldBoot);
    auto home = Home::Make(region_, &clock_, life);
    SHEAF_CHECK(home.ok() || home.status().IsCapacityError());
    return home;
  }

  static Found Look(Home& home) {
    Found found;
    found.sessions = home.sessions();
    for (const LineState state :
         {LineState::kSealed, LineState::kBound, LineState::kRetired}) {
      for (const ObjectId& id : home.directory().ObjectsIn(state)) {
        found.objects.emplace(id, state);
      }
    }
    const auto statistics = home.statistics();
    found.used_bytes = statistics.used_bytes;
    SHEAF_CHECK(statistics.used_bytes + statistics.free_bytes ==
                home.space().ranges().size_bytes());
    return found;
  }

  /// No process of any session lives, and whoever can removes the objects.
  void EndAll(Home* home) {
    for (const uint64_t session : std::set<uint64_t>(home->sessions())) {
      SHEAF_CHECK(home->EndSession(session).ok());
    }
    for (uint32_t node = 0; node < sheaf::format::kNodesMax; ++node) {
      for (const uint64_t guest : home->guests().Of({node})) {
        SHEAF_CHECK(home->EndSession(guest).ok());
      }
    }
    SHEAF_CHECK(home->sessions().empty());
    for (const LineState state : {LineState::kSealed, LineState::kBound}) {
      for (const ObjectId& id : home->directory().ObjectsIn(state)) {
        const auto record = home->directory().GetRecord(id).ValueOrDie();
        SHEAF_CHECK(home->Retire(id, record->name).ok());
      }
    }
    clock_.Advance(kLongAgo);
    SHEAF_CHECK(home->Reclaim().ok() && home->num_retired() == 0);
    SHEAF_CHECK(home->num_foreign_leases() == 0);
    SHEAF_CHECK(home->statistics().objects == 0);
    SHEAF_CHECK(home->statistics().used_bytes == 0);
  }

  /// A session of this life, for which there is memory unless some of it is in doubt.
  static void Use(Home* home) {
    const auto session = home->OpenSession();
    if (!session.ok()) {
      SHEAF_CHECK(session.status().IsCapacityError());
      return;
    }
    const auto grant = home->Grant(session->id, sheaf::format::kSmallExtentBytes);
    SHEAF_CHECK(grant.ok() == home->problems().empty());
    SHEAF_CHECK(home->EndSession(session->id).ok());
    SHEAF_CHECK(home->statistics().used_bytes == 0);
  }

  sheaf::fuzz::World world_;
  sheaf::daemon::FakeScheduler clock_;
  sheaf::region::Region* region_ = nullptr;
  sheaf::region::Segment* segment_ = nullptr;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static RestartFuzz fuzz;
  const sheaf::fuzz::Input input(data, size);
  fuzz.Run(input, Checksums::kAsTheyAre);
  fuzz.Run(input, Checksums::kMadeRight);
  return 0;
}
