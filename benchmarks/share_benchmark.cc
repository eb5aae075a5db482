// Question: does sharing cost the same at 1 KiB and at 4 GiB, and with 1 column and
// 1,000? What does a put cost that must copy? Does reading shared memory cost what
// reading private memory costs? Bounding resource: put and open of what lies in the
// region touch no data byte: a put is one round trip to the daemon over a UNIX socket (2
// x 25 us of wake-ups on a virtual machine, less on a busy one) and a few microseconds of
// descriptor per column; an open is loads of a few lines. A copying put is bound by
// memory bandwidth: streaming stores reach 25 GiB/s here, so 40 ms/GiB. A sum is bound by
// reading: 27 ms/GiB. Required, as ratios within one run: put and open flat within 2x
// from 1 KiB to 4 GiB; copying put at least 0.85 of a bare streaming copy (warm); sum at
// least 0.95 of private memory with the same page size. tools/bench_ratios.py computes
// them from the JSON.

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/array_primitive.h>
#include <arrow/buffer.h>
#include <arrow/c/abi.h>
#include <arrow/c/bridge.h>
#include <arrow/compute/api_aggregate.h>
#include <arrow/compute/initialize.h>
#include <arrow/result.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <benchmark/benchmark.h>

#include "base/check.h"
#include "platform/cache.h"
#include "sheaf/sheaf.h"
#include "testing/test_cluster.h"

namespace sheaf {
namespace {

using Clock = std::chrono::steady_clock;
using arrow::Table;

constexpr int64_t kKiB = 1024;
constexpr int64_t kMiB = kKiB * kKiB;
constexpr int64_t kGiB = kMiB * kKiB;

// SHEAF_BENCH_SMOKE=1 keeps tables to 16 MiB: to see that everything works.
bool IsSmall() { return std::getenv("SHEAF_BENCH_SMOKE") != nullptr; }

template <typename T>
T Must(arrow::Result<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
    SHEAF_CHECK(false);
  }
  return std::move(result).ValueUnsafe();
}

// A cluster of two nodes for the whole run, and a store on each.
struct Bench {
  explicit Bench(bool huge_pages) {
    testing::TestClusterOptions options;
    options.config_toml = std::string("segment_size = \"") +
                          (IsSmall() ? "256MiB" : "7GiB") +
                          "\"\nhuge_pages = " + (huge_pages ? "true" : "false") + "\n";
    cluster = Must(testing::TestCluster::Start(options));
    writer = Must(cluster->Connect(0));
    reader = Must(cluster->Connect(1));
  }
  std::unique_ptr<testing::TestCluster> cluster;
  std::shared_ptr<Store> writer;
  std::shared_ptr<Store> reader;
};

std::unique_ptr<Bench>& Current() {
  static std::unique_ptr<Bench> bench;
  return bench;
}

Bench& Shared() {
  if (Current() == nullptr) {
    SHEAF_CHECK(arrow::compute::Initialize().ok());
    std::atexit([] { Current().reset(); });
    Current() = std::make_unique<Bench>(/*huge_pages=*/true);
  }
  return *Current();
}

// `columns` columns of int64 ones, `bytes` in all.
std::shared_ptr<Table> MakeTable(int64_t bytes, int columns, arrow::MemoryPool* pool) {
  const int64_t rows = std::max<int64_t>(bytes / columns / 8, 1);
  std::vector<std::shared_ptr<arrow::Field>> fields;
  std::vector<std::shared_ptr<arrow::Array>> arrays;
  for (int i = 0; i < columns; ++i) {
    std::shared_ptr<arrow::Buffer> values = Must(arrow::AllocateBuffer(rows * 8, pool));
    auto* words = reinterpret_cast<int64_t*>(values->mutable_data());
    std::fill(words, words + rows, 1);
    fields.push_back(arrow::field("c" + std::to_string(i), arrow::int64()));
    arrays.push_back(std::make_shared<arrow::Int64Array>(rows, std::move(values)));
  }
  return Table::Make(arrow::schema(std::move(fields)), arrays, rows);
}

int64_t Limited(int64_t bytes) { return IsSmall() ? std::min(bytes, 16 * kMiB) : bytes; }

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Time of one Share; the drop that follows is not counted.
void TimeShares(benchmark::State& state, const Table& table) {
  Store& store = *Shared().writer;
  for ([[maybe_unused]] auto _ : state) {
    const auto start = Clock::now();
    const PutReceipt receipt = Must(store.Share(table));
    state.SetIterationTime(SecondsSince(start));
    SHEAF_CHECK(receipt.bytes_copied == 0);
    SHEAF_CHECK(store.Drop(receipt.handle).ok());
  }
}

void TimeOpens(benchmark::State& state, const Table& table) {
  const PutReceipt receipt = Must(Shared().writer->Share(table));
  for ([[maybe_unused]] auto _ : state) {
    const auto start = Clock::now();
    auto opened = Must(Shared().reader->Open(receipt.handle));
    state.SetIterationTime(SecondsSince(start));
    SHEAF_CHECK(opened->num_rows() == table.num_rows());
  }
  SHEAF_CHECK(Shared().writer->Drop(receipt.handle).ok());
}

void PutBuiltBySize(benchmark::State& state) {
  TimeShares(state,
             *MakeTable(Limited(state.range(0)), 1, Shared().writer->memory_pool()));
}

void OpenBySize(benchmark::State& state) {
  TimeOpens(state,
            *MakeTable(Limited(state.range(0)), 1, Shared().writer->memory_pool()));
}

void PutBuiltByColumns(benchmark::State& state) {
  const auto columns = static_cast<int>(state.range(0));
  TimeShares(state, *MakeTable(columns * kKiB, columns, Shared().writer->memory_pool()));
}

void OpenByColumns(benchmark::State& state) {
  const auto columns = static_cast<int>(state.range(0));
  TimeOpens(state, *MakeTable(columns * kKiB, columns, Shared().writer->memory_pool()));
}

void SetBytes(benchmark::State& state, int64_t bytes) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * bytes);
}

