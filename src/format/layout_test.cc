// The bytes of this format version (docs/format.md). A change that makes these tests fail
// needs a new version.

#include "format/layout.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <ios>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

#include "format/checksum.h"
#include "format/control_layout.h"
#include "format/ring.h"

namespace sheaf::format {
namespace {

template <typename T>
std::string BytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

void ExpectGolden(const std::string& name, const std::string& bytes) {
  const std::string path = std::string(SHEAF_TEST_DATA_DIR) + "/" + name + "_v" +
                           std::to_string(kFormatVersion) + ".bin";
  if (std::getenv("SHEAF_WRITE_GOLDEN") != nullptr) {  // NOLINT(concurrency-mt-unsafe)
    std::ofstream(path, std::ios::binary) << bytes;
  }
  std::ifstream file(path, std::ios::binary);
  const std::string golden{std::istreambuf_iterator<char>(file), {}};
  EXPECT_TRUE(bytes == golden) << name << " changed: that needs a new format version";
}

/// Checks `line` with its checksum, and that the checked bytes give it back.
template <LineStruct T>
void ExpectGoldenLine(const std::string& name, T line) {
  const LineWords words = SealLine(line);
  ExpectGolden(name, BytesOf(words));
  line.checksum = words[7];
  const auto opened = OpenLine<T>(words);
  ASSERT_TRUE(opened.has_value());
  EXPECT_EQ(BytesOf(*opened), BytesOf(line));
}

TEST(GoldenLayout, SegmentHeader) {
  SegmentHeader header{};
  header.magic = kSegmentMagic;
  header.version = kFormatVersion;
  header.segment = 2;
  header.cluster_id = 0x0102030405060708;
  header.format_epoch = 0x11121314;
  header.base_address = 0x200000000000;
  header.control_size_bytes = 0x3132333435363738;
  header.leases_size_bytes = 0x4142434445464748;
  header.data_size_bytes = 0x5152535455565758;
  header.nodes_max = 0x61626364;
  header.slots_max = 0x65666768;
  header.grants_max = 0x71727374;
  header.lease_pages_max = 0x75767778;
  header.records_size_bytes = 0x8182838485868788;
  header.created_unix_seconds = 0x9192939495969798;
  header.user_id = 0xA1A2A3A4;
  header.coherence = 1;
  header.agreement_hash = 0xA1A2A3A4A5A6A7A8;
  header.checksum = Checksum(
      {reinterpret_cast<const uint8_t*>(&header), offsetof(SegmentHeader, checksum)});
  ExpectGolden("segment_header", BytesOf(header));
  EXPECT_EQ(BytesOf(header).substr(0, 8), "SHEAFSEG");
}

TEST(GoldenLayout, IncarnationLine) {
  IncarnationLine line{};
  line.incarnation = 0x0102030405060708;
  line.state = 1;
  line.daemon_process_id = 0x11121314;
  line.slots_used = 0x2122232425262728;
  line.lease_pages_used = 0x3132333435363738;
  ExpectGoldenLine("incarnation_line", line);
}

TEST(GoldenLayout, StatisticsLine) {
  StatisticsLine line{};
  line.used_bytes = 0x0102030405060708;
  line.free_bytes = 0x1112131415161718;
  line.largest_free_bytes = 0x2122232425262728;
  line.sessions = 0x31323334;
  line.objects = 0x35363738;
  line.backing_page_bytes = 0x4142434445464748;
  ExpectGoldenLine("statistics_line", line);
}

TEST(GoldenLayout, Slot) {
  Slot line{};
  line.state = static_cast<uint8_t>(LineState::kBound);
  line.flags = static_cast<uint8_t>(SlotFlags::kSlotNamed | SlotFlags::kSlotKept);
  line.record_size_bytes = 0x01020304;
  line.generation = 0x1112131415161718;
  line.record_offset = 0x2122232425262728;
  line.name_hash = 0x3132333435363738;
  line.version_sequence = 0x41424344;
  line.version_epoch = 0x45464748;
  line.record_checksum = 0x5152535455565758;
  line.prepared_flags = 0x61626364;
  line.remover = 0x65666768;
  ExpectGoldenLine("slot", line);
}

TEST(GoldenLayout, Grant) {
  Grant line{};
  line.state = static_cast<uint8_t>(LineState::kOwned);
  line.owner_node = 0x01020304;
  line.owner_incarnation = 0x1112131415161718;
  line.owner_session = 0x2122232425262728;
  line.generation = 0x3132333435363738;
  line.extent_offset = 0x4142434445464748;
  line.extent_size_bytes = 0x5152535455565758;
  ExpectGoldenLine("grant", line);
}

TEST(GoldenLayout, IndexEntry) {
  IndexEntry line{};
  line.epoch = 0x0102030405060708;
  line.name_hash = 0x1112131415161718;
  line.generation = 0x2122232425262728;
  line.home = 0x31323334;
  line.slot = 0x35363738;
  line.version_sequence = 0x41424344;
  line.version_epoch = 0x45464748;
  line.state = 1;
  ExpectGoldenLine("index_entry", line);
}

TEST(GoldenLayout, IndexHeaderLine) {
  IndexHeaderLine line{};
  line.epoch = 0x0102030405060708;
  line.table_offset = 0x1112131415161718;
  line.capacity_entries = 0x2122232425262728;
  line.build = 0x3132333435363738;
  ExpectGoldenLine("index_header_line", line);
}

TEST(GoldenLayout, RingEnd) {
  RingEnd line{};
  line.version = 0x0102030405060708;
  line.cluster_id = 0x1112131415161718;
  line.life = 0x2122232425262728;
  line.peer_life = 0x3132333435363738;
  line.lines_received = 0x4142434445464748;
  line.is_awake = 1;
  ExpectGoldenLine("ring_end", line);
}

TEST(GoldenLayout, FirstLineOfARingFrame) {
  RingFrameHead head{};
  head.size_bytes = 0x0102;
  head.goes_on = 1;
  head.checksum = 0x11121314;
  EXPECT_EQ(RingTag(0xA1A2A3A4, 0xB1B2B3B4, 0x1C1C2C3C4), 0xA3A4B3B4C1C2C3C4U);
  ExpectGolden("ring_frame", BytesOf(RingTag(1, 2, 3)) + BytesOf(head));
}

TEST(Line, EachFlippedBitIsRefused) {
  Slot slot{};
  slot.state = 4;
  slot.generation = 77;
  const LineWords good = SealLine(slot);
  for (size_t bit = 0; bit < 512; ++bit) {
    LineWords bad = good;
    bad[bit / 64] ^= uint64_t{1} << (bit % 64);
    EXPECT_FALSE(OpenLine<Slot>(bad).has_value()) << "bit " << bit;
  }
}

TEST(Line, NeverWrittenIsValidAndBusyIsNot) {
  const auto zero = OpenLine<Slot>(LineWords{});
  ASSERT_TRUE(zero.has_value());
  EXPECT_EQ(zero->generation, 0);
  Slot slot{};
  slot.state = 4;
  LineWords busy = SealLine(slot);
  busy[0] = kBusyWord;
  EXPECT_FALSE(OpenLine<Slot>(busy).has_value());
}

TEST(Line, ZeroLineWithItsChecksumIsReadToo) {
  EXPECT_TRUE(OpenLine<Grant>(SealLine(Grant{})).has_value());
}

TEST(LeaseCell, HoldsHomeSlotAndLowGeneration) {
  EXPECT_EQ(PackLeaseCell(0, 0, 1), 1U);
  EXPECT_EQ(PackLeaseCell(0xABC, 0x312345, 0x1234567), 0xABCC48D141234567U);
  EXPECT_EQ(HomeOfLeaseCell(0xABCC48D141234567U), 0xABCU);
  EXPECT_EQ(SlotOfLeaseCell(0xABCC48D141234567U), 0x312345U);
  EXPECT_EQ(PackLeaseCell(kNodesMax - 1, kSlotsMax - 1, ~uint64_t{0}), ~uint64_t{0});
  // What is too large stays in its field.
  EXPECT_EQ(PackLeaseCell(kNodesMax, kSlotsMax, uint64_t{1} << 30), 0U);
  EXPECT_EQ(FirstGeneration(3), 0x300000001U);
  EXPECT_EQ(FirstGeneration(3) & kGenerationLowMask, 1U);
}

TEST(ControlLayout, ArraysFollowEachOtherOnPages) {
  const ControlLayout small = ControlLayout::Make(4, 8, 64, 256, 65536);
  EXPECT_EQ(small.node_lines, 4096U);
  EXPECT_EQ(small.admit, 8192U);
  EXPECT_EQ(small.page_table, 12288U);
  EXPECT_EQ(small.grants, 16384U);
  EXPECT_EQ(small.slots, 20480U);
  EXPECT_EQ(small.ring_ends, 36864U);
  EXPECT_EQ(small.records, 40960U);
  EXPECT_EQ(small.rings, 106496U);
  EXPECT_EQ(small.size_bytes, 106496U + 4 * kRingBytes);
  // The defaults: 64 nodes, 16 MiB of lease pages, 4 GiB of data.
  const ControlLayout usual =
      ControlLayout::Make(64, 4096, 65536, 1U << 20, uint64_t{1} << 30);
  EXPECT_EQ(usual.grants, 45056U);
  EXPECT_EQ(usual.slots, 45056U + (4U << 20));
  EXPECT_EQ(usual.rings, usual.records + (uint64_t{1} << 30));
  EXPECT_EQ(usual.size_bytes, usual.rings + (16U << 20));
}

TEST(ControlLayout, TheLargestCountsDoNotOverflow) {
  const ControlLayout layout = ControlLayout::Make(kNodesMax, 1U << 20, ~uint32_t{0},
                                                   kSlotsMax, uint64_t{1} << 47);
  EXPECT_GT(layout.slots - layout.grants, uint64_t{0xFFFFFFFF} * kLineBytes);
  EXPECT_GT(layout.size_bytes, uint64_t{1} << 47);
}

TEST(NameHash, IsNeverZeroAndFixed) {
  EXPECT_EQ(HashName("taxi"), Checksum({reinterpret_cast<const uint8_t*>("taxi"), 4}));
  EXPECT_NE(HashName(""), 0U);
  EXPECT_NE(HashName("a"), HashName("b"));
}

}  // namespace
}  // namespace sheaf::format
