#include "platform/cache.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/bus_error.h"
#include "platform/cache_instructions.h"
#include "platform/process.h"
#include "platform/sanitizer.h"

namespace sheaf::platform {
namespace {

#if SHEAF_THREAD_SANITIZER
/// Thread sanitizer knows neither fences nor instructions, but read-modify-writes of one
/// word: of two threads that fence, the later sees what the earlier did before.
void TellThreadSanitizer() {
  static std::atomic<uint64_t> fences = 0;
  fences.fetch_add(1, std::memory_order_seq_cst);
}
#else
void TellThreadSanitizer() {}
#endif

/// Orders stores before later loads between nodes that hardware keeps coherent.
void CoherentFence() {
#if SHEAF_THREAD_SANITIZER
  TellThreadSanitizer();
#elif defined(__x86_64__)
  std::atomic_thread_fence(std::memory_order_seq_cst);  // A locked operation, a few ns.
#else
  // The language's fence ends at this host (AArch64: dmb ish); other nodes are beyond.
  if (CanFlushLines()) {
    FullFence();
  } else {
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
#endif
}

class CoherentCacheControl final : public CacheControl {
 public:
  void Flush(const void* /*address*/, size_t /*size_bytes*/) override {}
  void Fence() override { CoherentFence(); }
  void Invalidate(const void* /*address*/, size_t /*size_bytes*/) override {}
  void Settle(const void* /*address*/, size_t /*size_bytes*/) override {}
  bool coherent() const override { return true; }
  size_t line_bytes() const override { return CacheLineBytes(); }
};

/// Loads a byte of every line of the range, none outside of it.
void LoadEveryLine(const void* address, size_t size_bytes, size_t line_bytes) {
  const auto* begin = static_cast<const uint8_t*>(address);
  const auto* end = begin + size_bytes;
  const size_t past_line = reinterpret_cast<uintptr_t>(address) & (line_bytes - 1);
  for (const uint8_t* byte = begin; byte < end;) {
    __atomic_load_n(byte,
                    __ATOMIC_RELAXED);  // std::atomic_ref takes no const before C++26.
    byte += byte == begin ? line_bytes - past_line : line_bytes;
  }
}

class SoftwareCacheControl final : public CacheControl {
 public:
  SoftwareCacheControl(SettleClass settle_class, std::chrono::microseconds posted_delay)
      : settle_class_(settle_class), posted_delay_(posted_delay) {}

  void Flush(const void* address, size_t size_bytes) override {
    FlushLines(address, size_bytes);
  }

  void Fence() override {
    FullFence();
    TellThreadSanitizer();
  }

  void Invalidate(const void* address, size_t size_bytes) override {
    Flush(address, size_bytes);
    Fence();
  }

  arrow::Status InvalidateGuarded(const void* address, size_t size_bytes) override {
    const size_t past_line = reinterpret_cast<uintptr_t>(address) % line_bytes();
    const MemoryRange lines = {static_cast<const uint8_t*>(address) - past_line,
                               past_line + size_bytes};
    const arrow::Status flushed =
        GuardBusError({lines}, [=] { FlushLines(address, size_bytes); });
    Fence();
    return flushed;
  }

  void Settle(const void* address, size_t size_bytes) override {
    Flush(address, size_bytes);
    Fence();
    switch (settle_class_) {
      case SettleClass::kArrived:
        return;
      case SettleClass::kOrdered:
        // LOAD! of every line: behind the write to it, so it has arrived once the load
        // returns.
        Invalidate(address, size_bytes);
        LoadEveryLine(address, size_bytes, CacheLineBytes());
        Fence();
        return;
      case SettleClass::kPosted:
        SleepFor(posted_delay_);
        return;
    }
  }

  bool coherent() const override { return false; }
  size_t line_bytes() const override { return CacheLineBytes(); }

 private:
  const SettleClass settle_class_;
  const std::chrono::microseconds posted_delay_;
};

}  // namespace

std::unique_ptr<CacheControl> MakeCoherentCacheControl() {
  return std::make_unique<CoherentCacheControl>();
}

arrow::Result<std::unique_ptr<CacheControl>> MakeSoftwareCacheControl(
    SettleClass settle_class, int64_t posted_delay_us) {
  if (posted_delay_us < 0) {
    return arrow::Status::Invalid("posted delay of ", posted_delay_us, " us is negative");
  }
  if (!CanFlushLines()) {
    return arrow::Status::NotImplemented(
        "programs on this CPU cannot flush cache lines: only coherent memory works here");
  }
  return std::make_unique<SoftwareCacheControl>(
      settle_class, std::chrono::microseconds(posted_delay_us));
}

std::string CacheInstructions() { return NativeInstructions().names; }

}  // namespace sheaf::platform
