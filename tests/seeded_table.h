// Tables that say themselves what they must hold: whoever opens one can compare it.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/util.h>
#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>

#include "base/check.h"
#include "testing/random_array.h"
#include "testing/tables.h"

namespace sheaf::testing {

/// \brief `rows` rows of numbers, strings, lists and dictionary values, with nulls, as
/// `seed` says. Seed and rows are the schema's metadata, which travels in the descriptor.
inline std::shared_ptr<arrow::Table> SeededTable(
    uint64_t seed, int64_t rows, arrow::MemoryPool* pool = arrow::default_memory_pool()) {
  Random random(seed);
  std::vector<std::shared_ptr<arrow::Field>> fields;
  std::vector<std::shared_ptr<arrow::Array>> columns;
  const std::vector<std::pair<std::string, std::shared_ptr<arrow::DataType>>> types = {
      {"number", arrow::int64()},
      {"text", arrow::utf8()},
      {"list", arrow::list(arrow::int32())},
      {"word", arrow::dictionary(arrow::int16(), arrow::utf8())}};
  for (const auto& [name, type] : types) {
    fields.push_back(arrow::field(name, type));
    columns.push_back(
        arrow::MakeArray(RandomArray(type, rows, Nulls::kSome, &random, pool)));
  }
  const auto metadata = arrow::key_value_metadata(
      {"seed", "rows"}, {std::to_string(seed), std::to_string(rows)});
  return arrow::Table::Make(arrow::schema(fields, metadata), columns, rows);
}

/// \brief OK if `table` is, value by value, the one that its metadata names.
inline arrow::Status CheckSeededTable(const arrow::Table& table) {
  const auto& metadata = table.schema()->metadata();
  if (metadata == nullptr) return arrow::Status::Invalid("a table without a seed");
  ARROW_ASSIGN_OR_RAISE(const std::string seed, metadata->Get("seed"));
  ARROW_ASSIGN_OR_RAISE(const std::string rows, metadata->Get("rows"));
  const auto expected = SeededTable(std::stoull(seed), std::stoll(rows));
  // One in parts has it several times over.
  const int64_t rows_each = expected->num_rows();
  const bool is_whole = rows_each == 0 || table.num_rows() % rows_each != 0;
  for (int64_t row = 0; row == 0 || (!is_whole && row < table.num_rows());
       row += rows_each) {
    const auto some = is_whole ? table.Slice(0) : table.Slice(row, rows_each);
    const auto identical = AreIdentical(*expected, *some, /*layout=*/false);
    if (identical) continue;
    return arrow::Status::Invalid("the table of seed ", seed,
                                  " differs: ", identical.message());
  }
  return arrow::Status::OK();
}

}  // namespace sheaf::testing
