// What Arrow does with a pool: every buffer that a builder, kernel or reader makes lies
// in the region.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/array/concatenate.h>
#include <arrow/buffer.h>
#include <arrow/builder.h>
#include <arrow/compute/api_vector.h>
#include <arrow/compute/exec.h>
#include <arrow/io/memory.h>
#include <arrow/record_batch.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gtest/gtest.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/writer.h>
#include <parquet/file_reader.h>
#include <parquet/properties.h>

#include "alloc/region_memory_pool.h"
#include "testing/arena_extent_source.h"
#include "testing/arrow_test.h"
#include "testing/tables.h"

namespace sheaf::alloc {
namespace {

class PoolArrowTest : public ::testing::Test {
 protected:
  void TearDown() override {
    EXPECT_EQ(pool_.bytes_allocated(), 0);
    pool_.ReturnUnused(false);
    EXPECT_EQ(arena_.num_outstanding(), 0);
  }

  bool InArena(const arrow::Buffer& buffer) const {
    return arena_.Contains(buffer.data(), static_cast<uint64_t>(buffer.capacity()));
  }

  int CountOutside(const arrow::ArrayData& data) const {
    int outside = 0;
    for (const auto& buffer : data.buffers) {
      if (buffer != nullptr && !InArena(*buffer)) ++outside;
    }
    for (const auto& child : data.child_data) outside += CountOutside(*child);
    if (data.dictionary != nullptr) outside += CountOutside(*data.dictionary);
    return outside;
  }

  int CountOutside(const arrow::Table& table) const {
    int outside = 0;
    for (const auto& column : table.columns()) {
      for (const auto& chunk : column->chunks()) outside += CountOutside(*chunk->data());
    }
    return outside;
  }

