#include "platform/cache.h"

#include <signal.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "platform/cache_instructions.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/sanitizer.h"
#include "platform/store_load_litmus.h"
#include "platform/test_folder.h"
#include "sheaf/status.h"
#include "testing/arrow_test.h"

#if defined(__x86_64__)
#  include <cpuid.h>

#  include "platform/cache_x86.h"
#endif

namespace sheaf::platform {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<CacheControl> SoftwareControl(
    SettleClass settle_class = SettleClass::kArrived, int64_t posted_delay_us = 0) {
  auto control = MakeSoftwareCacheControl(settle_class, posted_delay_us);
  return control.ok() ? std::move(control).ValueOrDie() : nullptr;
}

// ---- What can be seen of the protocol's primitives on a coherent machine

TEST(CoherentCacheControl, TouchesNoMemory) {
  const auto control = MakeCoherentCacheControl();
  EXPECT_TRUE(control->coherent());
  control->Flush(nullptr, 4096);
  control->Invalidate(nullptr, 4096);
  control->Settle(nullptr, 4096);
  control->Fence();
  EXPECT_GE(control->line_bytes(), 64U);
}

TEST(SoftwareCacheControl, SaysWhatItUses) {
  const auto control = SoftwareControl();
  if (control == nullptr) {
    EXPECT_EQ(CacheInstructions(), "none");
    GTEST_SKIP() << "this CPU offers no cache instructions";
  }
  EXPECT_FALSE(control->coherent());
  EXPECT_EQ(control->line_bytes(), CacheLineBytes());
#if defined(__x86_64__)
  EXPECT_THAT(CacheInstructions(), HasSubstr("clflush"));
  EXPECT_THAT(CacheInstructions(), HasSubstr("mfence"));
#endif
}

TEST(SoftwareCacheControl, NegativeDelayIsInvalid) {
  EXPECT_TRUE(MakeSoftwareCacheControl(SettleClass::kPosted, -1).status().IsInvalid());
}

/// Every primitive on `bytes`: contents stay.
void ExpectContentsStay(CacheControl* control, uint8_t* bytes, size_t size_bytes) {
  for (size_t i = 0; i < size_bytes; ++i) bytes[i] = static_cast<uint8_t>(i * 13 + 1);
  control->Flush(bytes, size_bytes);
  control->Fence();
  control->Invalidate(bytes, size_bytes);
  control->Settle(bytes, size_bytes);
  for (size_t i = 0; i < size_bytes; ++i) {
    ASSERT_EQ(bytes[i], static_cast<uint8_t>(i * 13 + 1)) << "at " << i;
  }
}

TEST(SoftwareCacheControl, AnyRangeInEveryClassKeepsContents) {
  for (const SettleClass settle_class :
       {SettleClass::kArrived, SettleClass::kOrdered, SettleClass::kPosted}) {
    const auto control = SoftwareControl(settle_class, 1);
    if (control == nullptr) GTEST_SKIP() << "this CPU offers no cache instructions";
    std::array<uint8_t, 1024> bytes;
    for (const size_t offset : {0, 1, 63, 64, 65, 127, 128}) {
      for (const size_t size_bytes : {0, 1, 2, 63, 64, 65, 129, 500}) {
        ExpectContentsStay(control.get(), bytes.data() + offset, size_bytes);
      }
    }
  }
}

TEST(SoftwareCacheControl, EmptyRangeTouchesNothing) {
  const auto control = SoftwareControl(SettleClass::kOrdered);
  if (control == nullptr) GTEST_SKIP() << "this CPU offers no cache instructions";
  control->Flush(nullptr, 0);
  control->Invalidate(nullptr, 0);
  control->Settle(nullptr, 0);
}

TEST(SoftwareCacheControl, PostedSettleWaitsTheWholeDelay) {
  constexpr std::chrono::microseconds kDelay(1500);
  const auto control = SoftwareControl(SettleClass::kPosted, kDelay.count());
  if (control == nullptr) GTEST_SKIP() << "this CPU offers no cache instructions";
  std::array<uint8_t, 64> bytes = {};
  const auto begin = BootTime();
  control->Settle(bytes.data(), bytes.size());
  EXPECT_GE(BootTime() - begin, kDelay);
}

/// A file's mapping that ends where nothing is mapped.
class MappedCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    control_ = SoftwareControl(SettleClass::kOrdered);
    if (control_ == nullptr) GTEST_SKIP() << "this CPU offers no cache instructions";
    ASSERT_OK_AND_ASSIGN(fd_, CreateFile(folder_.File("segment"), kSizeBytes));
    ASSERT_OK_AND_ASSIGN(writer_,
                         Mapping::Map(fd_.get(), kSizeBytes, Access::kReadWrite));
    ASSERT_OK_AND_ASSIGN(reader_, Mapping::Map(fd_.get(), kSizeBytes, Access::kRead));
  }

  void CutFile(size_t size_bytes) const {
    std::filesystem::resize_file(folder_.File("segment"), size_bytes);
  }

  static constexpr size_t kSizeBytes = 1 << 20;
  std::unique_ptr<CacheControl> control_;
  Mapping writer_;
  Mapping reader_;

 private:
  TestFolder folder_;
  UniqueFd fd_;
};

