// Each check of `Descriptor::Make`, one wrong field at a time.

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "codec/codec.h"
#include "format/descriptor_generated.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/codec_fixture.h"
#include "testing/random_array.h"

namespace sheaf::codec {
namespace {

using arrow::field;
using format::ArrayNode;
using format::BufferRange;
using ::testing::HasSubstr;
using testing::Nulls;

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
constexpr uint64_t kMaxUnsigned = std::numeric_limits<uint64_t>::max();

class DescriptorMake : public testing::CodecFixture {
 protected:
  /// Describes one column 'x' of `length` rows whose first `offset` are cut off.
  void Describe1(const std::shared_ptr<arrow::DataType>& type, int64_t length = 100,
                 Nulls nulls = Nulls::kSome, int64_t offset = 0) {
    const auto data =
        testing::RandomArray(type, length, nulls, &random_, arrow::default_memory_pool());
    const auto array = arrow::MakeArray(data)->Slice(offset);
    const auto table =
        arena_.CopyIn(*arrow::Table::Make(arrow::schema({field("x", type)}), {array}));
    good_ = Encode(*table, Locate()).ValueOrDie()->ToString();
    Reset();
    ASSERT_OK(Describe(arrow::Buffer::FromString(bytes_)));
  }

  void Reset() { bytes_ = good_; }

  const format::TableDescriptor& table() const {
    return *format::GetTableDescriptor(bytes_.data());
  }

  ArrayNode& Node(uint32_t i) {
    return *const_cast<ArrayNode*>(table().arrays()->Get(i));
  }
  BufferRange& Range(uint32_t i) {
    return *const_cast<BufferRange*>(table().buffers()->Get(i));
  }
  uint32_t& Ref(uint32_t i) {
    return const_cast<uint32_t*>(table().buffer_refs()->data())[i];
  }

  void SetRows(int64_t rows) {
    const auto& fields = reinterpret_cast<const flatbuffers::Table&>(table());
    std::memcpy(
        const_cast<uint8_t*>(fields.GetAddressOf(format::TableDescriptor::VT_NUM_ROWS)),
        &rows, sizeof(rows));
  }

  static ArrayNode With(const ArrayNode& node, int64_t length, int64_t null_count,
                        int64_t offset) {
    return {length, null_count, offset, node.buffer_count(), node.child_count()};
  }

  /// The change made since the last call is refused for `reason`, and is undone.
  void ExpectRefused(const std::string& reason) {
    const auto made = Describe(arrow::Buffer::FromString(bytes_));
    ASSERT_RAISES(Invalid, made);
    EXPECT_THAT(made.status().message(), HasSubstr(reason));
    Reset();
  }

  void ExpectNodeRefused(uint32_t i, const ArrayNode& node, const std::string& reason) {
    Node(i) = node;
    ExpectRefused(reason);
  }

  using CodecFixture::Describe;

