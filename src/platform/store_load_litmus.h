// A litmus test for fences. For tests only.

#pragma once

#include <sched.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <thread>

namespace sheaf::platform {

/// \brief Runs the calling thread on the `index`th CPU that it may use, if there are so
/// many: two threads on one CPU prove nothing about fences.
inline void PinToCpu(size_t index) {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  for (size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || index-- > 0) continue;
    cpu_set_t wanted;
    CPU_ZERO(&wanted);
    CPU_SET(cpu, &wanted);
    ::sched_setaffinity(0, sizeof(wanted), &wanted);
    return;
  }
}

/// \brief The lease protocol's pattern (docs/protocol.md section 1): two threads each
/// store to their own word and then load the other's. Returns in how many of 50,000
/// rounds neither saw the other's store: 0 if `store_and_fence(word, value)` fences.
/// Without a fence x86-64 shows hundreds, on one core none.
template <typename StoreAndFence>
uint64_t CountLoadsThatPassedStores(StoreAndFence store_and_fence) {
  constexpr uint64_t kRounds = 50000;
  constexpr int kSpinsBeforeYield = 1000;
  constexpr uint32_t kDelayMax = 15;  // Steps; a store waits about as long for its line.
  struct Side {
    alignas(128) uint64_t word = 0;
    alignas(128) std::atomic<uint64_t> loaded = 0;
    alignas(128) std::atomic<uint64_t> steps = 0;
  };
  std::array<Side, 2> sides;
  const auto meet = [&](size_t mine, uint64_t step) {
    sides[mine].steps.store(step);
    for (int i = 0; sides[1 - mine].steps.load() < step; ++i) {
      if (i > kSpinsBeforeYield) std::this_thread::yield();
    }
  };
  const auto play = [&](size_t mine) {
    std::minstd_rand random(static_cast<uint32_t>(mine) + 1);
    PinToCpu(mine);
    uint64_t passed = 0;
    for (uint64_t round = 1; round <= kRounds; ++round) {
      meet(mine, 2 * round - 1);
      for (uint32_t i = static_cast<uint32_t>(random()) % (kDelayMax + 1); i > 0; --i) {
        std::atomic_signal_fence(std::memory_order_seq_cst);
      }
      store_and_fence(&sides[mine].word, round);
      sides[mine].loaded.store(
          std::atomic_ref<uint64_t>(sides[1 - mine].word).load(std::memory_order_relaxed),
          std::memory_order_relaxed);
      meet(mine, 2 * round);
      if (sides[0].loaded.load() != round && sides[1].loaded.load() != round) ++passed;
    }
    return passed;
  };
  uint64_t passed = 0;
  std::thread first(play, 0);
  std::thread second([&] { passed = play(1); });
  first.join();
  second.join();
  return passed;
}

}  // namespace sheaf::platform