TEST_F(MappedCacheTest, ReadOnlyMappingCanBeFlushedAndInvalidated) {
  std::memset(writer_.data(), 7, kSizeBytes);
  control_->Flush(reader_.data(), kSizeBytes);
  control_->Fence();
  control_->Invalidate(reader_.data(), kSizeBytes);
  control_->Settle(reader_.data(), kSizeBytes);
  EXPECT_EQ(reader_.data()[0], 7);
  EXPECT_EQ(reader_.data()[kSizeBytes - 1], 7);
}

TEST_F(MappedCacheTest, LastByteOfAMappingIsARange) {
  control_->Settle(reader_.data() + kSizeBytes - 1, 1);
  control_->Settle(writer_.data() + kSizeBytes - 1, 1);
}

TEST_F(MappedCacheTest, InvalidatingWhatIsGoneIsAnError) {
  EXPECT_OK(control_->InvalidateGuarded(reader_.data(), kSizeBytes));
  CutFile(kSizeBytes / 2);
  EXPECT_OK(control_->InvalidateGuarded(reader_.data(), kSizeBytes / 2));
  const arrow::Status all = control_->InvalidateGuarded(reader_.data(), kSizeBytes);
  ASSERT_RAISES(IOError, all);
  EXPECT_TRUE(IsDamaged(all)) << all;
  EXPECT_THAT(all.message(), HasSubstr("byte 524288 of 1048576"));
  // The instruction names the start of the line.
  EXPECT_RAISES(IOError, control_->InvalidateGuarded(reader_.data() + kSizeBytes - 1, 1));
}

// ---- That flushing takes effect: a load after it is slow

constexpr bool kSanitized = SHEAF_ADDRESS_SANITIZER != 0 || SHEAF_THREAD_SANITIZER != 0;

/// An emulated CPU (qemu without KVM) takes flushes for no-operations.
bool IsEmulated() {
#if defined(__x86_64__)
  unsigned eax = 0;
  std::array<unsigned, 3> vendor = {};
  __cpuid(0x40000000, eax, vendor[0], vendor[1], vendor[2]);
  return std::memcmp(vendor.data(), "TCGTCGTCGTCG", sizeof(vendor)) == 0;
#else
  return false;
#endif
}

/// Loads that depend on each other, one line each, in an order that no prefetcher
/// guesses.
class LoadChain {
 public:
  /// Line i lies at i * kStride + `shift_bytes` of `memory`.
  LoadChain(uint8_t* memory, size_t shift_bytes) : first_(memory + shift_bytes) {
    std::array<size_t, kLength> order;
    for (size_t i = 0; i < kLength; ++i) order[i] = i;
    std::shuffle(order.begin() + 1, order.end(), std::minstd_rand(42));
    for (size_t i = 0; i < kLength; ++i) {
      const size_t next_offset = order[(i + 1) % kLength] * kStride;
      std::memcpy(first_ + order[i] * kStride, &next_offset, sizeof(next_offset));
    }
  }

  /// Time of one walk, through `alias_bytes` later addresses (another mapping of the
  /// same).
  std::chrono::nanoseconds Walk(ptrdiff_t alias_bytes = 0) const {
    const uint8_t* first = first_ + alias_bytes;
    const auto begin = std::chrono::steady_clock::now();
    size_t offset = 0;
    for (size_t i = 0; i < kLength; ++i) {
      offset = *reinterpret_cast<const volatile size_t*>(first + offset);
    }
    const auto end = std::chrono::steady_clock::now();
    EXPECT_EQ(offset, 0U);  // Back at the first.
    return end - begin;
  }

  static constexpr size_t kLength = 64;
  static constexpr size_t kStride = 4096 + 256;
  static constexpr size_t kMemoryBytes = (kLength + 1) * kStride;

 private:
  uint8_t* first_;
};

