#include "testing/tables.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/chunked_array.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>

#include "testing/random_array.h"

namespace sheaf::testing {

namespace {

using arrow::field;
using TypePtr = std::shared_ptr<arrow::DataType>;

void AddFlatTypes(std::vector<NamedType>* types) {
  const auto add = [&](TypePtr type) {
    types->push_back({type->ToString(), std::move(type)});
  };
  for (const auto& type : {arrow::null(),
                           arrow::boolean(),
                           arrow::int8(),
                           arrow::int16(),
                           arrow::int32(),
                           arrow::int64(),
                           arrow::uint8(),
                           arrow::uint16(),
                           arrow::uint32(),
                           arrow::uint64(),
                           arrow::float16(),
                           arrow::float32(),
                           arrow::float64(),
                           arrow::date32(),
                           arrow::date64(),
                           arrow::month_interval(),
                           arrow::day_time_interval(),
                           arrow::month_day_nano_interval(),
                           arrow::utf8(),
                           arrow::binary(),
                           arrow::large_utf8(),
                           arrow::large_binary(),
                           arrow::utf8_view(),
                           arrow::binary_view()}) {
    add(type);
  }
  using Unit = arrow::TimeUnit;
  add(arrow::time32(Unit::SECOND));
  add(arrow::time32(Unit::MILLI));
  add(arrow::time64(Unit::MICRO));
  add(arrow::time64(Unit::NANO));
  for (const auto unit : {Unit::SECOND, Unit::MILLI, Unit::MICRO, Unit::NANO}) {
    add(arrow::duration(unit));
    add(arrow::timestamp(unit));
  }
  add(arrow::timestamp(Unit::MICRO, "UTC"));
  add(arrow::timestamp(Unit::NANO, "America/Argentina/ComodRivadavia"));
  add(arrow::timestamp(Unit::MILLI, "+05:30"));
  add(arrow::decimal32(9, -3));
  add(arrow::decimal32(1, 0));
  add(arrow::decimal64(18, 7));
  add(arrow::decimal128(38, -5));
  add(arrow::decimal128(12, 2));
  add(arrow::decimal256(76, 40));
  add(arrow::fixed_size_binary(0));
  add(arrow::fixed_size_binary(1));
  add(arrow::fixed_size_binary(17));
}

void AddListTypes(std::vector<NamedType>* types) {
  const auto custom = field("custom", arrow::int32(), /*nullable=*/false,
                            arrow::key_value_metadata({{"unit", "m"}}));
  types->insert(
      types->end(),
      {{"list", arrow::list(arrow::int32())},
       {"list_of_custom_field", arrow::list(custom)},
       {"large_list", arrow::large_list(arrow::utf8())},
       {"list_view", arrow::list_view(arrow::float64())},
       {"large_list_view", arrow::large_list_view(field("", arrow::boolean()))},
       {"fixed_size_list", arrow::fixed_size_list(arrow::boolean(), 3)},
       {"fixed_size_list_of_none", arrow::fixed_size_list(arrow::int8(), 0)},
       {"fixed_size_lists_nested",
        arrow::fixed_size_list(arrow::fixed_size_list(custom, 2), 5)},
       {"map", arrow::map(arrow::utf8(), arrow::int64())},
       {"map_keys_sorted", arrow::map(arrow::int16(), custom, /*keys_sorted=*/true)},
       {"map_custom_names",
        std::make_shared<arrow::MapType>(field(
            "pairs",
            arrow::struct_({field("k", arrow::utf8(), false), field("v", arrow::int8())}),
            false, arrow::key_value_metadata({{"on", "pairs"}})))},
       {"map_of_maps",
        arrow::map(arrow::utf8(),
                   arrow::map(arrow::int32(), arrow::list(arrow::utf8())))}});
}

void AddStructsAndUnions(std::vector<NamedType>* types) {
  const arrow::FieldVector three = {field("i", arrow::int32()), field("s", arrow::utf8()),
                                    field("b", arrow::boolean(), /*nullable=*/false)};
  types->insert(
      types->end(),
      {{"struct", arrow::struct_(three)},
       {"struct_empty", arrow::struct_(arrow::FieldVector{})},
       {"struct_names",
        arrow::struct_({field("same", arrow::int8()), field("same", arrow::int16()),
                        field("", arrow::null())})},
       {"struct_of_struct",
        arrow::struct_({field("inner", arrow::struct_(three)),
                        field("list", arrow::list(arrow::struct_(three)))})},
       {"sparse_union", arrow::sparse_union(three)},
       {"sparse_union_codes", arrow::sparse_union(three, {7, 127, 0})},
       {"dense_union", arrow::dense_union(three)},
       {"dense_union_codes", arrow::dense_union(three, {100, 5, 42})},
       {"dense_union_nested",
        arrow::dense_union(
            {field("l", arrow::list(arrow::utf8())),
             field("u", arrow::sparse_union(three)),
             field("r", arrow::run_end_encoded(arrow::int32(), arrow::utf8()))})},
       {"list_of_union", arrow::list(arrow::dense_union(three))}});
}

void AddDictionaries(std::vector<NamedType>* types) {
  const auto words = arrow::dictionary(arrow::int32(), arrow::utf8());
  const auto record = arrow::struct_({field("d", words), field("x", arrow::float32())});
  for (const auto& index :
       {arrow::int8(), arrow::uint8(), arrow::int16(), arrow::uint16(), arrow::int32(),
        arrow::uint32(), arrow::int64(), arrow::uint64()}) {
    types->push_back(
        {"dictionary_" + index->ToString(), arrow::dictionary(index, arrow::utf8())});
  }
  types->insert(
      types->end(),
      {{"dictionary_ordered", arrow::dictionary(arrow::int16(), arrow::date32(), true)},
       {"dictionary_of_struct", arrow::dictionary(arrow::int8(), record)},
       {"dictionary_of_list",
        arrow::dictionary(arrow::int8(), arrow::list(arrow::int8()))},
       {"dictionary_of_dictionary", arrow::dictionary(arrow::int8(), words)},
       {"dictionary_of_views", arrow::dictionary(arrow::int32(), arrow::utf8_view())},
       {"list_of_dictionary", arrow::list(words)},
       {"struct_of_dictionary", record},
       {"map_of_dictionary", arrow::map(words, words)}});
}

void AddRunEndsAndExtensions(std::vector<NamedType>* types) {
  const auto words = arrow::dictionary(arrow::int32(), arrow::utf8());
  const auto record = arrow::struct_({field("d", words), field("x", arrow::float32())});
  types->insert(
      types->end(),
      {{"run_ends_16", arrow::run_end_encoded(arrow::int16(), arrow::utf8())},
       {"run_ends_32", arrow::run_end_encoded(arrow::int32(), arrow::int64())},
       {"run_ends_64", arrow::run_end_encoded(arrow::int64(), arrow::boolean())},
       {"run_ends_of_struct", arrow::run_end_encoded(arrow::int32(), record)},
       {"run_ends_of_dictionary", arrow::run_end_encoded(arrow::int32(), words)},
       {"list_of_run_ends",
        arrow::list(arrow::run_end_encoded(arrow::int32(), arrow::utf8_view()))},
       {"extension", TestExtension(arrow::int64())},
       {"extension_binary_data", TestExtension(arrow::utf8(), std::string("\0\xFF", 2))},
       {"extension_of_struct", TestExtension(record)},
       {"extension_of_dictionary", TestExtension(words)},
       {"list_of_extension", arrow::list(TestExtension(arrow::fixed_size_binary(16)))},
       {"dictionary_of_extension",
        arrow::dictionary(arrow::int8(), TestExtension(arrow::utf8()))},
       {"run_ends_of_extension",
        arrow::run_end_encoded(arrow::int32(), TestExtension(arrow::int8()))}});
}

TypePtr DeepList(int levels) {
  TypePtr type = arrow::int32();
  for (int i = 1; i < levels; ++i) type = arrow::fixed_size_list(std::move(type), 1);
  return type;
}

/// Makes columns of whole chunks.
class TableMaker {
 public:
  explicit TableMaker(const TableOptions& options)
      : options_(options), random_(options.seed) {}

