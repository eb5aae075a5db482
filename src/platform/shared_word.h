// Words and lines in memory that another process or node reads while this one writes. The
// only raw atomics on shared memory: a checker can replace them.

#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "base/fault_point.h"

namespace sheaf::platform {

/// \brief One aligned 8-byte word in shared memory, single writer process.
class SharedWord {
 public:
  explicit SharedWord(uint64_t* word) : word_(word) {}
  explicit SharedWord(const uint64_t* word) : word_(const_cast<uint64_t*>(word)) {}

  /// pairs with StoreRelease and StoreFenced of the writer
  uint64_t LoadAcquire() const {
    return std::atomic_ref<uint64_t>(*word_).load(std::memory_order_acquire);
  }
  void StoreRelease(uint64_t value) {
    std::atomic_ref<uint64_t>(*word_).store(value, std::memory_order_release);
  }
  /// \brief Store, then a full fence: no later load of this thread passes it (a
  /// read-modify-write, since thread sanitizers do not understand stand-alone fences).
  void StoreFenced(uint64_t value) {
    std::atomic_ref<uint64_t>(*word_).exchange(value, std::memory_order_seq_cst);
  }

 private:
  uint64_t* word_;
};

/// \brief 64 bytes of control data, aligned, read and written as eight atomic words.
using LineWords = std::array<uint64_t, 8>;

/// \brief Read a line that its owner may be changing: words are whole, the line may be
/// torn; the caller checks its checksum (docs/protocol.md L2).
inline LineWords LoadLine(const uint64_t* line) {
  LineWords words;
  for (size_t i = 0; i < words.size(); ++i) words[i] = SharedWord(line + i).LoadAcquire();
  return words;
}

/// \brief Update a line: word 0 := `busy_word`, the other words, then word 0 as a fenced
/// store. Readers of the same coherence domain that see the old or the new word 0 twice
/// around their reads still check the checksum: words may mix. Flushing is the caller's
/// business.
inline void StoreLine(uint64_t* line, const LineWords& words, uint64_t busy_word) {
  SharedWord(line).StoreRelease(busy_word);
  PassFaultPoint("daemon.line.busy");
  for (size_t i = 1; i < words.size(); ++i) SharedWord(line + i).StoreRelease(words[i]);
  SharedWord(line).StoreFenced(words[0]);
}

}  // namespace sheaf::platform
