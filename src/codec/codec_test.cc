#include "codec/codec.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/memory_pool.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/descriptor_generated.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/codec_fixture.h"
#include "testing/random_array.h"
#include "testing/tables.h"

namespace sheaf::codec {
namespace {

using arrow::field;
using testing::AreIdentical;
using ::testing::HasSubstr;
using testing::NamedTable;
using testing::Nulls;

using TablePtr = std::shared_ptr<arrow::Table>;

class Codec : public testing::CodecFixture {
 protected:
  std::shared_ptr<arrow::ArrayData> Data(const std::shared_ptr<arrow::DataType>& type,
                                         int64_t length, Nulls nulls = Nulls::kSome) {
    return testing::RandomArray(type, length, nulls, &random_,
                                arrow::default_memory_pool());
  }

  /// One chunk in one column, in the arena.
  TablePtr OneColumn(const std::shared_ptr<arrow::ArrayData>& data,
                     const std::string& name = "x") {
    const auto schema = arrow::schema({field(name, data->type)});
    return arena_.CopyIn(*arrow::Table::Make(schema, {arrow::MakeArray(data)}));
  }

  testing::Random random_{7};
};

TEST_F(Codec, EveryTypeRoundTripsWithoutTouchingData) {
  for (const NamedTable& named : testing::AllTypesTableVariants()) {
    SCOPED_TRACE(named.name);
    arena_.Clear();
    const TablePtr table = arena_.CopyIn(*named.table);
    ASSERT_OK_AND_ASSIGN(const TablePtr decoded, RoundTrip(*table));
    ASSERT_TRUE(AreIdentical(*named.table, *decoded));
    ASSERT_TRUE(arena_.Holds(*decoded));
  }
}

TEST_F(Codec, SameTableGivesSameBytes) {
  const auto tables = testing::AllTypesTables();
  const TablePtr table = arena_.CopyIn(*tables.back().table);
  ASSERT_OK_AND_ASSIGN(const auto once, Encode(*table, Locate()));
  ASSERT_OK_AND_ASSIGN(const auto twice, Encode(*table, Locate()));
  EXPECT_TRUE(once->Equals(*twice));
}

TEST_F(Codec, DecodedTableCanBeDescribedAgain) {
  for (const NamedTable& named : testing::AllTypesTables()) {
    SCOPED_TRACE(named.name);
    arena_.Clear();
    const TablePtr table = arena_.CopyIn(*named.table);
    ASSERT_OK_AND_ASSIGN(const TablePtr decoded, RoundTrip(*table));
    ASSERT_OK_AND_ASSIGN(const auto first, Encode(*table, Locate()));
    ASSERT_OK_AND_ASSIGN(const auto second, Encode(*decoded, Locate()));
    ASSERT_TRUE(first->Equals(*second));
  }
}

TEST_F(Codec, SharedBuffersAreLocatedAndMadeOnce) {
  const auto words = arrow::MakeArray(Data(arrow::utf8(), 100));
  const auto schema =
      arrow::schema({field("a", arrow::utf8()), field("b", arrow::utf8())});
  const TablePtr table = arena_.CopyIn(*arrow::Table::Make(schema, {words, words}));
  std::map<std::pair<const uint8_t*, int64_t>, int> located;
  ASSERT_OK_AND_ASSIGN(const auto bytes,
                       Encode(*table, [&](const uint8_t* address, int64_t size) {
                         ++located[{address, size}];
                         return arena_.Locate(address, size);
                       }));
  EXPECT_EQ(located.size(), 3);  // Validity, offsets, values.
  for (const auto& [buffer, count] : located) EXPECT_EQ(count, 1);

  ASSERT_OK_AND_ASSIGN(const auto descriptor, Describe(bytes));
  int made = 0;
  ASSERT_OK_AND_ASSIGN(const TablePtr decoded,
                       descriptor->ToTable([&](GlobalAddress address, int64_t size) {
                         ++made;
                         return arena_.BufferAt(address, size);
                       }));
  EXPECT_EQ(made, 3);
  EXPECT_EQ(decoded->column(0)->chunk(0)->data()->buffers,
            decoded->column(1)->chunk(0)->data()->buffers);
  const int64_t sum = words->data()->buffers[0]->size() +
                      words->data()->buffers[1]->size() +
                      words->data()->buffers[2]->size();
  EXPECT_EQ(descriptor->data_bytes(), sum);
}

TEST_F(Codec, NullCountsAreKeptKnownAndUnknown) {
  const auto type =
      arrow::struct_({field("known", arrow::int8()), field("unknown", arrow::int8())});
  auto data = Data(type, 100);
  for (auto& child : data->child_data) child = Data(arrow::int8(), 100);
  data->child_data[1]->SetNullCount(arrow::kUnknownNullCount);
  ASSERT_OK_AND_ASSIGN(const TablePtr decoded, RoundTrip(*OneColumn(data)));
  const arrow::ArrayData& actual = *decoded->column(0)->chunk(0)->data();
  EXPECT_EQ(actual.null_count, data->null_count);
  EXPECT_EQ(actual.child_data[0]->null_count, data->child_data[0]->null_count);
  EXPECT_EQ(actual.child_data[1]->null_count, arrow::kUnknownNullCount);
}

TEST_F(Codec, ValidityWithoutNullsIsKept) {
  auto data = Data(arrow::int8(), 64, Nulls::kNone);
  data->buffers[0] = arrow::Buffer::FromString(std::string(8, '\xFF'));
  ASSERT_OK_AND_ASSIGN(const TablePtr decoded, RoundTrip(*OneColumn(data)));
  EXPECT_NE(decoded->column(0)->chunk(0)->data()->buffers[0], nullptr);
}

/// Arrow makes them where there are no elements, and its kernels follow the nulls.
TEST_F(Codec, AbsentBuffersBecomeEmptyOnesButForValidity) {
  auto data = std::make_shared<arrow::ArrayData>(arrow::list_view(arrow::int8()), 0, 0);
  data->buffers = {nullptr, nullptr, arrow::Buffer::FromString("")};
  data->child_data = {Data(arrow::null(), 0)};
  data->child_data[0]->type = arrow::int8();
  data->child_data[0]->buffers = {nullptr, nullptr};
  std::vector<GlobalAddress> asked;
  ASSERT_OK_AND_ASSIGN(const auto descriptor, Describe(*OneColumn(data)));
  ASSERT_OK_AND_ASSIGN(const TablePtr decoded,
                       descriptor->ToTable([&](GlobalAddress address, int64_t size) {
                         asked.push_back(address);
                         EXPECT_EQ(size, 0);
                         return arena_.BufferAt(address, size);
                       }));
  const arrow::ArrayData& actual = *decoded->column(0)->chunk(0)->data();
  EXPECT_EQ(actual.buffers[0], nullptr);
  ASSERT_NE(actual.buffers[1], nullptr);
  EXPECT_EQ(actual.buffers[1]->size(), 0);
  EXPECT_EQ(actual.buffers[2]->size(), 0);
  EXPECT_EQ(asked, std::vector<GlobalAddress>{GlobalAddress{}});
  EXPECT_EQ(descriptor->data_bytes(), 0);
}

TEST_F(Codec, ArraysWithoutElementsNeedNoBuffers) {
  const testing::TestExtensionRegistration registered;
  for (const auto& [name, type] : testing::AllTypes()) {
    SCOPED_TRACE(name);
    const auto strip = [](auto self, arrow::ArrayData* data) -> void {
      data->length = data->offset = 0;
      for (auto& buffer : data->buffers) buffer = nullptr;
      for (auto& child : data->child_data) self(self, (child = child->Copy()).get());
      if (data->dictionary == nullptr) return;
      self(self, (data->dictionary = data->dictionary->Copy()).get());
    };
    const auto data = Data(type, 0, Nulls::kNone)->Copy();
    strip(strip, data.get());
    const TablePtr table = OneColumn(AddOffsets(data));
    ASSERT_OK_AND_ASSIGN(const TablePtr decoded, RoundTrip(*table));
    EXPECT_TRUE(AreIdentical(*table, *decoded));
  }
}

TEST_F(Codec, EmptyBufferLiesInTheHomeOfTheOthers) {
  const auto data = Data(arrow::fixed_size_binary(0), 100);  // Values take no bytes.
  ASSERT_OK_AND_ASSIGN(const auto descriptor, Describe(*OneColumn(data)));
  const SegmentId home = descriptor->Ranges()[0].begin.segment;
  ASSERT_OK(descriptor->ToTable([&](GlobalAddress address, int64_t size) {
    EXPECT_EQ(address.segment, home);
    return arena_.BufferAt(address, size);
  }));
}

TEST_F(Codec, ProjectionTakesColumnsInTheOrderGiven) {
  const auto tables = testing::AllTypesTables();
  const TablePtr table = arena_.CopyIn(*tables.back().table);
  const std::vector<int> columns = {17, 3, 60, 3};
  ASSERT_OK_AND_ASSIGN(const TablePtr decoded, RoundTrip(*table, columns));
  ASSERT_OK_AND_ASSIGN(const TablePtr expected, table->SelectColumns(columns));
  EXPECT_TRUE(AreIdentical(*expected, *decoded));
}

/// A handle may select one column any number of times.
TEST_F(Codec, AColumnThatIsSelectedTwiceIsBuiltOnce) {
  const TablePtr table = OneColumn(Data(arrow::utf8(), 100));
  ASSERT_OK_AND_ASSIGN(const TablePtr decoded,
                       RoundTrip(*table, std::vector<int>(1000, 0)));
  ASSERT_EQ(decoded->num_columns(), 1000);
  EXPECT_EQ(decoded->column(0), decoded->column(999));
}

TEST_F(Codec, ProjectionToNothingKeepsRowsAndMetadata) {
  const NamedTable named = testing::AllTypesTables().front();
  const TablePtr table = arena_.CopyIn(*named.table);
  ASSERT_OK_AND_ASSIGN(const TablePtr decoded, RoundTrip(*table, std::vector<int>{}));
  EXPECT_EQ(decoded->num_columns(), 0);
  EXPECT_EQ(decoded->num_rows(), table->num_rows());
  EXPECT_TRUE(decoded->schema()->metadata()->Equals(*table->schema()->metadata()));
}

TEST_F(Codec, ProjectionRefusesColumnsThatAreNotThere) {
  const TablePtr table = OneColumn(Data(arrow::int8(), 10));
  EXPECT_RAISES(Invalid, RoundTrip(*table, std::vector<int>{1}));
  EXPECT_RAISES(Invalid, RoundTrip(*table, std::vector<int>{-1}));
}

TEST_F(Codec, RangesAreSortedMergedAndOfTheColumnsAskedFor) {
  auto one = Data(arrow::int32(), 64, Nulls::kNone);
  const auto schema =
      arrow::schema({field("low", arrow::int32()), field("high", arrow::int32()),
                     field("all", arrow::int32())});
  const auto all = arrow::MakeArray(one);
  const TablePtr in = arena_.CopyIn(*arrow::Table::Make(schema, {all, all, all}));
  // The halves are buffers of their own, as if two objects had shared one extent.
  const auto whole = in->column(2)->chunk(0)->data();
  const auto half = [&](int64_t begin) {
    auto data = whole->Copy();
    data->length = 32;
    data->buffers[1] = arrow::SliceBuffer(whole->buffers[1], begin, 128);
    return std::make_shared<arrow::ChunkedArray>(arrow::MakeArray(data));
  };
  const TablePtr table = arrow::Table::Make(
      schema,
      {half(128), half(0),
       std::make_shared<arrow::ChunkedArray>(arrow::MakeArray(whole->Slice(0, 32)))},
      32);
  ASSERT_OK_AND_ASSIGN(const auto descriptor, Describe(*table));
  ASSERT_OK_AND_ASSIGN(const GlobalAddress begin,
                       arena_.Locate(whole->buffers[1]->data(), 256));
  EXPECT_EQ(descriptor->Ranges(), (std::vector<GlobalRange>{{begin, 256}}));
  EXPECT_EQ(descriptor->data_bytes(), 256);
  const std::vector<int> high = {1};
  EXPECT_EQ(descriptor->Ranges(high), (std::vector<GlobalRange>{{begin, 128}}));
  const std::vector<int> halves = {0, 1};
  EXPECT_EQ(descriptor->Ranges(halves), (std::vector<GlobalRange>{{begin, 256}}));
}

TEST_F(Codec, CountsColumnsAndChunks) {
  const auto tables = testing::AllTypesTables();
  const TablePtr table = arena_.CopyIn(*testing::VariantsOf(tables.back())[5].table);
  ASSERT_OK_AND_ASSIGN(const auto descriptor, Describe(*table));
  int64_t chunks = 0;
  for (const auto& column : table->columns()) chunks += column->num_chunks();
  EXPECT_EQ(descriptor->num_chunks(), chunks);
  EXPECT_EQ(descriptor->num_columns(), table->num_columns());
  EXPECT_EQ(descriptor->num_rows(), table->num_rows());
  EXPECT_TRUE(descriptor->schema()->Equals(*table->schema(), true));
}

TEST_F(Codec, NothingStaysInTheDefaultPool) {
  const auto tables = testing::AllTypesTables();
  const TablePtr table = arena_.CopyIn(*tables.back().table);
  const int64_t before = arrow::default_memory_pool()->bytes_allocated();
  ASSERT_OK_AND_ASSIGN(const TablePtr decoded, RoundTrip(*table));
  EXPECT_EQ(arrow::default_memory_pool()->bytes_allocated(), before);
}

TEST_F(Codec, UnalignedBytesAreCopiedAndRead) {
  const TablePtr table = OneColumn(Data(arrow::int32(), 10));
  ASSERT_OK_AND_ASSIGN(const auto bytes, Encode(*table, Locate()));
  const auto shifted = arrow::SliceBuffer(
      arrow::Buffer::FromString("x" + bytes->ToString()), 1, bytes->size());
  ASSERT_OK_AND_ASSIGN(const auto descriptor, Describe(shifted));
  EXPECT_TRUE(descriptor->bytes()->Equals(*bytes));
  EXPECT_OK(descriptor->ToTable(MakeBuffer()));
}

TEST_F(Codec, ErrorOfLocateEndsEncodingAndNamesTheColumn) {
  const auto data = Data(arrow::int32(), 10);
  const auto schema = arrow::schema({field("outside", data->type)});
  const TablePtr table = arrow::Table::Make(schema, {arrow::MakeArray(data)});
  const auto encoded = Encode(*table, Locate());
  ASSERT_RAISES(Invalid, encoded);
  EXPECT_THAT(encoded.status().message(), HasSubstr("column 0 'outside'"));
}

TEST_F(Codec, ErrorOfMakeBufferEndsDecoding) {
  ASSERT_OK_AND_ASSIGN(const auto descriptor,
                       Describe(*OneColumn(Data(arrow::int32(), 10))));
  EXPECT_RAISES(IOError, descriptor->ToTable([](GlobalAddress, int64_t) {
    return arrow::Result<std::shared_ptr<arrow::Buffer>>(arrow::Status::IOError("gone"));
  }));
}

TEST_F(Codec, ArrayOfAnotherTypeThanItsFieldIsRefused) {
  const TablePtr table = OneColumn(Data(arrow::int32(), 10));
  const TablePtr wrong = arrow::Table::Make(arrow::schema({field("x", arrow::float32())}),
                                            table->columns(), 10);
  EXPECT_RAISES(Invalid, Encode(*wrong, Locate()));
}

TEST_F(Codec, MalformedArraysAreRefusedBeforeTheyAreShared) {
  auto data = Data(arrow::int32(), 100, Nulls::kNone);
  const TablePtr table = OneColumn(data);
  auto chunk = table->column(0)->chunk(0)->data()->Copy();
  chunk->length = 101;
  const TablePtr too_long = arrow::Table::Make(
      table->schema(), {std::make_shared<arrow::ChunkedArray>(arrow::MakeArray(chunk))},
      101);
  const auto encoded = Encode(*too_long, Locate());
  ASSERT_RAISES(Invalid, encoded);
  EXPECT_THAT(encoded.status().message(),
              HasSubstr("column 0 'x', chunk 0: buffer 1 has 400 bytes, 404 are needed"));
}

TEST_F(Codec, CheckRefusesWhatEncodeWould) {
  for (const NamedTable& named : testing::AllTypesTables({.num_rows = 20})) {
    SCOPED_TRACE(named.name);
    ColumnChunks chunks = ChunksOf(*named.table);
    const int64_t rows = named.table->num_rows();
    EXPECT_OK(Check(*named.table->schema(), chunks, rows));
    if (chunks.empty()) continue;
    EXPECT_RAISES(Invalid, Check(*named.table->schema(), chunks, rows + 1));
    chunks.pop_back();
    EXPECT_RAISES(Invalid, Check(*named.table->schema(), chunks, rows));
  }
  const auto schema = arrow::schema({field("x", arrow::int64())});
  auto data = Data(arrow::int64(), 100);
  data->SetNullCount(arrow::kUnknownNullCount);  // Not counted yet: no harm.
  EXPECT_OK(Check(*schema, {{data}}, 100));
  data->length = int64_t{1} << 40;
  const auto status = Check(*schema, {{data}}, data->length);
  ASSERT_RAISES(Invalid, status);
  EXPECT_THAT(status.message(), HasSubstr("column 0 'x', chunk 0: buffer 0 has"));
}

TEST_F(Codec, TooManyTinyChunksAreACapacityError) {
  constexpr int kChunks = 1 << 21;  // 32 bytes each.
  const auto chunk = arrow::MakeArray(Data(arrow::null(), 1));
  const TablePtr table = arrow::Table::Make(
      arrow::schema({field("x", arrow::null())}),
      {std::make_shared<arrow::ChunkedArray>(arrow::ArrayVector(kChunks, chunk))},
      kChunks);
  EXPECT_RAISES(CapacityError, Encode(*table, Locate()));
}

TEST_F(Codec, HugeMetadataIsACapacityError) {
  const auto schema = arrow::schema(
      {field("x", arrow::null())},
      arrow::key_value_metadata({{"big", std::string(kDescriptorSizeMax, 'x')}}));
  const TablePtr table =
      arrow::Table::Make(schema, {arrow::MakeArray(Data(arrow::null(), 1))});
  EXPECT_RAISES(CapacityError, Encode(*table, Locate()));
}

TEST_F(Codec, DescriptorOfAnOrdinaryTableIsAFewHundredBytes) {
  const auto data = Data(arrow::int64(), 1000, Nulls::kNone);
  ASSERT_OK_AND_ASSIGN(const auto bytes, Encode(*OneColumn(data), Locate()));
  EXPECT_LT(bytes->size(), 256);
}

}  // namespace
}  // namespace sheaf::codec
