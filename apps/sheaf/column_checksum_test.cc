#include "apps/sheaf/column_checksum.h"

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/array_run_end.h>
#include <arrow/chunked_array.h>
#include <arrow/extension_type.h>
#include <arrow/json/from_string.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gtest/gtest.h>

#include "testing/tables.h"

namespace sheaf::cli {
namespace {

using arrow::field;
using arrow::json::ArrayFromJSONString;

uint64_t Sum(const std::shared_ptr<arrow::Array>& array) {
  return ColumnChecksum(arrow::ChunkedArray(array)).ValueOrDie();
}

uint64_t Sum(const std::shared_ptr<arrow::DataType>& type, const char* json) {
  return Sum(ArrayFromJSONString(type, json).ValueOrDie());
}

std::vector<uint64_t> Sums(const arrow::Table& table) {
  std::vector<uint64_t> sums;
  for (const auto& column : table.columns()) {
    sums.push_back(ColumnChecksum(*column).ValueOrDie());
  }
  return sums;
}

TEST(ColumnChecksum, ChunksAndOffsetsDoNotMatterForAnyType) {
  for (const auto& named : sheaf::testing::AllTypesTables({.num_rows = 100})) {
    const arrow::Table& table = *named.table;
    const std::vector<uint64_t> whole = Sums(table);
    for (const auto& variant : sheaf::testing::VariantsOf(named)) {
      if (variant.table->num_rows() != table.num_rows()) continue;
      EXPECT_EQ(Sums(*variant.table), whole) << variant.name;
    }
  }
}

TEST(ColumnChecksum, HowValuesAreEncodedDoesNotMatter) {
  constexpr const char* kWords = R"(["x", "x", null, "", "long enough for a view"])";
  const uint64_t plain = Sum(arrow::utf8(), kWords);
  EXPECT_EQ(Sum(arrow::large_utf8(), kWords), plain);
  EXPECT_EQ(Sum(arrow::utf8_view(), kWords), plain);
  EXPECT_EQ(Sum(arrow::dictionary(arrow::int8(), arrow::utf8()), kWords), plain);
  const auto extension = sheaf::testing::TestExtension(arrow::utf8());
  const auto words = ArrayFromJSONString(arrow::utf8(), kWords).ValueOrDie();
  EXPECT_EQ(Sum(arrow::ExtensionType::WrapArray(extension, words)), plain);
  const auto run_ends = ArrayFromJSONString(arrow::int32(), "[2, 3, 4, 5]").ValueOrDie();
  const auto values =
      ArrayFromJSONString(arrow::utf8(), R"(["x", null, "", "long enough for a view"])")
          .ValueOrDie();
  EXPECT_EQ(Sum(arrow::RunEndEncodedArray::Make(5, run_ends, values).ValueOrDie()),
            plain);
  constexpr const char* kLists = "[[1, 2], null, [], [3, null]]";
  EXPECT_EQ(Sum(arrow::list_view(arrow::int8()), kLists),
            Sum(arrow::list(arrow::int8()), kLists));
}

TEST(ColumnChecksum, EveryDifferenceOfValuesShows) {
  std::unordered_map<uint64_t, std::string> seen;
  const auto expect_new = [&](const std::shared_ptr<arrow::DataType>& type,
                              const char* json) {
    const std::string what = type->ToString() + " " + json;
    const auto [at, is_new] = seen.emplace(Sum(type, json), what);
    EXPECT_TRUE(is_new) << what << " and " << at->second;
  };
  for (const char* json : {"[]", "[0]", "[0, 0]", "[null]", "[null, 0]", "[0, null]"}) {
    expect_new(arrow::int32(), json);
  }
  for (const char* json : {R"(["ab", "c"])", R"(["a", "bc"])", R"(["", "abc"])"}) {
    expect_new(arrow::utf8(), json);
  }
  for (const char* json : {"[[1], [2]]", "[[1, 2], []]", "[[], [1, 2]]", "[null, [1, 2]]",
                           "[[null], [1, 2]]"}) {
    expect_new(arrow::list(arrow::int8()), json);
  }
  const auto record =
      arrow::struct_({field("a", arrow::int8()), field("b", arrow::int8())});
  for (const char* json : {R"([{"a": 1}])", R"([{"b": 1}])", "[{}]", "[null, {}]"}) {
    expect_new(record, json);
  }
  const auto choice =
      arrow::dense_union({field("a", arrow::int16()), field("b", arrow::int16())});
  for (const char* json :
       {"[[0, 1]]", "[[1, 1]]", "[[1, 1], [0, 1]]", "[[0, 1], [1, 1]]"}) {
    expect_new(choice, json);
  }
}

}  // namespace
}  // namespace sheaf::cli
