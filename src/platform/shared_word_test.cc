#include "platform/shared_word.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <thread>

#include <gtest/gtest.h>

#include "platform/store_load_litmus.h"

namespace sheaf::platform {
namespace {

constexpr uint64_t kBusy = ~uint64_t{0};

TEST(SharedWord, KeepsWhatEachKindOfStoreWrote) {
  alignas(8) uint64_t memory = 0;
  SharedWord word(&memory);
  word.StoreRelease(1);
  EXPECT_EQ(word.LoadAcquire(), 1U);
  word.StoreFenced(2);
  EXPECT_EQ(SharedWord(static_cast<const uint64_t*>(&memory)).LoadAcquire(), 2U);
  EXPECT_EQ(memory, 2U);
}

TEST(Line, RoundTrip) {
  alignas(64) std::array<uint64_t, 8> memory = {};
  const LineWords words = {1, 2, 3, 4, 5, 6, 7, 8};
  StoreLine(memory.data(), words, kBusy);
  EXPECT_EQ(LoadLine(memory.data()), words);
}

TEST(SharedWord, NoLoadPassesAFencedStore) {
  EXPECT_EQ(CountLoadsThatPassedStores([](uint64_t* word, uint64_t value) {
              SharedWord(word).StoreFenced(value);
            }),
            0U);
}

/// A reader may meet an update in the middle, but each word is whole and none goes back.
TEST(Line, WordsAreWholeWhileTheOwnerWrites) {
  constexpr uint64_t kUpdates = 20000;
  alignas(64) std::array<uint64_t, 8> memory = {};
  std::thread owner([&] {
    for (uint64_t i = 1; i <= kUpdates; ++i) {
      LineWords words;
      words.fill(i << 32 | i);
      StoreLine(memory.data(), words, kBusy);
    }
  });
  LineWords last = {};
  while (last[0] != (kUpdates << 32 | kUpdates)) {
    const LineWords words = LoadLine(memory.data());
    for (size_t i = 1; i < words.size(); ++i) {
      ASSERT_EQ(words[i] >> 32, words[i] & 0xffffffff);
      ASSERT_GE(words[i], last[i]);
    }
    last = words;
    std::this_thread::yield();
  }
  owner.join();
}

}  // namespace
}  // namespace sheaf::platform