/// Median time of a walk after `before_walk`, over the same median of walks of hot lines.
double SlowDown(const LoadChain& chain, ptrdiff_t alias_bytes,
                const std::function<void()>& before_walk) {
  constexpr size_t kTrials = 301;
  std::vector<int64_t> hot_ns;
  std::vector<int64_t> tried_ns;
  for (size_t i = 0; i < kTrials; ++i) {
    chain.Walk(alias_bytes);
    hot_ns.push_back(chain.Walk(alias_bytes).count());
    before_walk();
    tried_ns.push_back(chain.Walk(alias_bytes).count());
  }
  std::nth_element(hot_ns.begin(), hot_ns.begin() + kTrials / 2, hot_ns.end());
  std::nth_element(tried_ns.begin(), tried_ns.begin() + kTrials / 2, tried_ns.end());
  return static_cast<double>(tried_ns[kTrials / 2]) /
         static_cast<double>(std::max<int64_t>(hot_ns[kTrials / 2], 1));
}

class EvictionTest : public MappedCacheTest {
 protected:
  void SetUp() override {
    if (kSanitized) GTEST_SKIP() << "sanitizers change what a load costs";
    if (IsEmulated()) GTEST_SKIP() << "this CPU is emulated and has no caches";
    MappedCacheTest::SetUp();
  }
  static constexpr double kSlowDownMin = 1.5;  // Measured: 20 to 40.
};

TEST_F(EvictionTest, FlushDropsCleanLines) {
  const LoadChain chain(writer_.data(), 0);
  EXPECT_GT(SlowDown(chain, 0,
                     [&] {
                       control_->Flush(writer_.data(), LoadChain::kMemoryBytes);
                       control_->Fence();
                     }),
            kSlowDownMin);
}

TEST_F(EvictionTest, FlushDropsDirtyLines) {
  const LoadChain chain(writer_.data(), 0);
  EXPECT_GT(SlowDown(chain, 0,
                     [&] {
                       for (size_t i = 0; i < LoadChain::kLength; ++i) {
                         writer_.data()[i * LoadChain::kStride + 63] = 1;
                       }
                       control_->Flush(writer_.data(), LoadChain::kMemoryBytes);
                       control_->Fence();
                     }),
            kSlowDownMin);
}

TEST_F(EvictionTest, InvalidateDropsLinesOfAReadOnlyMapping) {
  const LoadChain chain(writer_.data(), 0);
  const ptrdiff_t to_reader = reader_.data() - writer_.data();
  EXPECT_GT(
      SlowDown(chain, to_reader,
               [&] { control_->Invalidate(reader_.data(), LoadChain::kMemoryBytes); }),
      kSlowDownMin);
}

/// docs/protocol.md HW2: through any mapping. So a daemon flushes what a dead client
/// stored.
TEST_F(EvictionTest, FlushThroughAnotherMappingDropsTheLines) {
  const LoadChain chain(writer_.data(), 0);
  EXPECT_GT(SlowDown(chain, 0,
                     [&] {
                       control_->Flush(reader_.data(), LoadChain::kMemoryBytes);
                       control_->Fence();
                     }),
            kSlowDownMin);
}

TEST_F(EvictionTest, TwoBytesOnABoundaryAreTwoLines) {
  const size_t line_bytes = control_->line_bytes();
  for (const size_t shift_bytes : {size_t{0}, line_bytes}) {
    const LoadChain chain(writer_.data(), shift_bytes);
    const auto flush_boundaries = [&] {
      for (size_t i = 0; i < LoadChain::kLength; ++i) {
        control_->Flush(writer_.data() + i * LoadChain::kStride + line_bytes - 1, 2);
      }
      control_->Fence();
    };
    EXPECT_GT(SlowDown(chain, 0, flush_boundaries), kSlowDownMin)
        << "line at " << shift_bytes;
  }
}

// ---- Fences

class FenceTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    control_ = GetParam() ? MakeCoherentCacheControl() : SoftwareControl();
    if (control_ == nullptr) GTEST_SKIP() << "this CPU offers no cache instructions";
  }
  std::unique_ptr<CacheControl> control_;
};

TEST_P(FenceTest, NoLoadPassesAnEarlierStore) {
  EXPECT_EQ(CountLoadsThatPassedStores([&](uint64_t* word, uint64_t value) {
              std::atomic_ref<uint64_t>(*word).store(value, std::memory_order_relaxed);
              control_->Fence();
            }),
            0U);
}

/// Plain data before a fence is visible after the reader's fence; thread sanitizer
/// agrees.
TEST_P(FenceTest, OrdersPlainDataBeforeAFlag) {
  uint64_t data = 0;
  std::atomic<bool> ready = false;
  std::thread writer([&] {
    data = 42;
    control_->Fence();
    ready.store(true, std::memory_order_relaxed);
  });
  while (!ready.load(std::memory_order_relaxed)) std::this_thread::yield();
  control_->Fence();
  EXPECT_EQ(data, 42U);
  writer.join();
}

