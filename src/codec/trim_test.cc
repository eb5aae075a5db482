#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/type.h>
#include <gtest/gtest.h>

#include "codec/codec.h"
#include "testing/arrow_test.h"
#include "testing/codec_fixture.h"
#include "testing/random_array.h"
#include "testing/tables.h"

namespace sheaf::codec {
namespace {

using testing::AreIdentical;
using testing::NamedTable;
using testing::Nulls;
using testing::TableOptions;

using ArrayDataPtr = std::shared_ptr<arrow::ArrayData>;

class TrimTable : public testing::CodecFixture {};

/// Slices that start beyond the first 512 elements, so that there is something to cut.
std::vector<NamedTable> LateSlices() {
  std::vector<NamedTable> slices;
  for (const NamedTable& named : testing::AllTypesTables({.num_rows = 2000})) {
    for (const int64_t begin : {3, 511, 512, 513, 1024, 1601}) {
      slices.push_back(
          {named.name + "/from_" + std::to_string(begin), named.table->Slice(begin, 77)});
    }
    slices.push_back({named.name + "/no_rows", named.table->Slice(1300, 0)});
    slices.push_back({named.name + "/whole", named.table});
  }
  return slices;
}

TEST_F(TrimTable, EqualsTheUntrimmedAndReadsNothing) {
  for (const NamedTable& named : LateSlices()) {
    SCOPED_TRACE(named.name);
    arena_.Clear();
    const auto table = arena_.CopyIn(*named.table);
    arena_.Protect(true);
    const auto trimmed = Trim(*table);
    arena_.Protect(false);
    ASSERT_TRUE(AreIdentical(*table, *trimmed, /*layout=*/false));
    ASSERT_TRUE(arena_.Holds(*trimmed));
    for (int i = 0; i < table->num_columns(); ++i) {
      for (int c = 0; c < table->column(i)->num_chunks(); ++c) {
        ASSERT_EQ(table->column(i)->chunk(c)->data()->null_count,
                  trimmed->column(i)->chunk(c)->data()->null_count);
      }
    }
  }
}

TEST_F(TrimTable, TrimmedTablesRoundTrip) {
  for (const NamedTable& named : LateSlices()) {
    SCOPED_TRACE(named.name);
    arena_.Clear();
    const auto trimmed = Trim(*arena_.CopyIn(*named.table));
    ASSERT_OK_AND_ASSIGN(const auto decoded, RoundTrip(*trimmed));
    ASSERT_TRUE(AreIdentical(*trimmed, *decoded));
  }
}

int64_t BytesOf(const arrow::ArrayData& data) {
  int64_t bytes = 0;
  for (const auto& buffer : data.buffers) bytes += buffer == nullptr ? 0 : buffer->size();
  for (const auto& child : data.child_data) bytes += BytesOf(*child);
  return bytes;
}

class TrimArray : public ::testing::Test {
 protected:
  ArrayDataPtr Slice(const std::shared_ptr<arrow::DataType>& type, int64_t offset,
                     int64_t length) {
    return testing::RandomArray(type, 5000, Nulls::kSome, &random_,
                                arrow::default_memory_pool())
        ->Slice(offset, length);
  }
  testing::Random random_{11};
};

TEST_F(TrimArray, KeepsNoMoreThanTheSliceAnd511Elements) {
  const ArrayDataPtr trimmed = Trim(Slice(arrow::int64(), 1030, 10));
  EXPECT_EQ(trimmed->offset, 6);
  EXPECT_EQ(trimmed->length, 10);
  EXPECT_EQ(trimmed->buffers[0]->size(), 2);
  EXPECT_EQ(trimmed->buffers[1]->size(), 16 * 8);
}

TEST_F(TrimArray, CutBuffersStayAligned) {
  const ArrayDataPtr whole = Slice(arrow::boolean(), 0, 5000);
  const ArrayDataPtr trimmed = Trim(whole->Slice(2999, 10));
  for (const size_t i : {0, 1}) {
    EXPECT_EQ((trimmed->buffers[i]->data() - whole->buffers[i]->data()) % 64, 0);
  }
}

TEST_F(TrimArray, CutsOffsetsButNotWhatTheyPointInto) {
  const ArrayDataPtr slice = Slice(arrow::utf8(), 1024, 10);
  const ArrayDataPtr trimmed = Trim(slice);
  EXPECT_EQ(trimmed->buffers[1]->size(), 11 * 4);
  EXPECT_EQ(trimmed->buffers[2], slice->buffers[2]);
  const ArrayDataPtr list = Slice(arrow::list(arrow::int8()), 1024, 10);
  EXPECT_EQ(Trim(list)->child_data[0], list->child_data[0]);
}

TEST_F(TrimArray, CutsChildrenOfStructsAndFixedSizeLists) {
  const auto type =
      arrow::struct_({arrow::field("a", arrow::int64()),
                      arrow::field("b", arrow::fixed_size_list(arrow::int16(), 3))});
  const ArrayDataPtr trimmed = Trim(Slice(type, 1024, 10));
  EXPECT_EQ(trimmed->child_data[0]->length, 10);
  EXPECT_LT(BytesOf(*trimmed), 12'000);  // Children may start up to 511 elements early.
}

TEST_F(TrimArray, CutsSparseUnionsButNotDenseOnes) {
  const arrow::FieldVector fields = {arrow::field("i", arrow::int64()),
                                     arrow::field("s", arrow::int8())};
  const ArrayDataPtr sparse = Trim(Slice(arrow::sparse_union(fields), 1024, 10));
  EXPECT_EQ(sparse->buffers[1]->size(), 10);
  EXPECT_EQ(sparse->child_data[0]->length, 10);
  const ArrayDataPtr slice = Slice(arrow::dense_union(fields), 1024, 10);
  const ArrayDataPtr dense = Trim(slice);
  EXPECT_EQ(dense->buffers[1]->size(), 10);
  EXPECT_EQ(dense->buffers[2]->size(), 40);
  EXPECT_EQ(dense->child_data, slice->child_data);
}

TEST_F(TrimArray, LeavesRunEndsAndDictionariesAlone) {
  const ArrayDataPtr runs =
      Slice(arrow::run_end_encoded(arrow::int32(), arrow::utf8()), 1024, 10);
  EXPECT_EQ(Trim(runs), runs);
  const ArrayDataPtr words =
      Slice(arrow::dictionary(arrow::int8(), arrow::utf8()), 1024, 10);
  EXPECT_EQ(Trim(words)->dictionary, words->dictionary);
  EXPECT_EQ(Trim(words)->buffers[1]->size(), 10);
}

TEST_F(TrimArray, GivesBackWhatNeedsNoCut) {
  for (const auto& [name, type] : testing::AllTypes()) {
    const ArrayDataPtr once = Trim(Slice(type, 0, 5000));
    EXPECT_EQ(Trim(once), once) << name;
  }
}

TEST_F(TrimArray, LeavesMalformedArraysForEncodeToRefuse) {
  const auto type = arrow::struct_({arrow::field("a", arrow::int64())});
  auto broken = Slice(type, 0, 5000)->Copy();
  broken->child_data[0] = broken->child_data[0]->Slice(0, 100);
  EXPECT_EQ(Trim(broken->Slice(1024, 10)->Copy())->child_data[0]->length, 100);
  auto short_buffer = Slice(arrow::int64(), 1024, 10);
  short_buffer->buffers[1] = arrow::SliceBuffer(short_buffer->buffers[1], 0, 100);
  EXPECT_LT(Trim(short_buffer)->buffers[1]->size(), 80);
  auto no_buffers = Slice(arrow::int64(), 1024, 10);
  no_buffers->buffers.clear();
  EXPECT_EQ(Trim(no_buffers), no_buffers);
}

}  // namespace
}  // namespace sheaf::codec