// Warm: the region's memory was touched before, as it is in a cluster that has run for a
// while.
void PutCopied(benchmark::State& state) {
  const int64_t bytes = Limited(state.range(0));
  const auto table = MakeTable(bytes, 8, arrow::default_memory_pool());
  Store& store = *Shared().writer;
  SHEAF_CHECK(store.Drop(Must(store.Share(*table)).handle).ok());
  for ([[maybe_unused]] auto _ : state) {
    const auto start = Clock::now();
    const PutReceipt receipt = Must(store.Share(*table));
    state.SetIterationTime(SecondsSince(start));
    SHEAF_CHECK(receipt.bytes_copied == receipt.bytes);
    SHEAF_CHECK(store.Drop(receipt.handle).ok());
  }
  SetBytes(state, bytes);
}

// The baseline of PutCopied: the same bytes, streamed into memory of the region that
// stays allocated.
void BareStreamingCopy(benchmark::State& state) {
  const int64_t bytes = Limited(state.range(0));
  const auto table = MakeTable(bytes, 8, arrow::default_memory_pool());
  auto target = Must(arrow::AllocateBuffer(bytes, Shared().writer->memory_pool()));
  for ([[maybe_unused]] auto _ : state) {
    const auto start = Clock::now();
    uint8_t* to = target->mutable_data();
    for (const auto& column : table->columns()) {
      const arrow::Buffer& from = *column->chunk(0)->data()->buffers[1];
      platform::StreamingCopy(to, from.data(), static_cast<size_t>(from.size()));
      to += from.size();
    }
    state.SetIterationTime(SecondsSince(start));
  }
  SetBytes(state, bytes);
}

// Cold: the first put into memory that nobody has touched, in a cluster of its own.
void PutCopiedCold(benchmark::State& state) {
  const int64_t bytes = Limited(state.range(0));
  const auto table = MakeTable(bytes, 8, arrow::default_memory_pool());
  for ([[maybe_unused]] auto _ : state) {
    Current().reset();
    Bench& bench = Shared();
    const auto start = Clock::now();
    const PutReceipt receipt = Must(bench.writer->Share(*table));
    state.SetIterationTime(SecondsSince(start));
    SHEAF_CHECK(receipt.bytes_copied == receipt.bytes);
  }
  SetBytes(state, bytes);
}

