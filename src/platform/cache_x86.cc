// x86-64: clflushopt or clflush, clwb, mfence; streaming stores of 64, 32 or 16 bytes.

#if defined(__x86_64__)

#  include "platform/cache_x86.h"

#  include <cpuid.h>
#  include <immintrin.h>

#  include <cstddef>
#  include <cstdint>

#  include "platform/cache_instructions.h"

namespace sheaf::platform {
namespace {

/// Of all x86-64 CPUs so far; the choice below compares it with what CPUID tells.
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

}  // namespace

X86Features DetectX86Features() {
  X86Features features;
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0) {
    features.clflush = (edx >> 19 & 1) != 0;
    features.line_bytes = size_t{ebx >> 8 & 0xff} * 8;
  }
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0) {
    features.clflushopt = (ebx >> 23 & 1) != 0;
    features.clwb = (ebx >> 24 & 1) != 0;
  }
  // These also ask whether the operating system saves the registers.
  features.avx2 = __builtin_cpu_supports("avx2") != 0;
  features.avx512f = __builtin_cpu_supports("avx512f") != 0;
  return features;
}

InstructionSet ChooseX86Instructions(const X86Features& features) {
  InstructionSet set;
  set.fence = Mfence;
  set.stream = StreamSse2;
  if (features.avx2) set.stream = StreamAvx2;
  if (features.avx512f) set.stream = StreamAvx512;
  if (!features.clflush || features.line_bytes != kLineBytes) return set;
  set.line_bytes = kLineBytes;
  set.flush = features.clflushopt ? Clflushopt : Clflush;
  set.write_back = features.clwb ? Clwb : set.flush;
  if (features.clflushopt) {
    set.names = features.clwb ? "clflushopt, clwb, mfence" : "clflushopt, mfence";
  } else {
    set.names = features.clwb ? "clflush, clwb, mfence" : "clflush, mfence";
  }
  return set;
}

InstructionSet DetectInstructions() { return ChooseX86Instructions(DetectX86Features()); }

}  // namespace sheaf::platform

#endif  // defined(__x86_64__)
