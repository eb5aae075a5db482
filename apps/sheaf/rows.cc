#include "apps/sheaf/rows.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/array_nested.h>
#include <arrow/result.h>
#include <arrow/scalar.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/type_traits.h>
#include <arrow/util/string.h>

#include "apps/sheaf/output.h"

namespace sheaf::cli {
namespace {

// Cells with more characters are cut.
constexpr size_t kCellWidthMax = 40;

arrow::Result<Json> ToJson(const arrow::Scalar& value);

// Keys that differ for fields whose names do not. Names may hold any bytes: what is not
// UTF-8 is replaced here, since two names may become equal by that.
std::vector<std::string> UniqueKeys(const arrow::FieldVector& fields) {
  std::vector<std::string> keys;
  std::unordered_set<std::string> taken;
  for (const auto& field : fields) {
    const std::string name = ToUtf8(field->name());
    std::string key = name;
    for (int i = 2; !taken.insert(key).second; ++i) key = name + "#" + std::to_string(i);
    keys.push_back(std::move(key));
  }
  return keys;
}

arrow::Result<Json> ListToJson(const arrow::Array& items) {
  Json array = Json::array();
  for (int64_t i = 0; i < items.length(); ++i) {
    ARROW_ASSIGN_OR_RAISE(const auto item, items.GetScalar(i));
    ARROW_ASSIGN_OR_RAISE(array.emplace_back(), ToJson(*item));
  }
  return array;
}

// As pairs, since keys may be of any type and come more than once.
arrow::Result<Json> MapToJson(const arrow::StructArray& entries) {
  Json array = Json::array();
  for (int64_t i = 0; i < entries.length(); ++i) {
    Json& entry = array.emplace_back();
    ARROW_ASSIGN_OR_RAISE(const auto key, entries.field(0)->GetScalar(i));
    ARROW_ASSIGN_OR_RAISE(entry["key"], ToJson(*key));
    ARROW_ASSIGN_OR_RAISE(const auto value, entries.field(1)->GetScalar(i));
    ARROW_ASSIGN_OR_RAISE(entry["value"], ToJson(*value));
  }
  return array;
}

arrow::Result<Json> StructToJson(const arrow::StructScalar& value) {
  const std::vector<std::string> keys = UniqueKeys(value.type->fields());
  Json object = Json::object();
  for (size_t i = 0; i < keys.size(); ++i) {
    ARROW_ASSIGN_OR_RAISE(object[keys[i]], ToJson(*value.value[i]));
  }
  return object;
}

Json NumberToJson(const arrow::Scalar& value) {
  // Arrow's digits are the shortest that give the number back.
  const std::string digits = value.ToString();
  Json number = Json::parse(digits, nullptr, /*allow_exceptions=*/false);
  if (!number.is_discarded()) return number;
  if (digits == "inf") return "Infinity";
  return digits == "-inf" ? "-Infinity" : "NaN";
}

const char* UnitSuffix(arrow::TimeUnit::type unit) {
  switch (unit) {
    case arrow::TimeUnit::SECOND:
      return "s";
    case arrow::TimeUnit::MILLI:
      return "ms";
    case arrow::TimeUnit::MICRO:
      return "us";
    case arrow::TimeUnit::NANO:
      return "ns";
  }
  return "";
}

template <typename T>
const T& As(const arrow::Scalar& value) {
  return static_cast<const T&>(value);
}

arrow::Result<Json> ToJson(const arrow::Scalar& value) {
  if (!value.is_valid) return Json(nullptr);
  const arrow::DataType& type = *value.type;
  switch (type.id()) {
    case arrow::Type::BOOL:
      return Json(As<arrow::BooleanScalar>(value).value);
    case arrow::Type::LIST:
    case arrow::Type::LARGE_LIST:
    case arrow::Type::LIST_VIEW:
    case arrow::Type::LARGE_LIST_VIEW:
    case arrow::Type::FIXED_SIZE_LIST:
      return ListToJson(*As<arrow::BaseListScalar>(value).value);
    case arrow::Type::MAP:
      return MapToJson(static_cast<const arrow::StructArray&>(
          *As<arrow::BaseListScalar>(value).value));
    case arrow::Type::STRUCT:
      return StructToJson(As<arrow::StructScalar>(value));
    case arrow::Type::SPARSE_UNION:
    case arrow::Type::DENSE_UNION:
      return ToJson(*As<arrow::UnionScalar>(value).child_value());
    case arrow::Type::DICTIONARY: {
      ARROW_ASSIGN_OR_RAISE(const auto meant,
                            As<arrow::DictionaryScalar>(value).GetEncodedValue());
      return ToJson(*meant);
    }
    case arrow::Type::RUN_END_ENCODED:
      return ToJson(*As<arrow::RunEndEncodedScalar>(value).value);
    case arrow::Type::EXTENSION:
      return ToJson(*As<arrow::ExtensionScalar>(value).value);
    case arrow::Type::BINARY:
    case arrow::Type::LARGE_BINARY:
    case arrow::Type::BINARY_VIEW:
    case arrow::Type::FIXED_SIZE_BINARY:
      return Json(arrow::HexEncode(As<arrow::BaseBinaryScalar>(value).view()));
    case arrow::Type::STRING:
    case arrow::Type::LARGE_STRING:
    case arrow::Type::STRING_VIEW:
      return Json(ToUtf8(As<arrow::BaseBinaryScalar>(value).view()));
    case arrow::Type::DURATION:
      return Json(value.ToString() +
                  UnitSuffix(static_cast<const arrow::DurationType&>(type).unit()));
    default:
      // Decimals, dates, times and intervals are text.
      return arrow::is_numeric(type.id()) ? NumberToJson(value) : Json(value.ToString());
  }
}

arrow::Result<std::string> CellText(const arrow::ChunkedArray& column, int64_t row) {
  ARROW_ASSIGN_OR_RAISE(const auto scalar, column.GetScalar(row));
  ARROW_ASSIGN_OR_RAISE(const Json value, ToJson(*scalar));
  return OneLine(value.is_string() ? value.get<std::string>() : value.dump(),
                 kCellWidthMax);
}

}  // namespace

arrow::Result<Json> RowsToJson(const arrow::Table& table) {
  const std::vector<std::string> keys = UniqueKeys(table.schema()->fields());
  Json rows = Json::array();
  for (int64_t row = 0; row < table.num_rows(); ++row) {
    Json object = Json::object();
    for (int i = 0; i < table.num_columns(); ++i) {
      ARROW_ASSIGN_OR_RAISE(const auto value, table.column(i)->GetScalar(row));
      ARROW_ASSIGN_OR_RAISE(object[keys[static_cast<size_t>(i)]], ToJson(*value));
    }
    rows.push_back(std::move(object));
  }
  return rows;
}

arrow::Result<std::string> RowsToText(const arrow::Table& table) {
  std::vector<TextTable::Column> columns;
  for (const auto& field : table.schema()->fields()) {
    const arrow::DataType& type = *field->type();
    const bool number = arrow::is_numeric(type.id()) || arrow::is_decimal(type.id());
    columns.push_back(
        {OneLine(field->name(), kCellWidthMax), number ? Align::kRight : Align::kLeft});
  }
  TextTable text(std::move(columns));
  for (int64_t row = 0; row < table.num_rows(); ++row) {
    std::vector<std::string> cells;
    for (const auto& column : table.columns()) {
      ARROW_ASSIGN_OR_RAISE(cells.emplace_back(), CellText(*column, row));
    }
    text.AddRow(std::move(cells));
  }
  return text.ToString();
}

}  // namespace sheaf::cli