  std::shared_ptr<arrow::Array> Array(const TypePtr& type, Nulls nulls) {
    return arrow::MakeArray(
        RandomArray(type, options_.num_rows, nulls, &random_, options_.pool));
  }

  NamedTable OfType(const NamedType& named) {
    const auto with_metadata = field("some_null", named.type, true,
                                     arrow::key_value_metadata({{"of", "field"}}));
    const auto schema =
        arrow::schema({with_metadata, field("none_null", named.type, false),
                       field("all_null", named.type)},
                      arrow::key_value_metadata({{"of", "schema"}}));
    return {named.name, arrow::Table::Make(schema, {Array(named.type, Nulls::kSome),
                                                    Array(named.type, Nulls::kNone),
                                                    Array(named.type, Nulls::kAll)})};
  }

  NamedTable WithoutColumns() {
    const auto schema = arrow::schema(arrow::FieldVector{},
                                      arrow::key_value_metadata({{"only", "rows"}}));
    return {"no_columns",
            arrow::Table::Make(schema, arrow::ChunkedArrayVector{}, options_.num_rows)};
  }

  NamedTable WithOddNames() {
    const std::string bytes("a\0b\xFF\xFE", 5);
    const auto type = arrow::struct_({field(bytes, arrow::int8())});
    return {"odd_names",
            arrow::Table::Make(
                arrow::schema({field("same", arrow::int8()), field("same", arrow::int8()),
                               field("", arrow::int8()), field(bytes, type)}),
                {Array(arrow::int8(), Nulls::kSome), Array(arrow::int8(), Nulls::kSome),
                 Array(arrow::int8(), Nulls::kNone), Array(type, Nulls::kSome)})};
  }

