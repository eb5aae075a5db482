// Question: does building in the region cost what building in private memory costs?
// Bounding resource: up to 64 KiB the lock and the bookkeeping of one allocate and one
// free; from 1 MiB on the first touch of each page, which private memory pays in page
// faults whenever its allocator gave pages back, and the region does not, because its
// home keeps granted memory touched. Back of the envelope: two uncontended locks of 7 ns
// each, a list's pop and push at 5 ns, counters 2 ns: 30 ns, where Arrow's default pool
// (mimalloc behind four atomic counters) takes 35 ns. A touch is one cache miss, 5 to 15
// ns a page (4 KiB); a page fault 250 to 500 ns. Required: within 3x of Arrow's default
// pool at 64 B and 4 KiB, faster at 1 MiB and more.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/array/array_binary.h>
#include <arrow/array/builder_binary.h>
#include <arrow/memory_pool.h>
#include <arrow/status.h>
#include <benchmark/benchmark.h>

#include "alloc/region_memory_pool.h"
#include "base/check.h"
#include "testing/arena_extent_source.h"

namespace sheaf::alloc {
namespace {

constexpr uint64_t kArenaBytes = uint64_t{512} << 20;
constexpr int64_t kPageBytes = 4096;

enum class Which : uint8_t { kArrowDefault, kRegion };

// One of the two pools, with an arena of its own.
class PoolUnderTest {
 public:
  explicit PoolUnderTest(Which which) {
    if (which == Which::kArrowDefault) return;
    arena_ = std::make_unique<testing::ArenaExtentSource>(
        kArenaBytes, testing::ArenaExtentSource::Mode::kWarm);
    region_ = std::make_unique<RegionMemoryPool>(arena_.get());
  }
  arrow::MemoryPool* get() const {
    return region_ != nullptr ? region_.get() : arrow::default_memory_pool();
  }

 private:
  std::unique_ptr<testing::ArenaExtentSource> arena_;
  std::unique_ptr<RegionMemoryPool> region_;
};

uint8_t* Allocate(arrow::MemoryPool* pool, int64_t size) {
  uint8_t* address = nullptr;
  SHEAF_CHECK(pool->Allocate(size, &address).ok());
  return address;
}

void TouchPages(uint8_t* address, int64_t size) {
  for (int64_t offset = 0; offset < size; offset += kPageBytes) {
    address[offset] = 1;
    benchmark::ClobberMemory();
  }
}

void PoolAllocateFree(benchmark::State& state, Which which) {
  const PoolUnderTest pool(which);
  const int64_t size = state.range(0);
  for (auto _ : state) {
    uint8_t* const address = Allocate(pool.get(), size);
    benchmark::DoNotOptimize(address);
    pool.get()->Free(address, size);
  }
  SHEAF_CHECK(which == Which::kArrowDefault || pool.get()->bytes_allocated() == 0);
}

void PoolAllocateTouchFree(benchmark::State& state, Which which) {
  const PoolUnderTest pool(which);
  const int64_t size = state.range(0);
  for (auto _ : state) {
    uint8_t* const address = Allocate(pool.get(), size);
    TouchPages(address, size);
    pool.get()->Free(address, size);
  }
  state.SetBytesProcessed(state.iterations() * size);
}

// The same after the pool gave back what was free: private memory to the operating
// system, the region to its home. So each page is touched for the first time since.
void PoolAllocateFirstTouchFree(benchmark::State& state, Which which) {
  const PoolUnderTest pool(which);
  const int64_t size = state.range(0);
  for (auto _ : state) {
    state.PauseTiming();
    pool.get()->ReleaseUnused();
    state.ResumeTiming();
    uint8_t* const address = Allocate(pool.get(), size);
    TouchPages(address, size);
    pool.get()->Free(address, size);
  }
  state.SetBytesProcessed(state.iterations() * size);
}

// Many live at a time, as the columns of a table are: what one allocation leaves is not
// what the next gets.
void PoolAllocateTouchFreeMany(benchmark::State& state, Which which) {
  const PoolUnderTest pool(which);
  const int64_t size = state.range(0);
  const auto count = static_cast<size_t>(state.range(1));
  std::vector<uint8_t*> live(count);
  for (auto _ : state) {
    for (uint8_t*& address : live) {
      address = Allocate(pool.get(), size);
      TouchPages(address, size);
    }
    for (uint8_t* address : live) pool.get()->Free(address, size);
  }
  state.SetItemsProcessed(state.iterations() * state.range(1));
}

void PoolStringBuilder(benchmark::State& state, Which which) {
  const PoolUnderTest pool(which);
  const int64_t num_values = state.range(0);
  std::vector<std::string> values;
  values.reserve(1000);
  for (int i = 0; i < 1000; ++i) values.push_back("value " + std::to_string(i * 7919));
  for (auto _ : state) {
    arrow::StringBuilder builder(pool.get());
    for (int64_t i = 0; i < num_values; ++i) {
      SHEAF_CHECK(builder.Append(values[static_cast<size_t>(i % 1000)]).ok());
    }
    std::shared_ptr<arrow::StringArray> array;
    SHEAF_CHECK(builder.Finish(&array).ok());
    SHEAF_CHECK(array->length() == num_values && array->GetView(1) == values[1]);
  }
  state.SetItemsProcessed(state.iterations() * num_values);
}

void Sizes(benchmark::internal::Benchmark* b) {
  for (const int64_t size : {64, 4096, 65536, 1 << 20, 16 << 20}) b->Arg(size);
}
void TouchedSizes(benchmark::internal::Benchmark* b) {
  for (const int64_t size : {65536, 1 << 20, 16 << 20}) b->Arg(size);
}
void Many(benchmark::internal::Benchmark* b) {
  b->Args({64, 10'000})->Args({4096, 1000})->Args({1 << 20, 32})->Args({16 << 20, 4});
}

BENCHMARK_CAPTURE(PoolAllocateFree, default, Which::kArrowDefault)->Apply(Sizes);
BENCHMARK_CAPTURE(PoolAllocateFree, region, Which::kRegion)->Apply(Sizes);
BENCHMARK_CAPTURE(PoolAllocateTouchFree, default, Which::kArrowDefault)
    ->Apply(TouchedSizes);
BENCHMARK_CAPTURE(PoolAllocateTouchFree, region, Which::kRegion)->Apply(TouchedSizes);
BENCHMARK_CAPTURE(PoolAllocateFirstTouchFree, default, Which::kArrowDefault)
    ->Apply(TouchedSizes);
BENCHMARK_CAPTURE(PoolAllocateFirstTouchFree, region, Which::kRegion)
    ->Apply(TouchedSizes);
BENCHMARK_CAPTURE(PoolAllocateTouchFreeMany, default, Which::kArrowDefault)->Apply(Many);
BENCHMARK_CAPTURE(PoolAllocateTouchFreeMany, region, Which::kRegion)->Apply(Many);
BENCHMARK_CAPTURE(PoolStringBuilder, default, Which::kArrowDefault)->Arg(1'000'000);
BENCHMARK_CAPTURE(PoolStringBuilder, region, Which::kRegion)->Arg(1'000'000);

}  // namespace
}  // namespace sheaf::alloc
