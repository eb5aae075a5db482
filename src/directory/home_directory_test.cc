#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/plant.h"
#include "directory/directory.h"
#include "directory/test_records.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/fake_segments.h"

namespace sheaf::directory {
namespace {

using format::LineState;
using ::testing::ElementsAre;
using testing::FakeOptions;
using testing::FakeSegments;

/// docs/protocol.md section 4: every transition ends in FLUSH; FENCE, and in SETTLE where
/// it says so.
TEST(HomeDirectory, StoresFlushesAndSettlesInTheOrderOfTheStateTable) {
  FakeSegments segments({.recording = true});
  HomeDirectory home(segments[0]);
  segments.TakeLog();
  ASSERT_OK_AND_ASSIGN(const ObjectId id,
                       home.Seal(MakeRecord("taxi"), format::kSlotNamed));
  EXPECT_THAT(segments.TakeLog(),
              ElementsAre("store incarnation", "flush incarnation", "fence",
                          "settle incarnation",             // DIR-2
                          "store record", "settle record",  // L11, DIR-1
                          "store slot 0", "flush slot 0", "fence", "settle slot 0"));
  ASSERT_OK(home.SetVersion(id, 1, 1));  // C4
  EXPECT_THAT(segments.TakeLog(),
              ElementsAre("store slot 0", "flush slot 0", "fence", "settle slot 0"));
  ASSERT_OK(home.Bind(id));  // C6
  EXPECT_THAT(segments.TakeLog(),
              ElementsAre("store slot 0", "flush slot 0", "fence", "settle slot 0"));
  ASSERT_OK(home.Retire(id));
  EXPECT_THAT(segments.TakeLog(),
              ElementsAre("store slot 0", "flush slot 0", "fence", "settle slot 0"));
  ASSERT_OK(home.Free(id));
  EXPECT_THAT(segments.TakeLog(),
              ElementsAre("store slot 0", "flush slot 0", "fence", "settle slot 0"));
}

TEST(HomeDirectory, RaisesItsMarkForManySlotsAtOnce) {
  FakeSegments segments({.recording = true});
  HomeDirectory home(segments[0]);
  for (uint32_t i = 0; i < 130; ++i) ASSERT_OK(home.Seal(MakeRecord(""), 0));
  uint32_t raised = 0;
  for (const std::string& entry : segments.TakeLog()) {
    raised += entry == "settle incarnation";
    EXPECT_EQ(entry.find("NOT ALLOCATED"), std::string::npos) << entry;
  }
  EXPECT_EQ(raised, 3U);
  EXPECT_EQ(SlotsUsed(*segments[0]), 192U);
}

TEST(HomeDirectory, PlantedFaultLeavesTheRecordUnflushed) {
  FakeSegments segments({.recording = true});
  HomeDirectory home(segments[0]);
  ASSERT_OK(home.Seal(MakeRecord("a"), format::kSlotNamed));
  segments.TakeLog();
  SetPlants("no-flush-record");
  ASSERT_OK(home.Seal(MakeRecord("b"), format::kSlotNamed));
  SetPlants("");
  EXPECT_THAT(segments.TakeLog(), ElementsAre("store slot 1", "store record",
                                              "flush slot 1", "fence", "settle slot 1"));
}

TEST(HomeDirectory, ReadersSeeWhatTheHomeSealed) {
  FakeSegments segments;
  HomeDirectory home(segments[0]);
  ASSERT_OK_AND_ASSIGN(const ObjectId id,
                       home.Seal(MakeRecord("taxi"), format::kSlotNamed));
  EXPECT_EQ(id.generation, format::FirstGeneration(7));
  ASSERT_OK_AND_ASSIGN(const format::Slot sealed, ReadSlot(*segments[0], id.slot));
  EXPECT_FALSE(IsReadable(sealed));  // Named, not yet Bound.
  ASSERT_OK(home.SetVersion(id, 3, 4));
  ASSERT_OK(home.Bind(id));
  ASSERT_OK_AND_ASSIGN(const format::Slot slot, ReadSlot(*segments[0], id.slot));
  EXPECT_TRUE(IsReadable(slot));
  EXPECT_EQ(slot.generation, id.generation);
  EXPECT_EQ(slot.version_epoch, 3U);
  EXPECT_EQ(slot.version_sequence, 4U);
  EXPECT_EQ(slot.name_hash, format::HashName("taxi"));
  ASSERT_OK_AND_ASSIGN(const Record record, ReadRecord(*segments[0], slot));
  EXPECT_EQ(record.name, "taxi");
  EXPECT_EQ(record.descriptor->ToString(), std::string(100, 'd'));
  ASSERT_OK(home.Retire(id));
  ASSERT_OK_AND_ASSIGN(const format::Slot retired, ReadSlot(*segments[0], id.slot));
  EXPECT_FALSE(IsReadable(retired));
}

TEST(HomeDirectory, FreeGivesTheRecordAndItsSpaceBackAndSlotsGoRoundAbout) {
  FakeSegments segments;
  HomeDirectory home(segments[0]);
  for (uint32_t i = 0; i < 150; ++i) {
    // Each needs more than half of the record area.
    ASSERT_OK_AND_ASSIGN(const ObjectId id, home.Seal(MakeRecord("", 0, 600'000), 0));
    EXPECT_EQ(id.slot, i % 64);  // the mark's step
    EXPECT_EQ(id.generation, format::FirstGeneration(7) + i / 64);
    ASSERT_OK(home.Retire(id));
    ASSERT_OK_AND_ASSIGN(const Record record, home.Free(id));
    EXPECT_EQ(record.own_ranges, MakeRecord("").own_ranges);
    EXPECT_EQ(home.num_objects(), 0U);
  }
}

TEST(HomeDirectory, SaysWhenSlotsOrRecordsAreUsedUp) {
  FakeSegments segments({.slots_max = 100});
  HomeDirectory home(segments[0]);
  std::vector<ObjectId> ids;
  for (int i = 0; i < 100; ++i) {
    ASSERT_OK_AND_ASSIGN(const ObjectId id, home.Seal(MakeRecord(""), 0));
    ids.push_back(id);
  }
  EXPECT_RAISES(CapacityError, home.Seal(MakeRecord(""), 0));
  ASSERT_OK(home.Retire(ids[50]));
  ASSERT_OK(home.Free(ids[50]));
  EXPECT_RAISES(CapacityError, home.Seal(MakeRecord("", 0, 2 << 20), 0));
  ASSERT_OK_AND_ASSIGN(const ObjectId id, home.Seal(MakeRecord(""), 0));
  EXPECT_EQ(id.slot, 50U);
}

TEST(HomeDirectory, AFullFileSystemIsAnErrorAndNothingChanges) {
  FakeSegments segments;
  HomeDirectory home(segments[0]);
  segments.control(0).is_full = true;
  EXPECT_RAISES(OutOfMemory, home.Seal(MakeRecord(""), 0));
  EXPECT_EQ(SlotsUsed(*segments[0]), 0U);
  segments.control(0).is_full = false;
  ASSERT_OK(home.Seal(MakeRecord(""), 0));
}

TEST(HomeDirectory, RefusesRecordsThatDoNotBelongHere) {
  FakeSegments segments;
  HomeDirectory home(segments[0]);
  EXPECT_RAISES(Invalid, home.Seal(MakeRecord("a"), 0));                  // flag missing
  EXPECT_RAISES(Invalid, home.Seal(MakeRecord(""), format::kSlotNamed));  // name missing
  EXPECT_RAISES(Invalid, home.Seal(MakeRecord(""), 8));                   // no such flag
  EXPECT_RAISES(Invalid, home.Seal(MakeRecord("", /*segment=*/1), 0));    // other home
  Record record = MakeRecord("");
  record.own_ranges.back().size_bytes = uint64_t{1} << 40;
  EXPECT_RAISES(Invalid, home.Seal(record, 0));
  EXPECT_EQ(home.num_objects(), 0U);
}

TEST(HomeDirectory, TakesASlotOutOfUseBeforeItsLowBitsWrap) {
  FakeSegments segments({.slots_max = 2});
  {
    HomeDirectory home(segments[0]);
    ASSERT_OK(home.Seal(MakeRecord(""), 0));
  }
  // The next generation but one of slot 1 is the last.
  format::Slot slot{};
  slot.generation = format::FirstGeneration(7) + format::kGenerationLowMask - 3;
  region::StoreControlLine(segments[0], segments[0]->SlotLine(1), slot, format::kBusyWord,
                           region::Arrival::kSettled);
  HomeDirectory home(segments[0]);
  for (uint64_t low : {format::kGenerationLowMask - 1, format::kGenerationLowMask}) {
    ASSERT_OK_AND_ASSIGN(const ObjectId id, home.Seal(MakeRecord(""), 0));
    EXPECT_EQ(id.slot, 1U);
    EXPECT_EQ(id.generation & format::kGenerationLowMask, low);
    ASSERT_OK(home.Retire(id));
    ASSERT_OK(home.Free(id));
  }
  EXPECT_RAISES(CapacityError, home.Seal(MakeRecord(""), 0));
  ASSERT_OK_AND_ASSIGN(const format::Slot disused, ReadSlot(*segments[0], 1));
  EXPECT_EQ(disused.state, static_cast<uint8_t>(LineState::kDisused));
  EXPECT_EQ(HomeDirectory(segments[0]).ObjectsIn(LineState::kDisused).size(), 1U);
}

/// What a request does to an object in a state: the state after it, or `stale`.
struct Expectation {
  const char* request;
  /// Of an object that is Free, Sealed, Bound, Retired; '-' is stale.
  const char* named;
  const char* unnamed;
};

class Requests {
 public:
  explicit Requests(bool named) : home_(segments_[0]), is_named_(named) {}

  ObjectId Make(char state) {
    const uint8_t flags = is_named_ ? uint8_t{format::kSlotNamed} : uint8_t{0};
    ObjectId id = *home_.Seal(MakeRecord(is_named_ ? "n" : ""), flags);
    if (state == 'B') {
      EXPECT_OK(home_.Bind(id));
    }
    if (state == 'R' || state == 'F') {
      EXPECT_OK(home_.Retire(id));
    }
    if (state == 'F') {
      EXPECT_OK(home_.Free(id));
    }
    return id;
  }

  arrow::Status Do(const std::string& request, const ObjectId& id) {
    if (request == "version") return home_.SetVersion(id, 1, 1);
    if (request == "bind") return home_.Bind(id);
    if (request == "keep") return home_.SetKept(id, true);
    if (request == "retire") return home_.Retire(id);
    if (request == "free") return home_.Free(id).status();
    if (request == "slot") return home_.GetSlot(id).status();
    return home_.GetRecord(id).status();
  }

  char StateOf(const ObjectId& id) const {
    const format::Slot slot = *ReadSlot(*segments_[0], id.slot);
    EXPECT_EQ(slot.generation, id.generation);
    return "FboSBRd"[slot.state];
  }

 private:
  FakeSegments segments_;
  HomeDirectory home_;
  bool is_named_;
};

constexpr Expectation kExpectations[] = {
    // clang-format off
    {"version", "-S--", "-!--"},
    {"bind",    "-BB-", "-!--"},
    {"keep",    "-!--", "-S--"},
    {"retire",  "-RRR", "-R-R"},
    {"free",    "---F", "---F"},
    {"slot",    "-SBR", "-S-R"},
    {"record",  "-SBR", "-S-R"},
    // clang-format on
};

TEST(HomeDirectory, EveryRequestInEveryState) {
  constexpr char kStates[] = {'F', 'S', 'B', 'R'};
  for (const Expectation& expected : kExpectations) {
    for (const bool named : {true, false}) {
      for (size_t i = 0; i < 4; ++i) {
        if (!named && kStates[i] == 'B') continue;  // There is no such object.
        SCOPED_TRACE(std::string(expected.request) + " in " + kStates[i] +
                     (named ? " named" : " unnamed"));
        Requests requests(named);
        const ObjectId id = requests.Make(kStates[i]);
        const arrow::Status status = requests.Do(expected.request, id);
        const char wanted = named ? expected.named[i] : expected.unnamed[i];
        EXPECT_EQ(IsStaleGeneration(status), wanted == '-') << status.ToString();
        EXPECT_EQ(status.IsInvalid(), wanted == '!') << status.ToString();
        EXPECT_EQ(requests.StateOf(id), status.ok() ? wanted : kStates[i]);
        // Repeated, it does no more (or is stale, when the object is gone).
        const arrow::Status again = requests.Do(expected.request, id);
        EXPECT_TRUE(again.ok() || IsStaleGeneration(again) || wanted == '!');
      }
    }
  }
}

TEST(HomeDirectory, OtherGenerationsAreStaleInEveryState) {
  for (const Expectation& expected : kExpectations) {
    for (const char state : {'F', 'S', 'B', 'R'}) {
      Requests requests(/*named=*/true);
      const ObjectId id = requests.Make(state);
      for (const ObjectId other : {ObjectId{id.segment, id.slot, id.generation - 1},
                                   ObjectId{id.segment, id.slot, id.generation + 1},
                                   ObjectId{id.segment, id.slot + 1, id.generation},
                                   ObjectId{id.segment, 1U << 30, id.generation},
                                   ObjectId{{1}, id.slot, id.generation}}) {
        EXPECT_TRUE(IsStaleGeneration(requests.Do(expected.request, other)));
        EXPECT_EQ(requests.StateOf(id), state);
      }
    }
  }
}

TEST(HomeDirectory, KnowsTheUnnamedObjectsOfASession) {
  FakeSegments segments;
  HomeDirectory home(segments[0]);
  ASSERT_OK_AND_ASSIGN(const ObjectId a, home.Seal(MakeRecord(""), 0));
  ASSERT_OK_AND_ASSIGN(const ObjectId kept, home.Seal(MakeRecord(""), format::kSlotKept));
  ASSERT_OK(home.Seal(MakeRecord("named"), format::kSlotNamed));
  Record other = MakeRecord("");
  other.creator_session = 12;
  ASSERT_OK(home.Seal(other, 0));
  EXPECT_THAT(home.UnnamedOf(11), ElementsAre(a));
  ASSERT_OK(home.SetKept(kept, false));
  ASSERT_OK(home.SetKept(a, true));
  EXPECT_THAT(home.UnnamedOf(11), ElementsAre(kept));
}

}  // namespace
}  // namespace sheaf::directory