  NamedTable WithOddMetadata() {
    const std::string bytes("\0\xFF\0", 3);
    const auto metadata = arrow::key_value_metadata(
        {"z", "a", "z", "", bytes}, {"last first", "", "again", "no key", bytes});
    const auto inner = arrow::struct_({field("inner", arrow::int8(), true, metadata)});
    return {
        "odd_metadata",
        arrow::Table::Make(
            arrow::schema({field("outer", inner, true, metadata),
                           field("empty", arrow::int8(), true,
                                 arrow::key_value_metadata(std::vector<std::string>{},
                                                           std::vector<std::string>{}))},
                          metadata),
            {Array(inner, Nulls::kSome), Array(arrow::int8(), Nulls::kSome)})};
  }

  NamedTable WithSharedBuffers() {
    const auto words = Array(arrow::utf8(), Nulls::kSome);
    const auto record = arrow::MakeArray(arrow::ArrayData::Make(
        arrow::struct_({field("a", arrow::utf8()), field("b", arrow::utf8())}),
        options_.num_rows, {nullptr}, {words->data(), words->data()}, 0));
    return {"shared_buffers",
            arrow::Table::Make(
                arrow::schema({field("a", arrow::utf8()), field("b", arrow::utf8()),
                               field("tail", arrow::utf8()), field("s", record->type())}),
                arrow::ChunkedArrayVector{
                    std::make_shared<arrow::ChunkedArray>(words),
                    std::make_shared<arrow::ChunkedArray>(words),
                    std::make_shared<arrow::ChunkedArray>(
                        arrow::ArrayVector{words->Slice(options_.num_rows / 2),
                                           words->Slice(0, options_.num_rows / 2)}),
                    std::make_shared<arrow::ChunkedArray>(record)},
                options_.num_rows)};
  }

  NamedTable OfAllTypes(const std::vector<NamedType>& types) {
    arrow::FieldVector fields;
    arrow::ArrayVector arrays;
    for (const NamedType& named : types) {
      fields.push_back(field(named.name, named.type));
      arrays.push_back(Array(named.type, Nulls::kSome));
    }
    return {"all_types_at_once", arrow::Table::Make(arrow::schema(fields), arrays)};
  }

