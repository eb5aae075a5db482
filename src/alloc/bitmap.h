// A fixed number of bits, scanned a word at a time.

#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "base/check.h"

namespace sheaf::alloc {

/// \brief `size` bits, all clear at first. Not thread-safe.
class Bitmap {
 public:
  explicit Bitmap(uint64_t size) : words_((size + 63) / 64) {}

  bool Test(uint64_t index) const { return (Word(index) >> (index % 64) & 1) != 0; }
  void Set(uint64_t index) { words_[index / 64] |= uint64_t{1} << (index % 64); }
  void Clear(uint64_t index) { words_[index / 64] &= ~(uint64_t{1} << (index % 64)); }

  /// \brief The last set bit at or before `index`. There must be one.
  uint64_t FindLastSet(uint64_t index) const {
    uint64_t word = Word(index) << (63 - index % 64);
    while (word == 0) {
      SHEAF_CHECK(index >= 64);
      index = index / 64 * 64 - 1;
      word = Word(index);
    }
    return index - static_cast<uint64_t>(std::countl_zero(word));
  }

 private:
  uint64_t Word(uint64_t index) const { return words_[index / 64]; }

  std::vector<uint64_t> words_;
};

}  // namespace sheaf::alloc
