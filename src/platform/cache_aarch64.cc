// AArch64: dc civac, dc cvac (both to the point of coherency), dsb sy. Linux lets user
// space execute them; there is no streaming store (stnp is a hint), so copies go through
// the caches.

#if defined(__aarch64__)

#  include <cstddef>
#  include <cstdint>
#  include <cstring>

#  include "platform/cache_instructions.h"

namespace sheaf::platform {
namespace {

/// Smallest data cache line of all caches up to the point of coherency.
size_t LineBytes() {
  uint64_t cache_type = 0;
  __asm__("mrs %0, ctr_el0" : "=r"(cache_type));
  return size_t{4} << (cache_type >> 16 & 0xf);  // DminLine: log2 of words of 4 bytes.
}

void CleanAndInvalidate(const uint8_t* begin, const uint8_t* end) {
  const size_t line_bytes = LineBytes();
  for (const uint8_t* line = begin; line < end; line += line_bytes) {
    __asm__ volatile("dc civac, %0" : : "r"(line) : "memory");
  }
}

void Clean(const uint8_t* begin, const uint8_t* end) {
  const size_t line_bytes = LineBytes();
  for (const uint8_t* line = begin; line < end; line += line_bytes) {
    __asm__ volatile("dc cvac, %0" : : "r"(line) : "memory");
  }
}

/// Full system: the inner shareable domain of `dmb ish` ends at this host.
void DsbSy() { __asm__ volatile("dsb sy" : : : "memory"); }

void Copy(uint8_t* destination, const uint8_t* source, size_t size_bytes) {
  std::memcpy(destination, source, size_bytes);
}

}  // namespace

InstructionSet DetectInstructions() {
  InstructionSet set;
  set.names = "dc civac, dc cvac, dsb sy";
  set.line_bytes = LineBytes();
  set.flush = CleanAndInvalidate;
  set.write_back = Clean;
  set.fence = DsbSy;
  set.stream = Copy;
  return set;
}

}  // namespace sheaf::platform

#endif  // defined(__aarch64__)
