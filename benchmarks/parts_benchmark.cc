// Question: what does the open of a table cost whose parts lie on four nodes, 100 on
// each, and of one of its 16 columns? Bounding resource: one core. A part costs a lease
// (a cell, a fence, a slot), and for each column an ArrayData, an Array and a Buffer: 16
// columns x about 200 ns, so 3 to 4 us of building a part and under 1 us of leasing it.
// Required: under 5 us a part; ratios within the run: to a table of the same chunks in
// one put, which needs one lease only, so that what is left is the price of parts.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/builder_primitive.h>
#include <arrow/result.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <benchmark/benchmark.h>

#include "base/check.h"
#include "sheaf/sheaf.h"
#include "testing/test_cluster.h"

namespace sheaf {
namespace {

constexpr uint32_t kNodes = 4;
constexpr int kColumns = 16;
constexpr int64_t kRows = 64;

template <typename T>
T Must(arrow::Result<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
    SHEAF_CHECK(false);
  }
  return std::move(result).ValueUnsafe();
}

std::shared_ptr<arrow::Table> MakePart() {
  arrow::FieldVector fields;
  arrow::ArrayVector arrays;
  for (int i = 0; i < kColumns; ++i) {
    arrow::Int64Builder builder;
    for (int64_t row = 0; row < kRows; ++row) SHEAF_CHECK(builder.Append(row * i).ok());
    fields.push_back(arrow::field("c" + std::to_string(i), arrow::int64()));
    arrays.push_back(Must(builder.Finish()));
  }
  return arrow::Table::Make(arrow::schema(fields), arrays, kRows);
}

using Seconds = std::chrono::duration<double>;

template <typename Open>
double TimeOf(int64_t rows, const Open& open) {
  const auto start = std::chrono::steady_clock::now();
  const std::shared_ptr<arrow::Table> table = Must(open());
  const Seconds taken = std::chrono::steady_clock::now() - start;
  SHEAF_CHECK(table->num_rows() == rows);
  return taken.count();
}

void OpenOfParts(benchmark::State& state) {
  const uint32_t per_node = std::getenv("SHEAF_BENCH_SMOKE") != nullptr ? 5 : 100;
  const uint32_t parts = per_node * kNodes;
  testing::TestClusterOptions options;
  options.nodes = kNodes;
  options.config_toml = "segment_size = \"256MiB\"\n";
  const auto cluster = Must(testing::TestCluster::Start(options));
  std::vector<std::shared_ptr<Store>> stores;
  for (uint32_t k = 0; k < kNodes; ++k) {
    stores.push_back(Must(cluster->Connect(k, /*relocate=*/k != 0)));
  }
  const auto part = MakePart();
  for (uint32_t i = 0; i < parts; ++i) {
    SHEAF_CHECK(PutPart(stores[i % kNodes], "parts", *part, i, parts).ok());
  }
  std::vector<std::shared_ptr<arrow::Table>> copies(parts, part);
  Must(stores[0]->Put("one", *Must(arrow::ConcatenateTables(copies))));

  const int64_t rows = parts * kRows;
  double whole = 0;
  double projection = 0;
  double one = 0;
  Store& reader = *stores[1];
  GetOptions column;
  column.columns = {{"c7"}};
  for ([[maybe_unused]] auto _ : state) {
    const double taken = TimeOf(rows, [&] { return reader.Get("parts"); });
    state.SetIterationTime(taken);
    whole += taken;
    projection += TimeOf(rows, [&] { return reader.Get("parts", column); });
    one += TimeOf(rows, [&] { return reader.Get("one"); });
  }
  const double opens = static_cast<double>(state.iterations()) * parts;
  state.counters["us_per_part"] = whole / opens * 1e6;
  state.counters["us_per_part_1_of_16_columns"] = projection / opens * 1e6;
  state.counters["us_per_chunk_of_one_put"] = one / opens * 1e6;
  state.counters["ratio_to_one_put"] = whole / one;
  state.counters["ratio_of_projection"] = projection / whole;
}

BENCHMARK(OpenOfParts)->UseManualTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace sheaf
