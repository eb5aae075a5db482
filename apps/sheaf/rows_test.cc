#include "apps/sheaf/rows.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/array_run_end.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/chunked_array.h>
#include <arrow/extension_type.h>
#include <arrow/json/from_string.h>
#include <arrow/scalar.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/type_traits.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "apps/sheaf/output.h"
#include "testing/arrow_test.h"
#include "testing/tables.h"

namespace sheaf::cli {
namespace {

using arrow::field;
using arrow::json::ArrayFromJSONString;

std::shared_ptr<arrow::Table> OneColumn(const std::shared_ptr<arrow::Array>& array) {
  return arrow::Table::Make(arrow::schema({field("c", array->type())}), {array});
}

// The values of the only column.
Json Values(const std::shared_ptr<arrow::Array>& array) {
  Json values = Json::array();
  for (const Json& row : RowsToJson(*OneColumn(array)).ValueOrDie()) {
    values.push_back(row["c"]);
  }
  return values;
}

// The lines below the heading, each the only cell of a row.
std::vector<std::string> Cells(const std::shared_ptr<arrow::Array>& array) {
  std::string text = RowsToText(*OneColumn(array)).ValueOrDie();
  std::vector<std::string> lines;
  for (size_t end; (end = text.find('\n')) != std::string::npos;) {
    lines.push_back(text.substr(0, end));
    text.erase(0, end + 1);
  }
  lines.erase(lines.begin());
  for (std::string& line : lines) line.erase(0, line.find_first_not_of(' '));
  return lines;
}

struct Case {
  std::shared_ptr<arrow::DataType> type;
  const char* array;              // as Arrow reads it
  const char* json;               // the values in JSON
  std::vector<std::string> text;  // the cells in text
};

std::vector<Case> FlatCases() {
  using Unit = arrow::TimeUnit;
  return {
      {arrow::boolean(), "[true, false]", "[true, false]", {"true", "false"}},
      {arrow::int64(),
       "[9223372036854775807, -9007199254740993]",
       "[9223372036854775807, -9007199254740993]",
       {"9223372036854775807", "-9007199254740993"}},
      {arrow::uint64(),
       "[18446744073709551615]",
       "[18446744073709551615]",
       {"18446744073709551615"}},
      {arrow::float32(), "[0.1, 1e30]", "[0.1, 1e30]", {"0.1", "1e+30"}},
      {arrow::float16(), "[1.5]", "[1.5]", {"1.5"}},
      {arrow::utf8(), R"(["", "a\n\u001Bb"])", R"(["", "a\n\u001Bb"])", {"", "a \\x1Bb"}},
      {arrow::utf8_view(), R"(["x"])", R"(["x"])", {"x"}},
      {arrow::binary(), R"(["\u0001z", ""])", R"(["017A", ""])", {"017A", ""}},
      {arrow::fixed_size_binary(2), R"(["ab"])", R"(["6162"])", {"6162"}},
      {arrow::decimal128(12, 2), R"(["-4.30"])", R"(["-4.30"])", {"-4.30"}},
      {arrow::date32(), "[15706]", R"(["2013-01-01"])", {"2013-01-01"}},
      {arrow::time32(Unit::SECOND), "[61]", R"(["00:01:01"])", {"00:01:01"}},
      {arrow::timestamp(Unit::MILLI),
       "[1500]",
       R"(["1970-01-01 00:00:01.500"])",
       {"1970-01-01 00:00:01.500"}},
      {arrow::timestamp(Unit::SECOND, "+05:30"),
       "[1]",
       R"(["1970-01-01 00:00:01Z"])",
       {"1970-01-01 00:00:01Z"}},
      {arrow::duration(Unit::MICRO), "[-5]", R"(["-5us"])", {"-5us"}},
      {arrow::month_interval(), "[14]", R"(["14M"])", {"14M"}},
      {arrow::month_day_nano_interval(), "[[1, 2, 3]]", R"(["1M2d3ns"])", {"1M2d3ns"}},
      {arrow::null(), "[null]", "[null]", {"null"}},
  };
}

std::vector<Case> NestedCases() {
  const auto record =
      arrow::struct_({field("same", arrow::int8()), field("same", arrow::utf8())});
  return {
      {arrow::list(arrow::utf8()),
       R"([["a", null, ""], [], null])",
       R"([["a", null, ""], [], null])",
       {R"(["a",null,""])", "[]", "null"}},
      {arrow::fixed_size_list(arrow::float64(), 2),
       "[[1, 2.5]]",
       "[[1, 2.5]]",
       {"[1,2.5]"}},
      {arrow::list_view(arrow::date32()),
       "[[0]]",
       R"([["1970-01-01"]])",
       {R"(["1970-01-01"])"}},
      {record,
       R"([{"same": 1}, null])",
       R"([{"same": 1, "same#2": null}, null])",
       {R"({"same":1,"same#2":null})", "null"}},
      {arrow::map(arrow::int8(), arrow::utf8()),
       R"([[[1, "x"], [1, null]]])",
       R"([[{"key": 1, "value": "x"}, {"key": 1, "value": null}]])",
       {R"([{"key":1,"value":"x"},{"key":1,"valu...)"}},
      {arrow::dense_union({field("i", arrow::int8()), field("s", arrow::utf8())}),
       R"([[0, 7], [1, "seven"], [1, null]])",
       R"([7, "seven", null])",
       {"7", "seven", "null"}},
      {arrow::sparse_union({field("i", arrow::int8()), field("s", arrow::utf8())}),
       R"([[1, "a"]])",
       R"(["a"])",
       {"a"}},
      {arrow::dictionary(arrow::int8(), arrow::utf8()),
       R"(["UA", "AA", "UA", null])",
       R"(["UA", "AA", "UA", null])",
       {"UA", "AA", "UA", "null"}},
  };
}

void ExpectCases(const std::vector<Case>& cases) {
  for (const Case& wanted : cases) {
    ASSERT_OK_AND_ASSIGN(const auto array,
                         ArrayFromJSONString(wanted.type, wanted.array));
    EXPECT_EQ(Values(array).dump(), Json::parse(wanted.json).dump())
        << wanted.type->ToString();
    EXPECT_EQ(Cells(array), wanted.text) << wanted.type->ToString();
  }
}

TEST(Rows, FlatValuesReadLikeThemselves) { ExpectCases(FlatCases()); }

TEST(Rows, NestedValuesAreRealJson) { ExpectCases(NestedCases()); }

TEST(Rows, NumbersThatJsonLacksAreStrings) {
  using Limits = std::numeric_limits<double>;
  arrow::DoubleBuilder builder;
  ASSERT_OK(builder.AppendValues(
      {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()}));
  ASSERT_OK_AND_ASSIGN(const auto array, builder.Finish());
  EXPECT_EQ(Values(array), Json({"NaN", "Infinity", "-Infinity"}));
}

TEST(Rows, RunsAndExtensionsShowTheirValues) {
  ASSERT_OK_AND_ASSIGN(const auto plain, ArrayFromJSONString(arrow::int64(), "[5, 6]"));
  const auto type = sheaf::testing::TestExtension(arrow::int64());
  EXPECT_EQ(Values(arrow::ExtensionType::WrapArray(type, plain)), Json({5, 6}));
  ASSERT_OK_AND_ASSIGN(const auto run_ends,
                       ArrayFromJSONString(arrow::int32(), "[2, 3]"));
  ASSERT_OK_AND_ASSIGN(const auto words,
                       ArrayFromJSONString(arrow::utf8(), R"(["x", null])"));
  ASSERT_OK_AND_ASSIGN(const auto runs,
                       arrow::RunEndEncodedArray::Make(3, run_ends, words));
  EXPECT_EQ(Values(runs), Json({"x", "x", nullptr}));
  EXPECT_EQ(Cells(runs), (std::vector<std::string>{"x", "x", "null"}));
}

TEST(Rows, LongCellsAreCutBetweenCharacters) {
  std::string fits;
  for (int i = 0; i < 40; ++i) fits += "é";
  ASSERT_OK_AND_ASSIGN(
      const auto array,
      ArrayFromJSONString(arrow::utf8(), "[\"" + fits + "\", \"" + fits + "é\"]"));
  EXPECT_EQ(Cells(array), (std::vector<std::string>{fits, fits.substr(0, 74) + "..."}));
}

TEST(Rows, ColumnsOfOneNameKeepTheirValues) {
  ASSERT_OK_AND_ASSIGN(const auto array, ArrayFromJSONString(arrow::int8(), "[1]"));
  const auto table = arrow::Table::Make(
      arrow::schema({field("a", array->type()), field("a#2", array->type()),
                     field("a", array->type()), field("\xFF", array->type()),
                     field("\xFE", array->type())}),
      {array, array, array, array, array});
  ASSERT_OK_AND_ASSIGN(const Json rows, RowsToJson(*table));
  EXPECT_EQ(rows.dump(),
            "[{\"a\":1,\"a#2\":1,\"a#3\":1,\"\xEF\xBF\xBD\":1,\"\xEF\xBF\xBD#2\":1}]");
}

// Is `value` what RowsToJson promises for a value of `type`?
bool HasKind(const Json& value, const arrow::DataType& type) {
  switch (type.id()) {
    case arrow::Type::BOOL:
      return value.is_boolean();
    case arrow::Type::LIST:
    case arrow::Type::LARGE_LIST:
    case arrow::Type::LIST_VIEW:
    case arrow::Type::LARGE_LIST_VIEW:
    case arrow::Type::FIXED_SIZE_LIST:
    case arrow::Type::MAP:
      return value.is_array();
    case arrow::Type::STRUCT:
      return value.is_object() && value.size() == static_cast<size_t>(type.num_fields());
    case arrow::Type::SPARSE_UNION:
    case arrow::Type::DENSE_UNION:
      for (const auto& child : type.fields()) {
        if (HasKind(value, *child->type())) return true;
      }
      return value.is_null();
    case arrow::Type::DICTIONARY:
      return HasKind(value,
                     *static_cast<const arrow::DictionaryType&>(type).value_type());
    case arrow::Type::RUN_END_ENCODED:
      return HasKind(value,
                     *static_cast<const arrow::RunEndEncodedType&>(type).value_type());
    case arrow::Type::EXTENSION:
      return HasKind(value,
                     *static_cast<const arrow::ExtensionType&>(type).storage_type());
    default:
      return arrow::is_numeric(type.id()) ? value.is_number() : value.is_string();
  }
}

// May a valid value of `type` mean null?
bool StandsForAnother(const arrow::DataType& type) {
  return arrow::is_union(type.id()) || arrow::is_dictionary(type.id()) ||
         type.id() == arrow::Type::RUN_END_ENCODED || type.id() == arrow::Type::EXTENSION;
}

TEST(Rows, EveryTypeGivesOneValueOfItsKindPerRowAndColumn) {
  for (const auto& named : sheaf::testing::AllTypesTables({.num_rows = 60})) {
    const arrow::Table& table = *named.table;
    ASSERT_OK_AND_ASSIGN(const Json made, RowsToJson(table));
    const Json rows = Json::parse(made.dump(), nullptr, /*allow_exceptions=*/false);
    ASSERT_EQ(rows.size(), static_cast<size_t>(table.num_rows())) << named.name;
    for (size_t row = 0; row < rows.size(); ++row) {
      ASSERT_EQ(rows[row].size(), static_cast<size_t>(table.num_columns())) << named.name;
      auto value = rows[row].begin();
      for (const auto& column : table.columns()) {
        ASSERT_OK_AND_ASSIGN(const auto scalar,
                             column->GetScalar(static_cast<int64_t>(row)));
        EXPECT_TRUE(value->is_null() || HasKind(*value, *column->type()))
            << named.name << ": " << *value;
        if (!StandsForAnother(*column->type())) {
          EXPECT_EQ(value->is_null(), !scalar->is_valid) << named.name;
        }
        ++value;
      }
    }
    ASSERT_OK_AND_ASSIGN(const std::string text, RowsToText(table));
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), table.num_rows() + 1)
        << named.name;
  }
}

}  // namespace
}  // namespace sheaf::cli
