// Question: what does it cost to build in another node's memory? Its home is asked for
// extents of up to 16 MiB, by one message through two daemons (two round trips over UNIX
// sockets, some 100 us), so 1 GiB takes about 70 messages, 10 ms at most, where the home
// makes as many pages (500 ms/GiB of new ones) and the builder stores as many bytes (80
// ms/GiB) wherever they lie. Bounding resource: memory. Required, as ratios within one
// run: a table of 1 GiB built in memory_pool(1) takes at most 1.01 of the time that it
// takes in the own node's, where the extents are held already; what the messages alone
// cost is Acquire: the same number of extents, whose memory is there, taken and given
// back.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/array_primitive.h>
#include <arrow/buffer.h>
#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <benchmark/benchmark.h>

#include "base/check.h"
#include "sheaf/sheaf.h"
#include "testing/test_cluster.h"

namespace sheaf {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;

// SHEAF_BENCH_SMOKE=1 keeps tables to 16 MiB: to see that everything works.
bool IsSmall() { return std::getenv("SHEAF_BENCH_SMOKE") != nullptr; }
int64_t TableBytes() { return IsSmall() ? 16 * kMiB : kGiB; }

template <typename T>
T Must(arrow::Result<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
    SHEAF_CHECK(false);
  }
  return std::move(result).ValueUnsafe();
}

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A cluster of two nodes, whose memory is there from the start. One at a time.
struct Nodes {
  explicit Nodes(const std::string& keys) {
    testing::TestClusterOptions options;
    options.config_toml = std::string("segment_size = \"") +
                          (IsSmall() ? "256MiB" : "2GiB") + "\"\nprealloc = true\n" +
                          keys;
    cluster = Must(testing::TestCluster::Start(options));
    store = Must(cluster->Connect(0));
  }
  std::unique_ptr<testing::TestCluster> cluster;
  std::shared_ptr<Store> store;
};

constexpr int kColumns = 64;

// As builders do it: columns that are filled one after the other.
std::shared_ptr<arrow::Table> Build(arrow::MemoryPool* pool) {
  const int64_t rows = TableBytes() / kColumns / 8;
  arrow::FieldVector fields;
  arrow::ArrayVector columns;
  for (int i = 0; i < kColumns; ++i) {
    std::shared_ptr<arrow::Buffer> values = Must(arrow::AllocateBuffer(rows * 8, pool));
    auto* words = reinterpret_cast<int64_t*>(values->mutable_data());
    std::fill(words, words + rows, i);
    fields.push_back(arrow::field(std::to_string(i), arrow::int64()));
    columns.push_back(std::make_shared<arrow::Int64Array>(rows, std::move(values)));
  }
  return arrow::Table::Make(arrow::schema(std::move(fields)), std::move(columns), rows);
}

// Build, put there without a copy, remove. The clock stops before the removal, or before
// the put.
void BuildOn(benchmark::State& state, const std::string& keys, bool with_put) {
  const auto node = static_cast<uint32_t>(state.range(0));
  Nodes nodes(keys);
  arrow::MemoryPool* const pool = Must(nodes.store->memory_pool(node));
  for ([[maybe_unused]] auto _ : state) {
    const auto start = Clock::now();
    auto table = Build(pool);
    double seconds = SecondsSince(start);
    const PutReceipt receipt = Must(nodes.store->Share(*table, {.on = node}));
    if (with_put) seconds = SecondsSince(start);
    state.SetIterationTime(seconds);
    SHEAF_CHECK(receipt.bytes_copied == 0 && receipt.bytes_on.size() == 1);
    table.reset();
    SHEAF_CHECK(nodes.store->Drop(receipt.handle).ok());
    const auto is_free = [&] {
      const NodeInfo info = Must(nodes.store->Nodes())[node];
      return info.objects == 0;
    };
    while (!is_free()) continue;
  }
}

void BuildBy(benchmark::State& state) { BuildOn(state, "", /*with_put=*/false); }
void BuildAndPutBy(benchmark::State& state) { BuildOn(state, "", /*with_put=*/true); }
// Table 1 of the paper: with write-back of what was built.
void BuildAndPutIncoherentBy(benchmark::State& state) {
  BuildOn(state, "coherence = \"software\"\n", /*with_put=*/true);
}

// The extents of such a table alone: taken and given back, no byte stored.
void AcquireBy(benchmark::State& state) {
  const auto node = static_cast<uint32_t>(state.range(0));
  Nodes nodes("");
  arrow::MemoryPool* const pool = Must(nodes.store->memory_pool(node));
  const int64_t bytes = TableBytes() / kColumns;
  for ([[maybe_unused]] auto _ : state) {
    const auto start = Clock::now();
    std::vector<std::unique_ptr<arrow::Buffer>> buffers;
    for (int i = 0; i < kColumns; ++i) {
      buffers.push_back(Must(arrow::AllocateBuffer(bytes, pool)));
    }
    state.SetIterationTime(SecondsSince(start));
    buffers.clear();
    pool->ReleaseUnused();
  }
}

// By node: 0 is the store's own.
BENCHMARK(BuildBy)->Arg(0)->Arg(1)->UseManualTime();
BENCHMARK(BuildAndPutBy)->Arg(0)->Arg(1)->UseManualTime();
BENCHMARK(BuildAndPutIncoherentBy)->Arg(0)->Arg(1)->UseManualTime();
BENCHMARK(AcquireBy)->Arg(0)->Arg(1)->UseManualTime();

}  // namespace
}  // namespace sheaf
