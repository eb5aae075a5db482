#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <gtest/gtest.h>

#include "directory/directory.h"
#include "directory/test_records.h"
#include "format/record_generated.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/test_seed.h"

namespace sheaf::directory {
namespace {

void ExpectEqual(const Record& a, const Record& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.creator_session, b.creator_session);
  EXPECT_EQ(a.created_unix_ns, b.created_unix_ns);
  EXPECT_EQ(a.num_rows, b.num_rows);
  EXPECT_EQ(a.num_columns, b.num_columns);
  EXPECT_EQ(a.num_chunks, b.num_chunks);
  EXPECT_EQ(a.data_bytes, b.data_bytes);
  EXPECT_EQ(a.has_checksums, b.has_checksums);
  EXPECT_EQ(a.own_ranges, b.own_ranges);
  EXPECT_EQ(a.references, b.references);
  EXPECT_EQ(a.reference_extents, b.reference_extents);
  EXPECT_TRUE(a.descriptor->Equals(*b.descriptor));
}

TEST(Record, SurvivesEncodeAndDecode) {
  Record record = MakeRecord("taxi");
  for (const bool has_checksums : {false, true}) {
    record.has_checksums = has_checksums;
    ASSERT_OK_AND_ASSIGN(const auto bytes, EncodeRecord(record));
    ASSERT_OK_AND_ASSIGN(const Record decoded, DecodeRecord(bytes));
    ExpectEqual(record, decoded);
  }
}

TEST(Record, MayHaveNeitherNameNorRangesNorDescriptor) {
  ASSERT_OK_AND_ASSIGN(const auto bytes, EncodeRecord(Record{}));
  ASSERT_OK_AND_ASSIGN(const Record decoded, DecodeRecord(bytes));
  EXPECT_EQ(decoded.name, "");
  EXPECT_TRUE(decoded.own_ranges.empty());
  EXPECT_EQ(decoded.descriptor->size(), 0);
}

/// FlatBuffers lets every field be left out.
TEST(Record, WithoutADescriptorIsRefused) {
  flatbuffers::FlatBufferBuilder builder;
  builder.FinishSizePrefixed(format::CreateStoredRecord(builder),
                             format::StoredRecordIdentifier());
  EXPECT_RAISES(Invalid, DecodeRecord(arrow::Buffer::FromString(std::string(
                             reinterpret_cast<const char*>(builder.GetBufferPointer()),
                             builder.GetSize()))));
}

TEST(Record, DescriptorIsAlignedForItsOwnVerifier) {
  for (size_t size = 1; size < 200; ++size) {
    ASSERT_OK_AND_ASSIGN(const auto bytes, EncodeRecord(MakeRecord("n", 0, size)));
    ASSERT_OK_AND_ASSIGN(const Record decoded, DecodeRecord(bytes));
    EXPECT_EQ(decoded.descriptor->address() % 16, 0) << size;
  }
}

TEST(Record, RefusesWhatBreaksALimit) {
  Record record = MakeRecord("n");
  record.num_rows = -1;
  EXPECT_RAISES(Invalid, EncodeRecord(record));
  record = MakeRecord("n");
  record.own_ranges[0].begin.offset = 100;  // not a granule
  EXPECT_RAISES(Invalid, EncodeRecord(record));
  record = MakeRecord("n");
  std::swap(record.own_ranges[0], record.own_ranges[1]);
  EXPECT_RAISES(Invalid, EncodeRecord(record));
  record = MakeRecord("n");
  record.own_ranges[1].begin.offset = 512;  // overlaps the first
  EXPECT_RAISES(Invalid, EncodeRecord(record));
  record = MakeRecord("n");
  record.own_ranges[1].size_bytes = ~uint64_t{255};  // wraps
  EXPECT_RAISES(Invalid, EncodeRecord(record));
  record = MakeRecord("n");
  record.own_ranges[1].begin.segment = {1};
  EXPECT_RAISES(Invalid, EncodeRecord(record));
  for (const uint64_t generation : {uint64_t{0}, uint64_t{5} << 32}) {
    record = MakeRecord("n");
    record.references[0].generation = generation;
    EXPECT_RAISES(Invalid, EncodeRecord(record));
  }
  EXPECT_RAISES(Invalid, EncodeRecord(MakeRecord(std::string(256, 'n'))));
  record = MakeRecord("n");
  record.reference_extents.pop_back();  // of two references
  EXPECT_RAISES(Invalid, EncodeRecord(record));
}

TEST(Record, AnyFlippedBitsGiveAnErrorOrARecordWithinTheLimits) {
  Numbers numbers(testing::TestSeed());
  ASSERT_OK_AND_ASSIGN(const auto bytes, EncodeRecord(MakeRecord("some name", 0, 40)));
  const auto size = static_cast<size_t>(bytes->size());
  size_t refused = 0;
  for (int i = 0; i < 100'000; ++i) {
    // A buffer of exactly this size, so that a sanitizer sees any read outside.
    std::shared_ptr<arrow::Buffer> hostile = *arrow::AllocateBuffer(bytes->size());
    std::memcpy(hostile->mutable_data(), bytes->data(), size);
    for (uint64_t flips = 1 + numbers.Below(4); flips > 0; --flips) {
      const uint64_t bit = numbers.Below(size * 8);
      hostile->mutable_data()[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    }
    const auto decoded = DecodeRecord(hostile);
    if (!decoded.ok()) {
      EXPECT_TRUE(decoded.status().IsInvalid()) << decoded.status().ToString();
      ++refused;
      continue;
    }
    EXPECT_OK(EncodeRecord(*decoded));
  }
  EXPECT_GT(refused, 1000U);
}

TEST(Record, EveryTruncationIsRefused) {
  ASSERT_OK_AND_ASSIGN(const auto bytes, EncodeRecord(MakeRecord("some name")));
  for (int64_t size = 0; size < bytes->size(); ++size) {
    EXPECT_RAISES(Invalid, DecodeRecord(arrow::SliceBuffer(bytes, 0, size))) << size;
  }
}

TEST(Record, MisalignedBytesAreRead) {
  const Record record = MakeRecord("taxi");
  ASSERT_OK_AND_ASSIGN(const auto bytes, EncodeRecord(record));
  const std::string shifted = "x" + bytes->ToString();
  ASSERT_OK_AND_ASSIGN(const Record decoded, DecodeRecord(arrow::SliceBuffer(
                                                 arrow::Buffer::FromString(shifted), 1)));
  ExpectEqual(record, decoded);
}

TEST(ValidateName, TakesUtf8UpTo255Bytes) {
  EXPECT_OK(ValidateName("a"));
  EXPECT_OK(ValidateName(std::string(255, 'a')));
  EXPECT_OK(ValidateName("größe/2024 \xE2\x82\xAC \xF0\x9F\x9A\x95"));
  EXPECT_OK(ValidateName("\xC2\xA0"));  // the first code point after C1
}

TEST(ValidateName, RefusesTheRest) {
  EXPECT_RAISES(Invalid, ValidateName(""));
  EXPECT_RAISES(Invalid, ValidateName(std::string(256, 'a')));
  EXPECT_RAISES(Invalid, ValidateName("a\nb"));
  EXPECT_RAISES(Invalid, ValidateName(std::string("a\0b", 3)));
  EXPECT_RAISES(Invalid, ValidateName("\x7F"));
  EXPECT_RAISES(Invalid, ValidateName("\xC2\x80"));          // C1
  EXPECT_RAISES(Invalid, ValidateName("\xC2\x9F"));          // C1
  EXPECT_RAISES(Invalid, ValidateName("\xFF"));              // no UTF-8
  EXPECT_RAISES(Invalid, ValidateName("\xC3"));              // cut short
  EXPECT_RAISES(Invalid, ValidateName("\xC0\xAF"));          // overlong
  EXPECT_RAISES(Invalid, ValidateName("\xED\xA0\x80"));      // surrogate
  EXPECT_RAISES(Invalid, ValidateName("\xF4\x90\x80\x80"));  // above U+10FFFF
}

}  // namespace
}  // namespace sheaf::directory
