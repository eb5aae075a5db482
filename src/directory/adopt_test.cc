#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/test_records.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "platform/shared_word.h"
#include "region/control_line.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/fake_segments.h"
#include "testing/test_seed.h"

namespace sheaf::directory {
namespace {

using format::LineState;
using format::LineWords;
using ::testing::ElementsAre;
using testing::FakeOptions;
using testing::FakeSegments;
using ::testing::IsEmpty;
using ::testing::SizeIs;

LineWords WordsOf(const FakeSegments& segments, uint32_t slot) {
  return platform::LoadLine(segments[0]->SlotLine(slot));
}

void SetWords(const FakeSegments& segments, uint32_t slot, const LineWords& words) {
  std::memcpy(segments[0]->SlotLine(slot), words.data(), sizeof(words));
}

/// All but the states of slots, which the caller compares.
void ExpectSameObjects(const HomeDirectory& a, const HomeDirectory& b) {
  for (const LineState state : {LineState::kFree, LineState::kSealed, LineState::kBound,
                                LineState::kRetired, LineState::kDisused}) {
    EXPECT_EQ(a.ObjectsIn(state), b.ObjectsIn(state));
    for (const ObjectId& id : a.ObjectsIn(state)) {
      if (state == LineState::kFree || state == LineState::kDisused) continue;
      const auto record_a = *a.GetRecord(id);
      const auto record_b = *b.GetRecord(id);
      EXPECT_EQ(record_a->name, record_b->name);
      EXPECT_EQ(record_a->own_ranges, record_b->own_ranges);
      EXPECT_TRUE(record_a->descriptor->Equals(*record_b->descriptor));
    }
  }
}

TEST(Adopt, FindsEveryObjectAndTheSameFreeSpace) {
  FakeSegments segments({.slots_max = 1000});
  auto home = std::make_unique<HomeDirectory>(segments[0]);
  Numbers numbers(testing::TestSeed());
  std::vector<ObjectId> ids;
  for (int i = 0; i < 2000; ++i) {
    const std::string name = i % 3 == 0 ? "" : "n" + std::to_string(i);
    const uint8_t flags = name.empty() ? uint8_t{0} : uint8_t{format::kSlotNamed};
    const auto id = home->Seal(MakeRecord(name, 0, numbers.Below(2000)), flags);
    if (id.ok()) ids.push_back(*id);
    if (ids.size() < 200) continue;
    const size_t k = numbers.Below(ids.size());
    // Moves on by one state; a free slot is used again.
    const auto slot = home->GetSlot(ids[k]);
    if (slot->state == static_cast<uint8_t>(LineState::kRetired)) {
      ASSERT_OK(home->Free(ids[k]));
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(k));
    } else if (slot->name_hash != 0 && numbers.Below(2) == 0) {
      ASSERT_OK(home->SetVersion(ids[k], 1, static_cast<uint32_t>(i)).ok()
                    ? home->Bind(ids[k])
                    : home->Retire(ids[k]));
    } else {
      ASSERT_OK(home->Retire(ids[k]));
    }
  }
  const HomeDirectory adopted(segments[0]);
  EXPECT_THAT(adopted.problems(), IsEmpty());
  ExpectSameObjects(*home, adopted);
}

TEST(Adopt, RecordsOfTheLastLifeAreNotOverwritten) {
  FakeSegments segments;
  const ObjectId old =
      *HomeDirectory(segments[0]).Seal(MakeRecord("old"), format::kSlotNamed);
  HomeDirectory home(segments[0]);
  for (int i = 0; i < 100; ++i) ASSERT_OK(home.Seal(MakeRecord("", 0, 1000, 'x'), 0));
  ASSERT_OK_AND_ASSIGN(const format::Slot slot, ReadSlot(*segments[0], old.slot));
  ASSERT_OK_AND_ASSIGN(const Record record, ReadRecord(*segments[0], slot));
  EXPECT_EQ(record.name, "old");
  EXPECT_OK(home.GetRecord(old));
}

TEST(Adopt, SettlesEverySlotAgain) {
  FakeSegments segments({.recording = true});
  ASSERT_OK(HomeDirectory(segments[0]).Seal(MakeRecord("a"), format::kSlotNamed));
  segments.TakeLog();
  const HomeDirectory home(segments[0]);
  EXPECT_THAT(
      segments.TakeLog(),
      ElementsAre("invalidate incarnation", "invalidate slot 0", "invalidate record",
                  "invalidate index header", "settle slot 0"));
}

/// The lines that a slot goes through in the life of one object, and at the next birth.
std::vector<LineWords> LinesOfOneLife(FakeSegments* segments, uint8_t flags) {
  HomeDirectory home((*segments)[0]);
  std::vector<LineWords> lines = {WordsOf(*segments, 0)};
  const Record record = MakeRecord((flags & format::kSlotNamed) != 0 ? "name" : "");
  const ObjectId id = *home.Seal(record, flags);
  lines.push_back(WordsOf(*segments, 0));
  if ((flags & format::kSlotNamed) != 0) {
    EXPECT_OK(home.SetVersion(id, 1, 1));
    lines.push_back(WordsOf(*segments, 0));
    EXPECT_OK(home.Bind(id));
    lines.push_back(WordsOf(*segments, 0));
  }
  EXPECT_OK(home.Retire(id, /*remover=*/7));
  lines.push_back(WordsOf(*segments, 0));
  EXPECT_OK(home.Free(id));
  lines.push_back(WordsOf(*segments, 0));
  HomeDirectory next((*segments)[0]);
  EXPECT_EQ(next.Seal(record, flags)->slot, 0U);
  lines.push_back(WordsOf(*segments, 0));
  return lines;  // The record's bytes stay in memory.
}

/// A home that dies between any two stores of any update leaves a line from which the
/// next one finds the old state or the new: nothing that was promised is lost, nothing
/// comes back.
TEST(Adopt, UndoesOrCompletesEveryUpdateThatWasCutShort) {
  for (const uint8_t flags :
       {uint8_t{format::kSlotNamed}, uint8_t{0}, uint8_t{format::kSlotKept}}) {
    FakeSegments segments;
    const std::vector<LineWords> lines = LinesOfOneLife(&segments, flags);
    for (size_t i = 0; i + 1 < lines.size(); ++i) {
      for (size_t stored = 1; stored <= 8; ++stored) {
        SCOPED_TRACE(std::to_string(flags) + ": update " + std::to_string(i) +
                     " cut after " + std::to_string(stored) + " words");
        LineWords words = lines[i];
        words[0] = format::kBusyWord;
        for (size_t k = 1; k < stored; ++k) words[k] = lines[i + 1][k];
        SetWords(segments, 0, words);
        const HomeDirectory home(segments[0]);
        EXPECT_THAT(home.problems(), IsEmpty());
        const auto before = std::bit_cast<format::Slot>(lines[i]);
        const auto after = std::bit_cast<format::Slot>(lines[i + 1]);
        ASSERT_OK_AND_ASSIGN(const format::Slot found, ReadSlot(*segments[0], 0));
        EXPECT_TRUE(found.state == before.state || found.state == after.state)
            << static_cast<int>(found.state);
        if (found.state != static_cast<uint8_t>(LineState::kFree)) {
          const bool is_freed = after.state == static_cast<uint8_t>(LineState::kFree);
          EXPECT_EQ(found.flags, is_freed ? before.flags : after.flags);
          EXPECT_EQ(found.generation, after.generation);
          EXPECT_OK(ReadRecord(*segments[0], found));
          EXPECT_OK(home.GetRecord({{0}, 0, found.generation}));
        } else {
          EXPECT_TRUE(found.generation == before.generation ||
                      found.generation == after.generation);
        }
        if (before.remover != 0 && after.generation == before.generation) {
          EXPECT_EQ(found.remover, before.remover);
        }
      }
    }
  }
}

/// The lines that a prepared object goes through until it is visible: kept, refused, and
/// decided anew by another leader.
std::vector<LineWords> LinesOfAPreparedOne(FakeSegments* segments) {
  HomeDirectory home((*segments)[0]);
  std::vector<LineWords> lines;
  const auto add = [&](const arrow::Status& status) {
    ASSERT_OK(status);
    lines.push_back(WordsOf(*segments, 0));
  };
  const ObjectId id =
      *home.Seal(MakeRecord("name"), format::kSlotNamed | format::kSlotPrepared);
  add(arrow::Status::OK());
  add(home.SetKept(id, true));
  add(home.SetVersion(id, 1, 1));
  add(home.SetVersion(id, 2, 1));
  add(home.SetVersion(id, 0, 0));
  add(home.SetVersion(id, 2, 3));
  add(home.Bind(id));
  return lines;
}

/// The table of a list that is complete: it was retired as a put that was cut short, and
/// its list took it for one that was put, and let its parts go. Whatever of the words is
/// in memory: each but the first is the old or the new one.
TEST(Adopt, WhatIsPreparedStaysSoWhereverAChangeOfItIsCutShort) {
  FakeSegments segments;
  const std::vector<LineWords> lines = LinesOfAPreparedOne(&segments);
  for (size_t i = 0; i + 1 < lines.size(); ++i) {
    for (unsigned stored = 0; stored < 128; ++stored) {
      SCOPED_TRACE("update " + std::to_string(i) + ", of words 1 to 7 there are " +
                   std::to_string(stored));
      LineWords words = lines[i];
      words[0] = format::kBusyWord;
      for (size_t k = 1; k < 8; ++k) {
        if ((stored >> (k - 1) & 1) != 0) words[k] = lines[i + 1][k];
      }
      SetWords(segments, 0, words);
      HomeDirectory home(segments[0]);
      EXPECT_THAT(home.problems(), IsEmpty());
      const auto before = std::bit_cast<format::Slot>(lines[i]);
      const auto after = std::bit_cast<format::Slot>(lines[i + 1]);
      ASSERT_OK_AND_ASSIGN(const format::Slot found, ReadSlot(*segments[0], 0));
      if (found.state == static_cast<uint8_t>(LineState::kBound)) {
        EXPECT_EQ(found.state, after.state);
        continue;
      }
      ASSERT_EQ(found.state, static_cast<uint8_t>(LineState::kSealed));
      EXPECT_TRUE(found.flags == before.flags || found.flags == after.flags)
          << static_cast<int>(found.flags);
      EXPECT_NE(found.flags & format::kSlotPrepared, 0);
      // Whoever prepared it puts it after all.
      const ObjectId id = {{0}, 0, before.generation};
      EXPECT_OK(home.GetRecord(id));
      EXPECT_OK(home.SetVersion(id, 9, 9));
      EXPECT_OK(home.Bind(id));
    }
  }
}

TEST(Adopt, ReportsDamageAndNeverUsesSuchASlotAgain) {
  FakeSegments segments;
  {
    HomeDirectory home(segments[0]);
    for (int i = 0; i < 6; ++i) ASSERT_OK(home.Seal(MakeRecord(""), 0));
  }
  LineWords words = WordsOf(segments, 0);
  words[3] ^= 1;  // checksum
  SetWords(segments, 0, words);
  auto slot = std::bit_cast<format::Slot>(WordsOf(segments, 1));
  slot.record_checksum ^= 1;
  SetWords(segments, 1, format::SealLine(slot));
  slot = std::bit_cast<format::Slot>(WordsOf(segments, 2));
  slot.state = 77;
  SetWords(segments, 2, format::SealLine(slot));
  slot = std::bit_cast<format::Slot>(WordsOf(segments, 3));
  slot.generation += uint64_t{1} << 32;
  SetWords(segments, 3, format::SealLine(slot));
  slot = std::bit_cast<format::Slot>(WordsOf(segments, 4));
  slot.record_offset = ~uint64_t{255};
  SetWords(segments, 4, format::SealLine(slot));

  HomeDirectory home(segments[0]);
  EXPECT_THAT(home.problems(), SizeIs(5));
  EXPECT_THAT(home.ObjectsIn(LineState::kSealed), SizeIs(1));
  for (uint32_t i = 6; i < 100; ++i) {
    ASSERT_OK_AND_ASSIGN(const ObjectId id, home.Seal(MakeRecord(""), 0));
    EXPECT_EQ(id.slot, i);
  }
  EXPECT_OK(ReadSlot(*segments[0], 0));  // Readable for scans again.
}

// #4: the next generation did not fit into a lease cell.
TEST(Adopt, AFreeSlotWhoseGenerationsAreUsedUpStaysUnused) {
  FakeSegments segments;
  ASSERT_OK(HomeDirectory(segments[0]).Seal(MakeRecord(""), 0));
  format::Slot slot{};
  slot.generation = format::FirstGeneration(segments[0]->header().format_epoch) |
                    format::kGenerationLowMask;
  SetWords(segments, 0, format::SealLine(slot));
  HomeDirectory home(segments[0]);
  EXPECT_THAT(home.problems(), SizeIs(1));
  ASSERT_OK_AND_ASSIGN(const ObjectId id, home.Seal(MakeRecord(""), 0));
  EXPECT_EQ(id.slot, 1U);
}

// #4: such a line was adopted as it is, without a record, or to be used again.
TEST(Adopt, OnlyADisusedSlotIsLost) {
  for (const LineState state : {LineState::kFree, LineState::kSealed}) {
    FakeSegments segments;
    ASSERT_OK(HomeDirectory(segments[0]).Seal(MakeRecord(""), 0));
    auto slot = std::bit_cast<format::Slot>(WordsOf(segments, 0));
    slot.state = static_cast<uint8_t>(state);
    slot.flags = format::kSlotLost;
    slot.generation += 1 << 20;
    SetWords(segments, 0, format::SealLine(slot));
    EXPECT_RAISES(IOError, ReadSlot(*segments[0], 0));
    HomeDirectory home(segments[0]);
    EXPECT_THAT(home.problems(), SizeIs(1));
    EXPECT_EQ(home.num_objects(), 0U);
    ASSERT_OK_AND_ASSIGN(const ObjectId id, home.Seal(MakeRecord(""), 0));
    EXPECT_EQ(id.slot, 1U);
  }
}

// #4: such an object was listed under the empty name.
TEST(Adopt, NothingIsBoundWithoutAName) {
  FakeSegments segments;
  ASSERT_OK(HomeDirectory(segments[0]).Seal(MakeRecord(""), 0));
  auto slot = std::bit_cast<format::Slot>(WordsOf(segments, 0));
  slot.state = static_cast<uint8_t>(LineState::kBound);
  SetWords(segments, 0, format::SealLine(slot));
  EXPECT_RAISES(IOError, ReadSlot(*segments[0], 0));
  ASSERT_OK_AND_ASSIGN(const auto listed, List(segments.list()));
  EXPECT_THAT(listed, IsEmpty());
  EXPECT_THAT(HomeDirectory(segments[0]).problems(), SizeIs(1));
}

TEST(Adopt, TwoSlotsCannotNameTheSameRecord) {
  FakeSegments segments;
  {
    HomeDirectory home(segments[0]);
    ASSERT_OK(home.Seal(MakeRecord(""), 0));
    ASSERT_OK(home.Seal(MakeRecord(""), 0));
  }
  SetWords(segments, 1, WordsOf(segments, 0));
  EXPECT_THAT(HomeDirectory(segments[0]).problems(), SizeIs(1));
}

/// The leader died in the middle of a claim, which only costs its index (#4).
TEST(Adopt, AnIndexHeaderThatWasCutShortIsNoDamage) {
  FakeSegments segments;
  uint64_t* line = segments[0]->NodeLine(format::NodeLine::kIndexHeader);
  platform::SharedWord(line).StoreRelease(region::kBusyLine);
  const HomeDirectory home(segments[0]);
  EXPECT_THAT(home.problems(), IsEmpty());
  const auto header =
      region::ReadControlLine<format::IndexHeaderLine>(*segments[0], line);
  ASSERT_TRUE(header.has_value());
  EXPECT_EQ(header->epoch, 0U);
}

TEST(Adopt, ADamagedIncarnationLineIsReplacedAndAllSlotsAreRead) {
  FakeSegments segments;
  ASSERT_OK(HomeDirectory(segments[0]).Seal(MakeRecord(""), 0));
  segments[0]->NodeLine(format::NodeLine::kIncarnation)[3] ^= 1;
  const HomeDirectory home(segments[0]);
  EXPECT_THAT(home.problems(), SizeIs(1));
  EXPECT_EQ(home.num_objects(), 1U);
  EXPECT_EQ(SlotsUsed(*segments[0]), segments[0]->header().slots_max);
}

/// Readers and the next home survive any bytes in slots and records.
TEST(Adopt, AnyFlippedBitsGiveErrorsOrObjectsWithinTheLimits) {
  Numbers numbers(testing::TestSeed());
  FakeSegments segments({.slots_max = 64, .records_size_bytes = 64 << 10});
  {
    HomeDirectory home(segments[0]);
    for (int i = 0; i < 64; ++i) ASSERT_OK(home.Seal(MakeRecord("", 0, 10), 0));
  }
  const auto& layout = segments[0]->layout();
  uint8_t* control = segments[0]->control().data();
  const std::vector<uint8_t> good(control + layout.slots, control + layout.rings);
  for (int round = 0; round < 500; ++round) {
    std::memcpy(control + layout.slots, good.data(), good.size());
    for (int flips = 0; flips < 200; ++flips) {
      const uint64_t bit = numbers.Below(good.size() * 8);
      control[layout.slots + bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    }
    if (round % 2 == 0) {  // Lines with good checksums and bad fields.
      for (uint32_t i = 0; i < 64; ++i) {
        SetWords(segments, i,
                 format::SealLine(std::bit_cast<format::Slot>(WordsOf(segments, i))));
      }
    }
    for (uint32_t i = 0; i < 64; ++i) {
      const auto slot = ReadSlot(*segments[0], i);
      if (slot.ok()) (void)ReadRecord(*segments[0], *slot);
    }
    const HomeDirectory home(segments[0]);
    for (const ObjectId& id : home.ObjectsIn(LineState::kSealed)) {
      EXPECT_OK(home.GetRecord(id));
    }
  }
}

TEST(ReadSlot, GivesUpOnALineThatStaysBusyOrIsGarbage) {
  FakeSegments segments;
  ASSERT_OK(HomeDirectory(segments[0]).Seal(MakeRecord(""), 0));
  LineWords words = WordsOf(segments, 0);
  words[0] = format::kBusyWord;
  SetWords(segments, 0, words);
  EXPECT_RAISES(IOError, ReadSlot(*segments[0], 0));
  words[0] = 0x1234;
  SetWords(segments, 0, words);
  EXPECT_RAISES(IOError, ReadSlot(*segments[0], 0));
  // A good checksum does not make Busy a state.
  format::Slot busy{};
  busy.state = static_cast<uint8_t>(LineState::kBusy);
  SetWords(segments, 0, format::SealLine(busy));
  EXPECT_RAISES(IOError, ReadSlot(*segments[0], 0));
  EXPECT_RAISES(Invalid, ReadSlot(*segments[0], 256));
}

/// Loading a hole of a tmpfs takes a page, or raises SIGBUS where none is left.
TEST(ReadSlot, TouchesNoSlotAboveTheMark) {
  FakeSegments segments({.slots_max = 1 << 20, .recording = true});
  HomeDirectory home(segments[0]);
  ASSERT_OK(home.Seal(MakeRecord(""), 0));
  const uint32_t used = SlotsUsed(*segments[0]);
  ASSERT_LT(used, 500'000U);
  EXPECT_OK(ReadSlot(*segments[0], used - 1));
  segments.TakeLog();
  for (const uint32_t slot : {used, 500'000U, 1U << 20, ~0U}) {
    EXPECT_TRUE(IsStaleGeneration(ReadSlot(*segments[0], slot).status()));
    EXPECT_THAT(segments.TakeLog(), ElementsAre("invalidate incarnation"));
  }
}

TEST(ReadRecord, ChecksWhatTheSlotSaysBeforeItReads) {
  FakeSegments segments;
  HomeDirectory home(segments[0]);
  const ObjectId id = *home.Seal(MakeRecord("n"), format::kSlotNamed);
  const format::Slot good = *ReadSlot(*segments[0], id.slot);
  EXPECT_OK(ReadRecord(*segments[0], good));
  auto bad = good;
  bad.record_size_bytes = ~0U;
  EXPECT_RAISES(Invalid, ReadRecord(*segments[0], bad));
  bad = good;
  bad.record_offset = segments[0]->header().records_size_bytes - 256;
  EXPECT_RAISES(Invalid, ReadRecord(*segments[0], bad));
  bad = good;
  bad.record_offset = ~uint64_t{0};
  EXPECT_RAISES(Invalid, ReadRecord(*segments[0], bad));
  bad = good;
  bad.record_size_bytes -= 8;
  EXPECT_RAISES(Invalid, ReadRecord(*segments[0], bad));
  bad = good;
  bad.flags = 0;
  EXPECT_RAISES(Invalid, ReadRecord(*segments[0], bad));
}

}  // namespace
}  // namespace sheaf::directory