 private:
  TableOptions options_;
  Random random_;
};

using CutColumn = std::function<arrow::ArrayVector(const arrow::ChunkedArray&)>;

NamedTable Recut(const NamedTable& table, const std::string& name, const CutColumn& cut) {
  arrow::ChunkedArrayVector columns;
  for (const auto& column : table.table->columns()) {
    columns.push_back(
        std::make_shared<arrow::ChunkedArray>(cut(*column), column->type()));
  }
  return {table.name + "/" + name,
          arrow::Table::Make(
              table.table->schema(), columns,
              columns.empty() ? table.table->num_rows() : columns[0]->length())};
}

arrow::ArrayVector UnevenChunks(const arrow::ChunkedArray& column, Random* random) {
  arrow::ArrayVector chunks;
  for (int64_t begin = 0; begin < column.length();) {
    const int64_t length = std::min(random->Below(40), column.length() - begin);
    const auto slice = column.Slice(begin, length)->chunks();
    chunks.insert(chunks.end(), slice.begin(), slice.end());
    begin += length;
  }
  return chunks;
}

arrow::ArrayVector EmptyChunks(const arrow::ChunkedArray& column) {
  arrow::ArrayVector chunks;
  for (const auto& chunk : column.chunks()) {
    for (const int64_t at : {int64_t{0}, chunk->length() / 2, chunk->length()}) {
      chunks.push_back(chunk->Slice(at, 0));
    }
  }
  return chunks;
}

}  // namespace

std::vector<NamedType> AllTypes() {
  std::vector<NamedType> types;
  AddFlatTypes(&types);
  AddListTypes(&types);
  AddStructsAndUnions(&types);
  AddDictionaries(&types);
  AddRunEndsAndExtensions(&types);
  types.push_back({"nested_64_levels", DeepList(64)});
  return types;
}

std::vector<NamedTable> AllTypesTables(const TableOptions& options) {
  // For good: a table of an extension type outlives this call.
  static const TestExtensionRegistration kRegistration;
  const std::vector<NamedType> types = AllTypes();
  TableMaker maker(options);
  std::vector<NamedTable> tables;
  tables.reserve(types.size() + 5);
  for (const NamedType& named : types) tables.push_back(maker.OfType(named));
  tables.push_back(maker.WithoutColumns());
  tables.push_back(maker.WithOddNames());
  tables.push_back(maker.WithOddMetadata());
  tables.push_back(maker.WithSharedBuffers());
  tables.push_back(maker.OfAllTypes(types));
  return tables;
}

std::vector<NamedTable> VariantsOf(const NamedTable& table, uint64_t seed) {
  std::vector<NamedTable> variants = {{table.name + "/whole", table.table}};
  for (const int64_t begin : {3, 63, 64, 65}) {
    const int64_t length = std::max<int64_t>(table.table->num_rows() - begin - 1, 0);
    variants.push_back({table.name + "/from_" + std::to_string(begin),
                        table.table->Slice(begin, length)});
  }
  Random random(seed);
  variants.push_back(Recut(
      table, "uneven_chunks",
      [&](const arrow::ChunkedArray& column) { return UnevenChunks(column, &random); }));
  variants.push_back({table.name + "/no_rows", table.table->Slice(0, 0)});
  if (table.table->num_columns() == 0) return variants;
  variants.push_back(Recut(table, "empty_chunks", EmptyChunks));
  variants.push_back(Recut(table, "no_chunks", [](const arrow::ChunkedArray&) {
    return arrow::ArrayVector{};
  }));
  return variants;
}

std::vector<NamedTable> AllTypesTableVariants(const TableOptions& options) {
  std::vector<NamedTable> all;
  for (const NamedTable& table : AllTypesTables(options)) {
    std::vector<NamedTable> variants = VariantsOf(table, options.seed);
    std::move(variants.begin(), variants.end(), std::back_inserter(all));
  }
  return all;
}

}  // namespace sheaf::testing