  sheaf::testing::ArenaExtentSource arena_{uint64_t{512} << 20};
  RegionMemoryPool pool_{&arena_};
};

// How many sizes buffers of list views `array` has: their builder takes them from the
// default pool.
int CountListViewSizes(const arrow::ArrayData& data) {
  const auto id = data.type->id();
  int count = id == arrow::Type::LIST_VIEW || id == arrow::Type::LARGE_LIST_VIEW ? 1 : 0;
  for (const auto& child : data.child_data) count += CountListViewSizes(*child);
  return count;
}

TEST_F(PoolArrowTest, FinishShrinksInPlace) {
  arrow::Int64Builder builder(&pool_);
  ASSERT_OK(builder.Reserve(1'000'000));
  for (int64_t i = 0; i < 1000; ++i) ASSERT_OK(builder.Append(i));
  const int64_t* const before = &builder[0];
  EXPECT_GE(pool_.bytes_allocated(), 8'000'000);
  ASSERT_OK_AND_ASSIGN(const auto array, builder.Finish());
  EXPECT_EQ(array->data()->GetValues<int64_t>(1), before);
  EXPECT_LE(pool_.bytes_allocated(), 8192);
  EXPECT_EQ(array->data()->GetValues<int64_t>(1)[999], 999);
}

TEST_F(PoolArrowTest, AnEmptyArrayLiesInTheRegion) {
  for (const auto& type : {arrow::int64(), arrow::utf8(), arrow::list(arrow::int8())}) {
    ASSERT_OK_AND_ASSIGN(const auto array, arrow::MakeEmptyArray(type, &pool_));
    EXPECT_EQ(CountOutside(*array->data()), 0) << type->ToString();
    ASSERT_OK_AND_ASSIGN(auto builder, arrow::MakeBuilder(type, &pool_));
    ASSERT_OK_AND_ASSIGN(const auto built, builder->Finish());
    EXPECT_EQ(CountOutside(*built->data()), 0) << type->ToString();
  }
}

TEST_F(PoolArrowTest, ABufferOutlivesItsBuilderAndGrowsWithIt) {
  std::shared_ptr<arrow::Array> array;
  {
    arrow::StringBuilder builder(&pool_);
    for (int i = 0; i < 300'000; ++i)
      ASSERT_OK(builder.Append("value " + std::to_string(i)));
    ASSERT_OK(builder.Finish(&array));
  }
  EXPECT_EQ(CountOutside(*array->data()), 0);
  ASSERT_OK(array->ValidateFull());
  const auto& strings = static_cast<const arrow::StringArray&>(*array);
  for (int i = 0; i < 300'000; i += 997) {
    ASSERT_EQ(strings.GetView(i), "value " + std::to_string(i));
  }
}

// What the builder of its type makes of `array`; null when there is no such builder.
std::shared_ptr<arrow::Array> Rebuild(const arrow::Array& array,
                                      arrow::MemoryPool* pool) {
  auto builder = arrow::MakeBuilder(array.type(), pool);
  if (!builder.ok()) return nullptr;
  const arrow::ArraySpan span(*array.data());
  if (!(*builder)->AppendArraySlice(span, 0, array.length()).ok()) return nullptr;
  return (*builder)->Finish().ValueOrDie();
}

TEST_F(PoolArrowTest, BuildersOfEveryType) {
  int num_built = 0;
  for (const auto& [name, table] : sheaf::testing::AllTypesTables()) {
    for (const auto& column : table->columns()) {
      for (const auto& chunk : column->chunks()) {
        const auto expected = Rebuild(*chunk, arrow::default_memory_pool());
        if (expected == nullptr) continue;
        const auto built = Rebuild(*chunk, &pool_);
        ASSERT_NE(built, nullptr);
        EXPECT_TRUE(built->Equals(expected, arrow::EqualOptions().nans_equal(true)))
            << name;
        EXPECT_LE(CountOutside(*built->data()), CountListViewSizes(*built->data()))
            << name;
        ++num_built;
      }
    }
  }
  EXPECT_GT(num_built, 100);
}

TEST_F(PoolArrowTest, ListViewBuilderTakesOnlyItsSizesElsewhere) {
  arrow::ListViewBuilder builder(&pool_, std::make_shared<arrow::Int32Builder>(&pool_));
  auto& values = static_cast<arrow::Int32Builder&>(*builder.value_builder());
  for (int i = 0; i < 1000; ++i) {
    ASSERT_OK(builder.Append(true, 1));
    ASSERT_OK(values.Append(i));
  }
  ASSERT_OK_AND_ASSIGN(const auto array, builder.Finish());
  EXPECT_TRUE(InArena(*array->data()->buffers[1]));
  EXPECT_EQ(CountOutside(*array->data()), 1);
  ASSERT_OK_AND_ASSIGN(const auto copied, arrow::Concatenate({array}, &pool_));
  EXPECT_EQ(CountOutside(*copied->data()), 0);
}

std::shared_ptr<arrow::Table> MakeTable() {
  arrow::Int64Builder ids;
  arrow::StringBuilder names;
  arrow::DoubleBuilder values;
  for (int i = 0; i < 100'000; ++i) {
    EXPECT_OK(ids.Append(i * 7919 % 100'003));
    EXPECT_OK(i % 11 == 0 ? names.AppendNull()
                          : names.Append("name " + std::to_string(i % 1000)));
    EXPECT_OK(values.Append(i * 0.5));
  }
  const auto schema = arrow::schema({arrow::field("id", arrow::int64()),
                                     arrow::field("name", arrow::utf8()),
                                     arrow::field("value", arrow::float64())});
  return arrow::Table::Make(schema,
                            {ids.Finish().ValueOrDie(), names.Finish().ValueOrDie(),
                             values.Finish().ValueOrDie()});
}

TEST_F(PoolArrowTest, KernelsBuildInTheRegion) {
  arrow::compute::ExecContext context(&pool_);
  const auto table = MakeTable();
  const auto before = arrow::default_memory_pool()->bytes_allocated();
  ASSERT_OK_AND_ASSIGN(const auto indices, arrow::compute::SortIndices(
                                               arrow::Datum(table->column(0)),
                                               arrow::compute::SortOptions(), &context));
  EXPECT_EQ(CountOutside(*indices->data()), 0);
  ASSERT_OK_AND_ASSIGN(
      const arrow::Datum taken,
      arrow::compute::Take(table, indices, arrow::compute::TakeOptions(), &context));
  EXPECT_EQ(CountOutside(*taken.table()), 0);
  ASSERT_OK_AND_ASSIGN(
      const arrow::Datum encoded,
      arrow::compute::DictionaryEncode(
          taken.table()->column(1), arrow::compute::DictionaryEncodeOptions(), &context));
  for (const auto& chunk : encoded.chunked_array()->chunks()) {
    EXPECT_EQ(CountOutside(*chunk->data()), 0);
  }
  EXPECT_EQ(arrow::default_memory_pool()->bytes_allocated(), before);
}

TEST_F(PoolArrowTest, ParquetIsDecodedIntoTheRegion) {
  const auto table = MakeTable();
  ASSERT_OK_AND_ASSIGN(const auto sink, arrow::io::BufferOutputStream::Create());
  ASSERT_OK(
      parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), sink, 30'000));
  ASSERT_OK_AND_ASSIGN(const auto file, sink->Finish());
  parquet::arrow::FileReaderBuilder builder;
  ASSERT_OK(builder.Open(std::make_shared<arrow::io::BufferReader>(file),
                         parquet::ReaderProperties(&pool_)));
  std::unique_ptr<parquet::arrow::FileReader> reader;
  ASSERT_OK(builder.memory_pool(&pool_)->Build(&reader));
  ASSERT_OK_AND_ASSIGN(const auto batches, reader->GetRecordBatchReader());
  ASSERT_OK_AND_ASSIGN(const auto read, batches->ToTable());
  EXPECT_EQ(CountOutside(*read), 0);
  EXPECT_TRUE(read->Equals(*table));
}

}  // namespace
}  // namespace sheaf::alloc
