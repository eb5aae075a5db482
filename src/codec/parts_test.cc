// Tables of many parts: what the descriptor says of them, and some rows of a table alone.

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <arrow/array/array_primitive.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/result.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gtest/gtest.h>

#include "codec/codec.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/codec_fixture.h"

namespace sheaf::codec {
namespace {

using TablePtr = std::shared_ptr<arrow::Table>;

class Parts : public testing::CodecFixture {
 protected:
  /// Column a in chunks of `chunk_rows`, column b in one chunk; in the arena.
  TablePtr MakeTable(const std::vector<int64_t>& chunk_rows) {
    arrow::ArrayVector chunks;
    int64_t row = 0;
    for (const int64_t rows : chunk_rows) {
      chunks.push_back(Count(row, rows));
      row += rows;
    }
    const auto schema = arrow::schema(
        {arrow::field("a", arrow::int64()), arrow::field("b", arrow::int64())});
    return arena_.CopyIn(*arrow::Table::Make(
        schema, {std::make_shared<arrow::ChunkedArray>(chunks, arrow::int64()),
                 std::make_shared<arrow::ChunkedArray>(Count(0, row))}));
  }

  static std::shared_ptr<arrow::Array> Count(int64_t first, int64_t rows) {
    arrow::Int64Builder builder;
    for (int64_t i = 0; i < rows; ++i) EXPECT_OK(builder.Append(first + i));
    return builder.Finish().ValueOrDie();
  }

  arrow::Result<std::shared_ptr<const Descriptor>> DescribeParts(
      const arrow::Table& table, const std::vector<Part>& parts) {
    ARROW_ASSIGN_OR_RAISE(auto bytes, Encode(table, Locate(), nullptr, parts));
    return Describe(std::move(bytes));
  }
};

TEST_F(Parts, AreToldAsTheyWereWritten) {
  const TablePtr table = MakeTable({10, 20, 30});
  const std::vector<Part> parts = {{30, 7, {3}}, {0, 7, {7}}, {30, 8, {3}}};
  ASSERT_OK_AND_ASSIGN(const auto descriptor, DescribeParts(*table, parts));
  EXPECT_EQ(descriptor->parts(), parts);
  ASSERT_OK_AND_ASSIGN(const auto alone, DescribeParts(*table, {}));
  EXPECT_TRUE(alone->parts().empty());
}

TEST_F(Parts, HaveTheRowsOfTheTableTogether) {
  const TablePtr table = MakeTable({10});
  EXPECT_RAISES(Invalid, DescribeParts(*table, {{9, 1, {3}}}));
  EXPECT_RAISES(Invalid, DescribeParts(*table, {{9, 1, {3}}, {2, 1, {3}}}));
  EXPECT_RAISES(Invalid, DescribeParts(*table, {{11, 1, {3}}, {-1, 1, {3}}}));
  EXPECT_RAISES(Invalid, DescribeParts(*table, {{10, 1, {99}}}));  // no such segment
}

TEST_F(Parts, SomeRowsAreThoseOfTheTable) {
  const TablePtr table = MakeTable({10, 0, 20, 30});
  ASSERT_OK_AND_ASSIGN(const auto descriptor, Describe(*table));
  for (int64_t offset = 0; offset <= 60; offset += 5) {
    for (int64_t length = 0; offset + length <= 60; length += 5) {
      ASSERT_OK_AND_ASSIGN(const TablePtr some,
                           descriptor->ToTable(MakeBuffer(), {{}, offset, length}));
      EXPECT_OK(some->ValidateFull());
      EXPECT_TRUE(some->Equals(*table->Slice(offset, length))) << offset << "+" << length;
    }
  }
  EXPECT_RAISES(Invalid, descriptor->ToTable(MakeBuffer(), {{}, 50, 11}));
  EXPECT_RAISES(Invalid, descriptor->ToTable(MakeBuffer(), {{}, -1, 5}));
  EXPECT_RAISES(Invalid, descriptor->ToTable(MakeBuffer(), {{}, 61, -1}));
  EXPECT_RAISES(Invalid, descriptor->ToTable(MakeBuffer(), {{}, 5, INT64_MAX}));
}

TEST_F(Parts, OnlyChunksWithSuchRowsAreAskedFor) {
  const TablePtr table = MakeTable({10, 20, 30});
  ASSERT_OK_AND_ASSIGN(const auto descriptor, Describe(*table));
  const auto bytes_of = [&](const Selection& selection) {
    uint64_t bytes = 0;
    for (const GlobalRange& range : descriptor->Ranges(selection)) {
      bytes += range.size_bytes;
    }
    int64_t visited = 0;
    EXPECT_OK(descriptor->VisitBuffers(
        [&](const GlobalRange& range, std::optional<uint64_t>) {
          visited += static_cast<int64_t>(range.size_bytes);
          return arrow::Status::OK();
        },
        selection));
    int64_t made = 0;
    EXPECT_OK(descriptor->ToTable(
        [&](GlobalAddress address, int64_t size) {
          made += size;
          return arena_.BufferAt(address, size);
        },
        selection));
    EXPECT_EQ(made, visited);
    EXPECT_EQ(bytes, static_cast<uint64_t>(visited));
    return visited;
  };
  const std::vector<int> a = {0};
  EXPECT_EQ(bytes_of({a, 0, 10}), 80);
  EXPECT_EQ(bytes_of({a, 10, 20}), 160);
  EXPECT_EQ(bytes_of({a, 9, 2}), 240);
  EXPECT_EQ(bytes_of({a, 10, 0}), 0);
  EXPECT_EQ(bytes_of({a, 0, -1}), 480);
  EXPECT_EQ(bytes_of({{}, 10, 20}), 160 + 480);
  EXPECT_EQ(bytes_of(std::vector<int>{}), 0);
}

TEST_F(Parts, EmptyBuffersLieWhereTheirPartDoes) {
  const TablePtr table = MakeTable({0, 0, 0});
  ASSERT_OK_AND_ASSIGN(auto bytes, Encode(*table, Locate(), nullptr, {{0, 1, {3}}}));
  ASSERT_OK_AND_ASSIGN(
      const auto descriptor,
      Descriptor::Make(std::move(bytes), [](SegmentId) { return uint64_t{1} << 20; }));
  alignas(64) static const uint64_t kPlace = 0;
  EXPECT_OK(descriptor->ToTable([&](GlobalAddress address, int64_t size) {
    EXPECT_EQ(address, (GlobalAddress{{3}, 0}));
    EXPECT_EQ(size, 0);
    return std::make_shared<arrow::Buffer>(reinterpret_cast<const uint8_t*>(&kPlace), 0);
  }));
}

}  // namespace
}  // namespace sheaf::codec