INSTANTIATE_TEST_SUITE_P(Controls, FenceTest, ::testing::Values(true, false),
                         [](const auto& control) {
                           return std::string(control.param ? "Coherent" : "Software");
                         });

// ---- Streaming copy

TEST(StreamingCopy, CopiesEveryByteAndNoOther) {
  constexpr size_t kGuardBytes = 128;
  constexpr uint8_t kGuard = 0xee;
  std::vector<uint8_t> source(40000);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<uint8_t>(i * 31 + 7);
  for (const size_t size_bytes :
       {0, 1, 63, 64, 65, 4095, 4096, 4097, 4160, 8191, 33333}) {
    for (const size_t shift_bytes : {0, 1, 8, 63}) {
      for (const size_t source_shift_bytes : {0, 1, 32}) {
        std::vector<uint8_t> copy(size_bytes + 2 * kGuardBytes, kGuard);
        uint8_t* begin = copy.data() + kGuardBytes / 2 + shift_bytes;
        StreamingCopy(begin, source.data() + source_shift_bytes, size_bytes);
        ASSERT_EQ(std::memcmp(begin, source.data() + source_shift_bytes, size_bytes), 0)
            << size_bytes << " bytes to +" << shift_bytes;
        EXPECT_TRUE(std::all_of(copy.data(), begin, [](auto b) { return b == kGuard; }));
        EXPECT_TRUE(std::all_of(begin + size_bytes, copy.data() + copy.size(),
                                [](auto b) { return b == kGuard; }));
      }
    }
  }
}

TEST(StreamingCopy, NothingFromNowhereIsFine) { StreamingCopy(nullptr, nullptr, 0); }

// ---- The self test

void DoNothing(const uint8_t* /*begin*/, const uint8_t* /*end*/) {}
void Scribble(const uint8_t* begin, const uint8_t* /*end*/) {
  ++*const_cast<uint8_t*>(begin);
}

TEST(SelfTest, AcceptsWhatTheCpuDetects) {
  if (!CanFlushLines()) GTEST_SKIP() << "this CPU offers no cache instructions";
  EXPECT_TRUE(SelfTest(DetectInstructions()));
}

TEST(SelfTest, RefusesIllegalInstructionsAndRestoresTheHandler) {
#if defined(__x86_64__)
  InstructionSet set = DetectInstructions();
  set.flush = [](const uint8_t*, const uint8_t*) { __asm__ volatile("ud2"); };
  struct sigaction before = {};
  ASSERT_EQ(::sigaction(SIGILL, nullptr, &before), 0);
  EXPECT_FALSE(SelfTest(set));
  EXPECT_FALSE(SelfTest(set));  // The signal is not blocked after the first.
  struct sigaction after = {};
  ASSERT_EQ(::sigaction(SIGILL, nullptr, &after), 0);
  EXPECT_EQ(after.sa_handler, before.sa_handler);
#else
  GTEST_SKIP() << "written for x86-64";
#endif
}

TEST(SelfTest, RefusesWhatChangesContentsOrHasNoFlush) {
  InstructionSet set = NativeInstructions();
  if (!CanFlushLines()) GTEST_SKIP() << "this CPU offers no cache instructions";
  set.flush = Scribble;
  EXPECT_FALSE(SelfTest(set));
  set.flush = DoNothing;
  EXPECT_TRUE(SelfTest(set));
  set.flush = nullptr;
  EXPECT_FALSE(SelfTest(set));
}

#if defined(__x86_64__)
/// What older CPUs would use runs on this one, too.
TEST(SelfTest, EveryChoiceOfX86Works) {
  const X86Features all = DetectX86Features();
  for (unsigned mask = 0; mask < 16; ++mask) {
    X86Features features = all;
    if ((mask & 1) != 0) features.clflushopt = false;
    if ((mask & 2) != 0) features.clwb = false;
    if ((mask & 4) != 0) features.avx512f = false;
    if ((mask & 8) != 0) features.avx2 = features.avx512f = false;
    EXPECT_TRUE(SelfTest(ChooseX86Instructions(features))) << "without " << mask;
  }
}

TEST(SelfTest, NoChoiceFlushesWithoutClflushOrWithStrangeLines) {
  X86Features features = DetectX86Features();
  features.line_bytes = 32;
  EXPECT_FALSE(SelfTest(ChooseX86Instructions(features)));
  features.line_bytes = 64;
  features.clflush = false;
  EXPECT_FALSE(SelfTest(ChooseX86Instructions(features)));
}
#endif

}  // namespace
}  // namespace sheaf::platform
