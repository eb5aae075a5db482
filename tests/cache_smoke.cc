// Runs every cache instruction of src/platform on the CPU at hand. A program without
// Arrow and GoogleTest: tools/cross_smoke.sh compiles it for other architectures and runs
// it in qemu.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "platform/cache_instructions.h"

namespace {

using sheaf::platform::CacheLineBytes;
using sheaf::platform::FlushLines;
using sheaf::platform::FullFence;
using sheaf::platform::StreamingCopy;
using sheaf::platform::WriteBackLines;

int failures = 0;

void Expect(bool claim, const char* what) {
  if (claim) return;
  std::fprintf(stderr, "failed: %s\n", what);
  ++failures;
}

std::vector<uint8_t> Pattern(size_t size_bytes) {
  std::vector<uint8_t> bytes(size_bytes);
  for (size_t i = 0; i < size_bytes; ++i)
    bytes[i] = static_cast<uint8_t>(i * 31 + i / 251);
  return bytes;
}

void FlushAnyRange() {
  const std::vector<uint8_t> expected = Pattern(8192);
  std::vector<uint8_t> bytes = expected;
  for (const size_t offset : {0, 1, 63, 64, 127, 128}) {
    for (const size_t size_bytes : {0, 1, 64, 65, 129, 4096}) {
      WriteBackLines(bytes.data() + offset, size_bytes);
      FullFence();
      FlushLines(bytes.data() + offset, size_bytes);
      FullFence();
    }
  }
  Expect(bytes == expected, "contents stay when flushed");
}

void CopyAnyRange() {
  const std::vector<uint8_t> source = Pattern(20000);
  for (const size_t size_bytes : {0, 1, 63, 4095, 4096, 4097, 16384}) {
    for (const size_t shift_bytes : {0, 1, 32}) {
      std::vector<uint8_t> expected(20000, 0xee);
      std::vector<uint8_t> copy = expected;
      for (size_t i = 0; i < size_bytes; ++i) expected[i + shift_bytes] = source[i];
      StreamingCopy(copy.data() + shift_bytes, source.data(), size_bytes);
      FlushLines(copy.data() + shift_bytes, size_bytes);
      FullFence();
      Expect(copy == expected, "a streaming copy writes its range and nothing else");
    }
  }
}

}  // namespace

int main() {
  Expect(sheaf::platform::SelfTest(sheaf::platform::DetectInstructions()), "self test");
  Expect(sheaf::platform::CanFlushLines(), "instructions are chosen");
  const size_t line_bytes = CacheLineBytes();
  Expect(line_bytes >= 16 && line_bytes <= 512 && (line_bytes & (line_bytes - 1)) == 0,
         "a line is a power of two");
  if (failures == 0) {
    FlushAnyRange();
    CopyAnyRange();
  }
  std::printf("%s; line of %zu bytes; %d failures\n",
              sheaf::platform::NativeInstructions().names, line_bytes, failures);
  return failures == 0 ? 0 : 1;
}
