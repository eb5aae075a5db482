// Question: what do flushing, fencing and copying past the caches cost?
// Bounding resource: memory bandwidth; for empty lines the rate at which one core can
// issue flushes; for fences the latency of memory. Back of the envelope: an empty line
// costs 0.65 ns to flush (10 ms/GiB), a dirty one the write of its 64 bytes at 36 GB/s
// (1.8 ns, 28 ms/GiB). A copy reads and writes each byte; memcpy also fetches every line
// it is about to overwrite (3 transfers instead of 2), except where the C library streams
// large copies itself. So streaming should take 0.67 to 0.9 of memcpy's time;
// measured 38.5 against 52.8 ms/GiB. A locked operation takes 5 ns, mfence after a flush
// 200 ns, the round trip of a write.

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include <benchmark/benchmark.h>

#include "base/check.h"
#include "base/math.h"
#include "platform/cache.h"
#include "platform/cache_instructions.h"

#if defined(__x86_64__)
#  include <emmintrin.h>
#endif

namespace sheaf::platform {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;

// Nothing here changes the environment.
bool IsSmoke() {
  return std::getenv("SHEAF_BENCH_SMOKE") != nullptr;  // NOLINT(concurrency-mt-unsafe)
}

// Far larger than any last-level cache here (32 MiB).
size_t LargeBytes() { return IsSmoke() ? size_t{4} << 20 : size_t{256} << 20; }

// Private memory in huge pages, touched: neither faults nor TLB misses are measured.
class Memory {
 public:
  Memory() : reserved_bytes_(LargeBytes() + kHugePageBytes) {
    reserved_ = ::mmap(nullptr, reserved_bytes_, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SHEAF_CHECK(reserved_ != MAP_FAILED);
    const auto begin = reinterpret_cast<uintptr_t>(reserved_);
    data_ = static_cast<uint8_t*>(reserved_) + (RoundUp(begin, kHugePageBytes) - begin);
    ::madvise(data_, LargeBytes(), MADV_HUGEPAGE);
    std::memset(data_, 1, LargeBytes());
  }
  ~Memory() { ::munmap(reserved_, reserved_bytes_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  uint8_t* data() const { return data_; }

 private:
  size_t reserved_bytes_;
  void* reserved_ = nullptr;
  uint8_t* data_ = nullptr;
};

// One pair for all benchmarks: touching so much takes longer than measuring.
uint8_t* Source() {
  static const Memory kMemory;
  return kMemory.data();
}
uint8_t* Destination() {
  static const Memory kMemory;
  return kMemory.data();
}

size_t SizeOf(const benchmark::State& state) {
  return std::min(static_cast<size_t>(state.range(0)), LargeBytes());
}

// Runs `measured` once per iteration, after `prepare`, which is not timed.
template <typename Prepare, typename Measured>
void Measure(benchmark::State& state, Prepare prepare, Measured measured) {
  Source();  // Touched before the first measurement.
  Destination();
  for (auto _ : state) {
    prepare();
    const auto begin = std::chrono::steady_clock::now();
    measured();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    state.SetIterationTime(time.count());
  }
  const auto bytes = static_cast<double>(SizeOf(state));
  state.SetBytesProcessed(static_cast<int64_t>(bytes) * state.iterations());
  state.counters["s_per_GiB"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * bytes / (1 << 30),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

std::unique_ptr<CacheControl> SoftwareControl(benchmark::State& state) {
  auto control = MakeSoftwareCacheControl(SettleClass::kArrived, 0);
  if (control.ok()) return std::move(control).ValueOrDie();
  state.SkipWithError("this CPU offers no cache instructions");
  return nullptr;
}

// ---- Flush

enum class Lines : uint8_t { kEmpty, kClean, kDirty };

void Load(const uint8_t* begin, size_t size_bytes) {
  uint64_t sum = 0;
  for (size_t i = 0; i < size_bytes; i += 64) sum += begin[i];
  benchmark::DoNotOptimize(sum);
}

template <Lines State>
void Flush(benchmark::State& state) {
  const auto control = SoftwareControl(state);
  if (control == nullptr) return;
  uint8_t* begin = Destination();
  const size_t size_bytes = SizeOf(state);
  const auto prepare = [&] {
    if (State == Lines::kEmpty) control->Invalidate(begin, size_bytes);
    if (State == Lines::kClean) Load(begin, size_bytes);
    if (State == Lines::kDirty) std::memset(begin, 2, size_bytes);
    control->Fence();
  };
  Measure(state, prepare, [&] {
    control->Flush(begin, size_bytes);
    control->Fence();
  });
}

void WriteBackDirty(benchmark::State& state) {
  const auto control = SoftwareControl(state);
  if (control == nullptr) return;
  const size_t size_bytes = SizeOf(state);
  const auto prepare = [&] {
    std::memset(Destination(), 2, size_bytes);
    control->Fence();
  };
  Measure(state, prepare, [&] {
    WriteBackLines(Destination(), size_bytes);
    FullFence();
  });
}

void FlushSizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseManualTime()->Arg(64)->Arg(4 << 10)->Arg(1 << 20)->Arg(256 << 20);
}
BENCHMARK(Flush<Lines::kEmpty>)->Apply(FlushSizes);
BENCHMARK(Flush<Lines::kClean>)->Apply(FlushSizes);
BENCHMARK(Flush<Lines::kDirty>)->Apply(FlushSizes);
BENCHMARK(WriteBackDirty)->Apply(FlushSizes);

// ---- Copy

void Memcpy(uint8_t* to, const uint8_t* from, size_t size_bytes) {
  std::memcpy(to, from, size_bytes);
}

void Streaming(uint8_t* to, const uint8_t* from, size_t size_bytes) {
  StreamingCopy(to, from, size_bytes);
}

// What StreamingCopy is measured against: the plainest loop, of whole lines.
void BareStreamingLoop(uint8_t* to, const uint8_t* from, size_t size_bytes) {
#if defined(__x86_64__)
  for (size_t i = 0; i < size_bytes; i += sizeof(__m128i)) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
  }
  _mm_sfence();
#else
  std::memcpy(to, from, size_bytes);
#endif
}

using CopyFunction = void(uint8_t* to, const uint8_t* from, size_t size_bytes);

// The destination's lines are in no cache, as in a fresh grant.
template <CopyFunction* Copy>
void CopyToCold(benchmark::State& state) {
  const size_t size_bytes = SizeOf(state);
  if (!CanFlushLines()) return state.SkipWithError("this CPU cannot flush");
  const auto prepare = [&] {
    FlushLines(Destination(), size_bytes);
    FullFence();
  };
  Measure(state, prepare, [&] { Copy(Destination(), Source(), size_bytes); });
  SHEAF_CHECK(std::memcmp(Destination(), Source(), size_bytes) == 0);
}

// What a put pays on software-coherent memory.
template <CopyFunction* Copy>
void CopyAndSettle(benchmark::State& state) {
  const auto control = SoftwareControl(state);
  if (control == nullptr) return;
  const size_t size_bytes = SizeOf(state);
  const auto prepare = [&] { control->Invalidate(Destination(), size_bytes); };
  Measure(state, prepare, [&] {
    Copy(Destination(), Source(), size_bytes);
    control->Settle(Destination(), size_bytes);
  });
}

void CopySizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseManualTime();
  for (const int64_t size_bytes : {512, 4 << 10, 16 << 10, 1 << 20, 256 << 20}) {
    benchmark->Arg(size_bytes);
  }
}
BENCHMARK(CopyToCold<Memcpy>)->Apply(CopySizes);
BENCHMARK(CopyToCold<BareStreamingLoop>)->Apply(CopySizes);
BENCHMARK(CopyToCold<Streaming>)->Apply(CopySizes);
BENCHMARK(CopyAndSettle<Memcpy>)->Apply(CopySizes);
BENCHMARK(CopyAndSettle<Streaming>)->Apply(CopySizes);

// ---- Fence

// A store, then a fence, as in the lease protocol; the line stays in this core's cache.
void FenceAfterStore(benchmark::State& state, CacheControl* control) {
  alignas(64) uint64_t word = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(++word);
    control->Fence();
  }
}

void CoherentFence(benchmark::State& state) {
  FenceAfterStore(state, MakeCoherentCacheControl().get());
}
BENCHMARK(CoherentFence);

void SoftwareFence(benchmark::State& state) {
  const auto control = SoftwareControl(state);
  if (control != nullptr) FenceAfterStore(state, control.get());
}
BENCHMARK(SoftwareFence);

// A control line made visible to other nodes: store, flush, fence.
void PublishLine(benchmark::State& state) {
  const auto control = SoftwareControl(state);
  if (control == nullptr) return;
  alignas(64) std::array<uint64_t, 8> line = {};
  for (auto _ : state) {
    benchmark::DoNotOptimize(++line[0]);
    control->Flush(line.data(), sizeof(line));
    control->Fence();
  }
}
BENCHMARK(PublishLine);

}  // namespace
}  // namespace sheaf::platform
