// x86-64: clflushopt or clflush, clwb, mfence; streaming stores of 64, 32 or 16 bytes.

#if defined(__x86_64__)

#  include <cpuid.h>
#  include <immintrin.h>

#  include <cstddef>
#  include <cstdint>

#  include "platform/cache_instructions.h"

namespace sheaf::platform {
namespace {

/// Of all x86-64 CPUs that can flush; CPUID tells it, and DetectInstructions compares.
constexpr size_t kLineBytes = 64;

void* Mutable(const uint8_t* line) { return const_cast<uint8_t*>(line); }

void Clflush(const uint8_t* begin, const uint8_t* end) {
  for (const uint8_t* line = begin; line < end; line += kLineBytes) _mm_clflush(line);
}

__attribute__((target("clflushopt"))) void Clflushopt(const uint8_t* begin,
                                                      const uint8_t* end) {
  for (const uint8_t* line = begin; line < end; line += kLineBytes) {
    _mm_clflushopt(Mutable(line));
  }
}

__attribute__((target("clwb"))) void Clwb(const uint8_t* begin, const uint8_t* end) {
  for (const uint8_t* line = begin; line < end; line += kLineBytes) {
    _mm_clwb(Mutable(line));
  }
}

/// Never sfence: it does not order loads after a flush, and the old line is read
/// (measured).
void Mfence() { _mm_mfence(); }

// One line per step in each: the stores of a line fill one write-combining buffer at
// once.

__attribute__((target("avx512f"))) void StreamAvx512(uint8_t* destination,
                                                     const uint8_t* source,
                                                     size_t size_bytes) {
  for (size_t i = 0; i < size_bytes; i += kLineBytes) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(destination + i),
                        _mm512_loadu_si512(source + i));
  }
  _mm_sfence();
}

__attribute__((target("avx2"))) void StreamAvx2(uint8_t* destination,
                                                const uint8_t* source,
                                                size_t size_bytes) {
  for (size_t i = 0; i < size_bytes; i += kLineBytes) {
    const auto* from = reinterpret_cast<const __m256i*>(source + i);
    auto* to = reinterpret_cast<__m256i*>(destination + i);
    const __m256i first = _mm256_loadu_si256(from);
    const __m256i second = _mm256_loadu_si256(from + 1);
    _mm256_stream_si256(to, first);
    _mm256_stream_si256(to + 1, second);
  }
  _mm_sfence();
}

void StreamSse2(uint8_t* destination, const uint8_t* source, size_t size_bytes) {
  for (size_t i = 0; i < size_bytes; i += kLineBytes) {
    const auto* from = reinterpret_cast<const __m128i*>(source + i);
    auto* to = reinterpret_cast<__m128i*>(destination + i);
    const __m128i first = _mm_loadu_si128(from);
    const __m128i second = _mm_loadu_si128(from + 1);
    const __m128i third = _mm_loadu_si128(from + 2);
    const __m128i fourth = _mm_loadu_si128(from + 3);
    _mm_stream_si128(to, first);
    _mm_stream_si128(to + 1, second);
    _mm_stream_si128(to + 2, third);
    _mm_stream_si128(to + 3, fourth);
  }
  _mm_sfence();
}

/// CPUID leaves 1 and 7, as far as caches are concerned.
struct CpuidBits {
  bool clflush = false;
  bool clflushopt = false;
  bool clwb = false;
  size_t line_bytes = 0;
};

CpuidBits ReadCpuid() {
  CpuidBits bits;
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0) {
    bits.clflush = (edx >> 19 & 1) != 0;
    bits.line_bytes = (ebx >> 8 & 0xff) * 8;
  }
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0) {
    bits.clflushopt = (ebx >> 23 & 1) != 0;
    bits.clwb = (ebx >> 24 & 1) != 0;
  }
  return bits;
}

}  // namespace

InstructionSet DetectInstructions() {
  InstructionSet set;
  set.fence = Mfence;
  set.stream = StreamSse2;
  // These also ask whether the operating system saves the registers.
  if (__builtin_cpu_supports("avx2") != 0) set.stream = StreamAvx2;
  if (__builtin_cpu_supports("avx512f") != 0) set.stream = StreamAvx512;
  const CpuidBits cpuid = ReadCpuid();
  if (!cpuid.clflush || cpuid.line_bytes != kLineBytes) return set;
  set.line_bytes = kLineBytes;
  set.flush = cpuid.clflushopt ? Clflushopt : Clflush;
  set.write_back = cpuid.clwb ? Clwb : set.flush;
  if (cpuid.clflushopt) {
    set.names = cpuid.clwb ? "clflushopt, clwb, mfence" : "clflushopt, mfence";
  } else {
    set.names = cpuid.clwb ? "clflush, clwb, mfence" : "clflush, mfence";
  }
  return set;
}

}  // namespace sheaf::platform

#endif  // defined(__x86_64__)
