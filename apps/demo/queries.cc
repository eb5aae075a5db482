#include "apps/demo/queries.h"

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <arrow/acero/exec_plan.h>
#include <arrow/acero/options.h>
#include <arrow/compute/cast.h>
#include <arrow/compute/expression.h>
#include <arrow/result.h>
#include <arrow/scalar.h>
#include <arrow/table.h>

namespace sheaf::demo {
namespace {

namespace ac = arrow::acero;
namespace cp = arrow::compute;

// 1998-09-02, as days since 1970: the cut of TPC-H query 1.
constexpr int32_t kShipDateMax = 10471;

cp::Expression AsString(const char* field) {
  return cp::call("cast", {cp::field_ref(field)}, cp::CastOptions::Safe(arrow::utf8()));
}

ac::Declaration Sorted(ac::Declaration plan, const std::vector<std::string>& keys) {
  std::vector<cp::SortKey> sort_keys(keys.begin(), keys.end());
  return ac::Declaration::Sequence(
      {std::move(plan), {"order_by", ac::OrderByNodeOptions(cp::Ordering(sort_keys))}});
}

// TPC-H query 1 without its averages. Acero cannot filter string views: the flags are
// cast first.
ac::Declaration PricingSummary(std::shared_ptr<arrow::Table> table) {
  const std::vector<std::string> keys = {"l_returnflag", "l_linestatus"};
  return Sorted(
      ac::Declaration::Sequence(
          {{"table_source", ac::TableSourceNodeOptions(std::move(table))},
           {"project",
            ac::ProjectNodeOptions(
                {AsString("l_returnflag"), AsString("l_linestatus"),
                 cp::field_ref("l_quantity"), cp::field_ref("l_extendedprice"),
                 cp::field_ref("l_shipdate")},
                {"l_returnflag", "l_linestatus", "quantity", "price", "shipdate"})},
           {"filter",
            ac::FilterNodeOptions(cp::less_equal(
                cp::field_ref("shipdate"),
                cp::literal(std::make_shared<arrow::Date32Scalar>(kShipDateMax))))},
           {"aggregate",
            ac::AggregateNodeOptions({{"hash_sum", nullptr, "quantity", "sum_qty"},
                                      {"hash_sum", nullptr, "price", "sum_price"},
                                      {"hash_count", nullptr, "quantity", "count_order"}},
                                     {"l_returnflag", "l_linestatus"})}}),
      keys);
}

ac::Declaration DelaysByOrigin(std::shared_ptr<arrow::Table> table) {
  return Sorted(
      ac::Declaration::Sequence(
          {{"table_source", ac::TableSourceNodeOptions(std::move(table))},
           {"filter", ac::FilterNodeOptions(cp::greater(cp::field_ref("distance"),
                                                        cp::literal(int64_t{500})))},
           {"aggregate", ac::AggregateNodeOptions(
                             {{"hash_count", nullptr, "flight", "flights"},
                              {"hash_sum", nullptr, "dep_delay", "sum_dep_delay"},
                              {"hash_max", nullptr, "arr_delay", "max_arr_delay"}},
                             {"origin", "carrier"})}}),
      {"origin", "carrier"});
}

}  // namespace

arrow::Result<std::shared_ptr<arrow::Table>> RunQuery(
    const std::string& table_name, std::shared_ptr<arrow::Table> table) {
  if (table_name == "lineitem") {
    ARROW_ASSIGN_OR_RAISE(
        table, table->SelectColumns({table->schema()->GetFieldIndex("l_returnflag"),
                                     table->schema()->GetFieldIndex("l_linestatus"),
                                     table->schema()->GetFieldIndex("l_quantity"),
                                     table->schema()->GetFieldIndex("l_extendedprice"),
                                     table->schema()->GetFieldIndex("l_shipdate")}));
    return ac::DeclarationToTable(PricingSummary(std::move(table)));
  }
  return ac::DeclarationToTable(DelaysByOrigin(std::move(table)));
}

arrow::Result<std::shared_ptr<arrow::Table>> MergeAnswers(
    const std::string& table_name, std::shared_ptr<arrow::Table> answers) {
  // Sums and counts of parts are summed up; of largest values, the largest.
  const auto merge = [&](const std::vector<std::string>& sums,
                         const std::vector<std::string>& largest,
                         const std::vector<std::string>& keys) {
    std::vector<cp::Aggregate> aggregates;
    aggregates.reserve(sums.size() + largest.size());
    for (const auto& name : sums)
      aggregates.emplace_back("hash_sum", nullptr, name, name);
    for (const auto& name : largest)
      aggregates.emplace_back("hash_max", nullptr, name, name);
    const std::vector<arrow::FieldRef> key_refs(keys.begin(), keys.end());
    return ac::DeclarationToTable(
        Sorted(ac::Declaration::Sequence(
                   {{"table_source", ac::TableSourceNodeOptions(std::move(answers))},
                    {"aggregate", ac::AggregateNodeOptions(aggregates, key_refs)}}),
               keys));
  };
  if (table_name == "lineitem") {
    return merge({"sum_qty", "sum_price", "count_order"}, {},
                 {"l_returnflag", "l_linestatus"});
  }
  return merge({"flights", "sum_dep_delay"}, {"max_arr_delay"}, {"origin", "carrier"});
}

const char* QueryText(const std::string& table_name) {
  return table_name == "lineitem"
             ? "TPC-H 1: sums by return flag and line status"
             : "delays of flights over 500 miles by origin and carrier";
}

}  // namespace sheaf::demo