int64_t Sum(const Table& table) {
  const auto sum = Must(arrow::compute::Sum(table.column(0)));
  return static_cast<const arrow::Int64Scalar&>(*sum.scalar()).value;
}

void TimeSums(benchmark::State& state, const Table& table) {
  SHEAF_CHECK(Sum(table) == table.num_rows());  // also touches every page
  for ([[maybe_unused]] auto _ : state) {
    const auto start = Clock::now();
    benchmark::DoNotOptimize(Sum(table));
    state.SetIterationTime(SecondsSince(start));
  }
  SetBytes(state, table.num_rows() * 8);
}

void SumOpened(benchmark::State& state) {
  const auto table =
      MakeTable(Limited(state.range(0)), 1, Shared().writer->memory_pool());
  const PutReceipt receipt = Must(Shared().writer->Share(*table));
  TimeSums(state, *Must(Shared().reader->Open(receipt.handle)));
  SHEAF_CHECK(Shared().writer->Drop(receipt.handle).ok());
}

// Private memory with pages of the size that the region got.
void SumPrivate(benchmark::State& state) {
  const int64_t bytes = Limited(state.range(0));
  const auto size = static_cast<size_t>(bytes);
  void* memory = ::mmap(nullptr, size + 2 * kMiB, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  SHEAF_CHECK(memory != MAP_FAILED);
  const bool huge = Must(Shared().writer->Nodes())[0].page_bytes > 4096;
  ::madvise(memory, size + 2 * kMiB, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  const auto aligned =
      (reinterpret_cast<uintptr_t>(memory) + 2 * kMiB - 1) & ~(2 * kMiB - 1);
  auto* words = reinterpret_cast<int64_t*>(aligned);
  std::fill(words, words + bytes / 8, 1);
  auto values = std::make_shared<arrow::Buffer>(reinterpret_cast<uint8_t*>(words), bytes);
  const auto table =
      Table::Make(arrow::schema({arrow::field("c0", arrow::int64())}),
                  {std::make_shared<arrow::Int64Array>(bytes / 8, std::move(values))});
  TimeSums(state, *table);
  ::munmap(memory, size + 2 * kMiB);
}

// Runs `work` in a child that has mapped nothing of the region yet; gives its result in
// seconds.
double InFreshProcess(const std::function<double()>& work) {
  int ends[2];
  SHEAF_CHECK(::pipe(ends) == 0);
  const pid_t child = ::fork();
  SHEAF_CHECK(child >= 0);
  if (child == 0) {
    const double seconds = work();
    const bool sent = ::write(ends[1], &seconds, sizeof(seconds)) == sizeof(seconds);
    ::_exit(sent ? 0 : 1);
  }
  ::close(ends[1]);
  double seconds = 0;
  SHEAF_CHECK(::read(ends[0], &seconds, sizeof(seconds)) == sizeof(seconds));
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return seconds;
}

// What a reader that starts pays: connect, open, and the page faults of reading
// everything once.
void OpenAndSumInFreshProcess(benchmark::State& state) {
  const bool huge_pages = state.range(1) != 0;
  Current().reset();
  Current() = std::make_unique<Bench>(huge_pages);
  const auto table =
      MakeTable(Limited(state.range(0)), 1, Current()->writer->memory_pool());
  const PutReceipt receipt = Must(Current()->writer->Share(*table));
  for ([[maybe_unused]] auto _ : state) {
    state.SetIterationTime(InFreshProcess([&] {
      const auto start = Clock::now();
      auto store = Must(Current()->cluster->Connect(1));
      auto opened = Must(store->Open(receipt.handle));
      SHEAF_CHECK(Sum(*opened) == opened->num_rows());
      return SecondsSince(start);
    }));
  }
  state.counters["page_bytes"] =
      static_cast<double>(Must(Current()->writer->Nodes())[0].page_bytes);
  Current().reset();
}

// Reads four times the last-level cache, so that nothing of ours is left in it: building
// a large table does that, and a small one must not look cheaper because it does not.
void EmptyCaches() {
  static const std::vector<uint64_t> kWords(128 * kMiB / sizeof(uint64_t), 1);
  benchmark::DoNotOptimize(std::accumulate(kWords.begin(), kWords.end(), uint64_t{0}));
}

// Arrow's own pool reserves 1 GiB and clears a first huge page at its first use (0.1 to 5
// ms; exporting a type to name it takes a few bytes there). A process that has a table
// has paid that; our child, which builds in the region only, has not.
void UseDefaultPoolOnce() {
  ArrowSchema exported;
  SHEAF_CHECK(arrow::ExportType(*arrow::int64(), &exported).ok());
  exported.release(&exported);
}

// Cold: the first put of a process that has just connected and built its table.
void PutBuiltBySizeCold(benchmark::State& state) {
  Shared();
  EmptyCaches();  // in this process the memory that the children inherit is made
  for ([[maybe_unused]] auto _ : state) {
    state.SetIterationTime(InFreshProcess([&] {
      auto store = Must(Current()->cluster->Connect(0));
      const auto table = MakeTable(Limited(state.range(0)), 1, store->memory_pool());
      UseDefaultPoolOnce();
      EmptyCaches();
      const auto start = Clock::now();
      const PutReceipt receipt = Must(store->Share(*table));
      const double seconds = SecondsSince(start);
      SHEAF_CHECK(receipt.bytes_copied == 0);
      return seconds;
    }));
  }
}

// Cold: the first open of a process that has just connected.
void OpenBySizeCold(benchmark::State& state) {
  const auto table =
      MakeTable(Limited(state.range(0)), 1, Shared().writer->memory_pool());
  const PutReceipt receipt = Must(Shared().writer->Share(*table));
  EmptyCaches();
  for ([[maybe_unused]] auto _ : state) {
    state.SetIterationTime(InFreshProcess([&] {
      auto store = Must(Current()->cluster->Connect(1));
      EmptyCaches();
      const auto start = Clock::now();
      auto opened = Must(store->Open(receipt.handle));
      const double seconds = SecondsSince(start);
      SHEAF_CHECK(opened->num_rows() == table->num_rows());
      return seconds;
    }));
  }
  SHEAF_CHECK(Shared().writer->Drop(receipt.handle).ok());
}

BENCHMARK(PutBuiltBySize)->RangeMultiplier(16)->Range(kKiB, 4 * kGiB)->UseManualTime();
BENCHMARK(OpenBySize)->RangeMultiplier(16)->Range(kKiB, 4 * kGiB)->UseManualTime();
BENCHMARK(PutBuiltBySizeCold)
    ->RangeMultiplier(64)
    ->Range(kKiB, 4 * kGiB)
    ->Iterations(5)
    ->UseManualTime();
BENCHMARK(OpenBySizeCold)
    ->RangeMultiplier(64)
    ->Range(kKiB, 4 * kGiB)
    ->Iterations(5)
    ->UseManualTime();
BENCHMARK(PutBuiltByColumns)->RangeMultiplier(10)->Range(1, 1000)->UseManualTime();
BENCHMARK(OpenByColumns)->RangeMultiplier(10)->Range(1, 1000)->UseManualTime();
BENCHMARK(BareStreamingCopy)->Arg(64 * kMiB)->Arg(kGiB)->UseManualTime();
BENCHMARK(PutCopied)->Arg(64 * kMiB)->Arg(kGiB)->UseManualTime();
BENCHMARK(SumPrivate)->Arg(kGiB)->UseManualTime();
BENCHMARK(SumOpened)->Arg(kGiB)->UseManualTime();
BENCHMARK(PutCopiedCold)->Arg(kGiB)->Iterations(1)->UseManualTime();
BENCHMARK(OpenAndSumInFreshProcess)
    ->Args({kGiB, 1})
    ->Args({kGiB, 0})
    ->Iterations(3)
    ->UseManualTime();

}  // namespace
}  // namespace sheaf
