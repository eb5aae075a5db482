// Copies of byte ranges into and out of shared memory, as whole words: another thread or
// process may be at the other end, and checks what it got by a checksum.

#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "platform/shared_word.h"

namespace sheaf::directory {

/// \brief Store `bytes` from `target` on; the last word is padded with zeros.
inline void StoreBytes(uint64_t* target, std::span<const uint8_t> bytes) {
  for (size_t i = 0; i < bytes.size(); i += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i,
                bytes.size() - i < sizeof(word) ? bytes.size() - i : sizeof(word));
    platform::SharedWord(target++).StoreRelease(word);
  }
}

/// \brief Fill `bytes` from `source` on; reads whole words, so up to 7 bytes more.
inline void LoadBytes(const uint64_t* source, std::span<uint8_t> bytes) {
  for (size_t i = 0; i < bytes.size(); i += sizeof(uint64_t)) {
    const uint64_t word = platform::SharedWord(source++).LoadAcquire();
    std::memcpy(bytes.data() + i, &word,
                bytes.size() - i < sizeof(word) ? bytes.size() - i : sizeof(word));
  }
}

}  // namespace sheaf::directory
