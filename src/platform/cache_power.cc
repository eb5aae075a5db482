// POWER: dcbf (L=0: all caches, not only this core's), dcbst, hwsync, isync. There is no
// streaming store, so copies go through the caches.

#if defined(__powerpc64__)

#  include <sys/auxv.h>

#  include <cstddef>
#  include <cstdint>
#  include <cstring>

#  include "platform/cache_instructions.h"

namespace sheaf::platform {
namespace {

/// Cache block of POWER4 and all since.
constexpr size_t kLineBytesDefault = 128;

size_t LineBytes() {
  static const size_t line_bytes = ::getauxval(AT_DCACHEBSIZE);
  return line_bytes == 0 ? kLineBytesDefault : line_bytes;
}

void Dcbf(const uint8_t* begin, const uint8_t* end) {
  const size_t line_bytes = LineBytes();
  for (const uint8_t* line = begin; line < end; line += line_bytes) {
    __asm__ volatile("dcbf 0,%0" : : "r"(line) : "memory");
  }
}

void Dcbst(const uint8_t* begin, const uint8_t* end) {
  const size_t line_bytes = LineBytes();
  for (const uint8_t* line = begin; line < end; line += line_bytes) {
    __asm__ volatile("dcbst 0,%0" : : "r"(line) : "memory");
  }
}

/// isync: loads that ran ahead of the flush by speculation are done again.
void HwsyncIsync() { __asm__ volatile("hwsync\n\tisync" : : : "memory"); }

void Copy(uint8_t* destination, const uint8_t* source, size_t size_bytes) {
  std::memcpy(destination, source, size_bytes);
}

}  // namespace

InstructionSet DetectInstructions() {
  InstructionSet set;
  set.names = "dcbf, dcbst, hwsync, isync";
  set.line_bytes = LineBytes();
  set.flush = Dcbf;
  set.write_back = Dcbst;
  set.fence = HwsyncIsync;
  set.stream = Copy;
  return set;
}

}  // namespace sheaf::platform

#endif  // defined(__powerpc64__)