  std::string good_;
  std::string bytes_;
  testing::Random random_{3};
};

TEST_F(DescriptorMake, SaysFirstThatTheVersionIsAnother) {
  Describe1(arrow::int32());
  bytes_.resize(9);
  bytes_[7] = '2';
  ExpectRefused("descriptor is of format version '2', this program reads version '1'");
  bytes_[4] = 'X';
  ExpectRefused("not a table descriptor");
  bytes_.resize(8);
  ExpectRefused("descriptor of 8 bytes is cut off");
  bytes_ = std::string(kDescriptorSizeMax + 1, 'x');
  ExpectRefused("at most 67108864 are allowed");
}

TEST_F(DescriptorMake, RefusesImpossibleLengthsAndOffsets) {
  Describe1(arrow::int32(), 100, Nulls::kSome, 10);
  const ArrayNode node = Node(0);
  const std::string column = "column 0 'x', chunk 0: ";
  ExpectNodeRefused(0, With(node, -1, 0, 10), column + "impossible length -1");
  ExpectNodeRefused(0, With(node, 90, 0, -1),
                    column + "impossible length 90 at offset -1");
  ExpectNodeRefused(0, With(node, 90, 0, kMax - 89), column + "impossible length");
  ExpectNodeRefused(0, With(node, kMin, 0, kMin), column + "impossible length");
  ExpectNodeRefused(0, With(node, 90, 0, kMax - 90), column + "buffer 0 has");
  ExpectNodeRefused(0, With(node, 90, 0, 11), column + "buffer 1 has 400 bytes, 404");
  ExpectNodeRefused(0, With(node, 91, 0, 10), column + "buffer 1 has 400 bytes, 404");
  ExpectNodeRefused(0, With(node, 89, 0, 10), "chunks have 89 rows, the table 90");
}

TEST_F(DescriptorMake, RefusesImpossibleNullCounts) {
  Describe1(arrow::int32());
  const ArrayNode node = Node(0);
  ExpectNodeRefused(0, With(node, 100, -2, 0), "null count -2 of 100");
  ExpectNodeRefused(0, With(node, 100, 101, 0), "null count 101 of 100");
  ExpectNodeRefused(0, With(node, 100, -1, 0), "null count of a chunk is not known");
  Describe1(arrow::int32(), 100, Nulls::kNone);
  ExpectNodeRefused(0, With(node, 100, 1, 0), "null count 1 without a validity bitmap");
}

TEST_F(DescriptorMake, RefusesOtherCountsThanTheTypeHas) {
  Describe1(arrow::utf8());
  ExpectNodeRefused(0, {100, 0, 0, 2, 0}, "2 buffers, type string has 3");
  ExpectNodeRefused(0, {100, 0, 0, 4, 0}, "4 buffers, type string has 3");
  ExpectNodeRefused(0, {100, 0, 0, 3, 1}, "1 children, type string has 0");
  Describe1(arrow::utf8_view());
  ExpectNodeRefused(0, {100, 0, 0, 1, 0}, "1 buffers");
  ExpectNodeRefused(0, {100, 0, 0, 5, 0}, "buffers are missing");
  ExpectNodeRefused(0, {100, 0, 0, 3, 0}, "belong to no column: 0 and 1");
  Describe1(arrow::dictionary(arrow::int8(), arrow::utf8()));
  ExpectNodeRefused(0, {100, 0, 0, 2, 0}, "0 children");
  Describe1(arrow::struct_({field("a", arrow::int8())}));
  ExpectNodeRefused(0, {100, 0, 0, 1, 2}, "2 children");
}

TEST_F(DescriptorMake, RefusesTreesOfAnotherShape) {
  Describe1(arrow::list(arrow::int8()));
  auto* counts = const_cast<uint32_t*>(table().chunk_counts()->data());
  counts[0] = 2;
  ExpectRefused("column 0 'x', chunk 1: array is missing");
  counts = const_cast<uint32_t*>(table().chunk_counts()->data());
  counts[0] = 0;
  ExpectRefused("chunks have 0 rows, the table 100");
}

TEST_F(DescriptorMake, RefusesReferencesToNoBuffer) {
  Describe1(arrow::int32());
  Ref(1) = 3;
  ExpectRefused("buffer 1 is number 3 of 2");
  Ref(1) = std::numeric_limits<uint32_t>::max();
  ExpectRefused("buffer 1 is number 4294967295 of 2");
  Ref(1) = 0;
  ExpectRefused("buffer 1 must not be absent");
  Ref(1) = 1;
  ExpectRefused("buffer 1 has 13 bytes, 400 are needed");
}

TEST_F(DescriptorMake, RefusesBuffersOutsideTheirSegment) {
  Describe1(arrow::int32());
  const BufferRange good = Range(1);
  const uint64_t limit = *arena_.SegmentSize(SegmentId{good.segment()});
  const auto refuse = [&](const BufferRange& range, const std::string& reason) {
    Range(1) = range;
    ExpectRefused(reason);
  };
  refuse({99, 0, 0, 400}, "buffer range 1 is in segment 99, which there is not");
  refuse({good.segment(), 1, 0, 400}, "bits set");
  refuse({good.segment(), 0, limit - 399, 400}, "ends past segment");
  refuse({good.segment(), 0, limit, 400}, "ends past segment");
  refuse({good.segment(), 0, kMaxUnsigned - 100, 400}, "ends past segment");
  refuse({good.segment(), 0, 400, kMaxUnsigned - 100}, "ends past segment");
  refuse({good.segment(), 0, 0, limit + 1}, "ends past segment");
  refuse({0, 0, 8, 0}, "bits set");
  refuse({good.segment(), 0, 0, 0}, "bits set");
  Range(1) = {good.segment(), 0, limit - 400, 400};
  EXPECT_OK(Describe(arrow::Buffer::FromString(bytes_)));
}

TEST_F(DescriptorMake, RefusesBuffersTooSmallForTheirType) {
  const auto refuse_size = [&](const std::shared_ptr<arrow::DataType>& type, uint32_t ref,
                               uint64_t size) {
    SCOPED_TRACE(type->ToString());
    Describe1(type, 100, Nulls::kNone);
    const BufferRange good = Range(Ref(ref) - 1);
    EXPECT_EQ(good.size_bytes(), size);
    Range(Ref(ref) - 1) = {good.segment(), 0, good.offset(), size - 1};
    ExpectRefused("column 0 'x', chunk 0: buffer " + std::to_string(ref) + " has " +
                  std::to_string(size - 1) + " bytes, " + std::to_string(size));
  };
  refuse_size(arrow::boolean(), 1, 13);
  refuse_size(arrow::fixed_size_binary(3), 1, 300);
  refuse_size(arrow::decimal256(50, 3), 1, 3200);
  refuse_size(arrow::utf8(), 1, 404);
  refuse_size(arrow::large_binary(), 1, 808);
  refuse_size(arrow::binary_view(), 1, 1600);
  refuse_size(arrow::list(arrow::int8()), 1, 404);
  refuse_size(arrow::large_list_view(arrow::int8()), 1, 800);
  refuse_size(arrow::list_view(arrow::int8()), 2, 400);
  refuse_size(arrow::sparse_union({field("a", arrow::int8())}), 1, 100);
  refuse_size(arrow::dense_union({field("a", arrow::int8())}), 2, 400);
  refuse_size(arrow::dictionary(arrow::uint16(), arrow::int8()), 1, 200);
}

TEST_F(DescriptorMake, RefusesChildrenShorterThanTheirStruct) {
  const auto refuse_child = [&](const std::shared_ptr<arrow::DataType>& type,
                                const std::string& reason) {
    SCOPED_TRACE(type->ToString());
    Describe1(type, 100, Nulls::kNone, 10);
    const ArrayNode child = Node(1);
    ExpectNodeRefused(1, With(child, child.length() - 1, 0, child.offset()), reason);
  };
  const arrow::FieldVector fields = {field("a", arrow::int8())};
  refuse_child(arrow::struct_(fields),
               "column 0 'x', chunk 0, field 'a': length 99, 100 elements are needed");
  refuse_child(arrow::sparse_union(fields), "length 99, 100 elements are needed");
  refuse_child(arrow::fixed_size_list(arrow::int8(), 3),
               "field 'item': length 299, 300 elements are needed");
}

TEST_F(DescriptorMake, RefusesListsWhoseChildOverflows) {
  Describe1(arrow::fixed_size_list(arrow::null(), 1 << 30), 1, Nulls::kNone);
  const ArrayNode node = Node(0);
  ExpectNodeRefused(0, With(node, 1, 0, kMax / 2), "overflow");
}

TEST_F(DescriptorMake, RefusesRunEndsThatDoNotFit) {
  Describe1(arrow::run_end_encoded(arrow::int16(), arrow::int8()), 100, Nulls::kNone);
  const ArrayNode ends = Node(1);
  const ArrayNode values = Node(2);
  ExpectNodeRefused(1, With(ends, 0, 0, 0), "length 0, 1 elements are needed");
  ExpectNodeRefused(1, With(ends, ends.length(), 1, 0), "null count 1 without");
  ExpectNodeRefused(2, With(values, ends.length() - 1, 0, values.offset()),
                    "field 'values': length");
  ExpectNodeRefused(0, With(Node(0), 100, 0, 32'668), "exceed what a run end can tell");
  ExpectNodeRefused(0, With(Node(0), 100, 1, 0), "null count 1 without");
}

TEST_F(DescriptorMake, RefusesNullsInMapKeysWhichWouldAbortArrow) {
  Describe1(arrow::map(arrow::int32(), arrow::int32()), 100, Nulls::kSome);
  // 0: map, 1: entries, 2: keys, 3: items. Lend the map's bitmap to entries and keys.
  const uint32_t bitmap = Ref(0);
  ASSERT_NE(bitmap, 0);
  const int64_t length = Node(1).length();
  ASSERT_GE(Range(bitmap - 1).size_bytes() * 8, 100);
  Range(bitmap - 1) = {Range(bitmap - 1).segment(), 0, Range(bitmap - 1).offset(), 400};
  good_ = bytes_;
  Ref(2) = bitmap;
  EXPECT_OK(Describe(arrow::Buffer::FromString(bytes_)));  // Without nulls: no harm.
  Node(1) = With(Node(1), length, -1, 0);
  ExpectRefused("field 'entries': entries of a map have nulls");
  Ref(3) = bitmap;
  Node(2) = With(Node(2), length, -1, 0);
  ExpectRefused("field 'entries.key': keys of a map have nulls");
}

TEST_F(DescriptorMake, RefusesValidityWhereTheTypeHasNone) {
  const arrow::FieldVector fields = {field("a", arrow::int8())};
  for (const auto& type :
       {arrow::null(), arrow::sparse_union(fields), arrow::dense_union(fields),
        arrow::run_end_encoded(arrow::int32(), arrow::int8())}) {
    SCOPED_TRACE(type->ToString());
    Describe1(arrow::struct_({field("n", type), field("o", arrow::int8())}), 64);
    Ref(1) = Ref(0);
    ExpectRefused("buffer 0 must be absent");
  }
}

TEST_F(DescriptorMake, RefusesKeysOfTypeNullWhichWouldAbortArrow) {
  const auto type = arrow::map(arrow::null(), arrow::int32());
  Describe1(type, 0, Nulls::kNone);  // Without keys: no harm.
  // 0: map, 1: entries, 2: keys, 3: items; the items alone need bytes.
  Node(0) = With(Node(0), 0, 0, 0);
  Node(1) = With(Node(1), 5, 0, 0);
  Range(0) = {3, 0, 0, 64};
  for (uint32_t i = 0; i < table().buffer_refs()->size(); ++i) {
    if (Ref(i) != 0) Ref(i) = 1;
  }
  good_ = bytes_;
  for (const int64_t null_count : {-1, 0, 5}) {
    Node(2) = With(Node(2), 5, null_count, 0);
    Node(3) = With(Node(3), 5, 0, 0);
    ExpectRefused("field 'entries.key': keys of a map have nulls");
  }
}

TEST_F(DescriptorMake, RefusesAbsentBuffersWhichWouldCrashArrow) {
  for (const auto& type :
       {arrow::boolean(), arrow::int64(), arrow::utf8(), arrow::utf8_view(),
        arrow::list(arrow::int8()), arrow::list_view(arrow::int8())}) {
    SCOPED_TRACE(type->ToString());
    Describe1(type, 100, Nulls::kSome);
    Node(0) = With(Node(0), 0, 0, 0);
    SetRows(0);
    good_ = bytes_;
    EXPECT_OK(Describe(arrow::Buffer::FromString(bytes_)));
    for (uint32_t i = 1; i < Node(0).buffer_count(); ++i) {
      Ref(i) = 0;
      ExpectRefused("buffer " + std::to_string(i) + " must not be absent");
    }
    Ref(0) = 0;
    EXPECT_OK(Describe(arrow::Buffer::FromString(bytes_)));
  }
}

TEST_F(DescriptorMake, RefusesOffsetsIntoEmptyBuffersWhichWouldCrashArrow) {
  for (const auto& type : {arrow::boolean(), arrow::int64(), arrow::utf8_view(),
                           arrow::list_view(arrow::int8())}) {
    SCOPED_TRACE(type->ToString());
    Describe1(type, 100, Nulls::kNone);
    Node(0) = With(Node(0), 0, 0, 0);
    SetRows(0);
    Range(Ref(1) - 1) = {};
    EXPECT_OK(Describe(arrow::Buffer::FromString(bytes_)));
    good_ = bytes_;
    for (const int64_t offset : {int64_t{1}, int64_t{1} << 45}) {
      ExpectNodeRefused(0, With(Node(0), 0, 0, offset), "buffer 1 has 0 bytes");
    }
  }
}

TEST_F(DescriptorMake, RefusesNoOffsetsWhichKernelsWouldReadAllTheSame) {
  for (const auto& type :
       {arrow::utf8(), arrow::list(arrow::int8()), arrow::large_list(arrow::int8())}) {
    SCOPED_TRACE(type->ToString());
    Describe1(type, 0, Nulls::kNone);
    Range(Ref(1) - 1) = {};
    ExpectRefused("buffer 1 has 0 bytes");
  }
}

TEST_F(DescriptorMake, RefusesNoBytesAtAll) {
  ASSERT_RAISES(Invalid, Describe(std::shared_ptr<arrow::Buffer>()));
}

TEST_F(DescriptorMake, RefusesAnotherNumberOfRows) {
  Describe1(arrow::int32());
  SetRows(-1);
  ExpectRefused("number of rows is -1");
  SetRows(99);
  ExpectRefused("chunks have more than the table's 99 rows");
  SetRows(101);
  ExpectRefused("chunks have 100 rows, the table 101");
  SetRows(kMax);
  ExpectRefused("the table 9223372036854775807");
}

}  // namespace
}  // namespace sheaf::codec
