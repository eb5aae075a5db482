#include "platform/cache_instructions.h"

#include <setjmp.h>
#include <signal.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <numeric>

#include "base/check.h"

namespace sheaf::platform {
namespace {

/// Unit of a streaming store: a part of it would travel as several small writes.
constexpr size_t kStreamLineBytes = 64;

/// Measured on Zen 5: with the flush of a Settle streaming wins from 512 bytes on,
/// without it (coherent memory) from 8 KiB, where the fence (100 ns) costs less than it
/// saves.
constexpr size_t kStreamingBytesMin = 4096;

/// Where a SIGILL of the self test continues. Of the testing thread only.
thread_local sigjmp_buf* illegal_instruction_exit = nullptr;

void OnIllegalInstruction(int signal_number) {
  if (illegal_instruction_exit != nullptr) siglongjmp(*illegal_instruction_exit, 1);
  // Not ours: returning repeats it, and now it ends the process.
  struct sigaction by_default = {};
  by_default.sa_handler = SIG_DFL;
  ::sigaction(signal_number, &by_default, nullptr);
}

/// Catches SIGILL while it lives.
class IllegalInstructionGuard {
 public:
  explicit IllegalInstructionGuard(sigjmp_buf* exit) {
    illegal_instruction_exit = exit;
    struct sigaction action = {};
    action.sa_handler = OnIllegalInstruction;
    ::sigaction(SIGILL, &action, &previous_);
  }
  ~IllegalInstructionGuard() {
    ::sigaction(SIGILL, &previous_, nullptr);
    illegal_instruction_exit = nullptr;
  }
  IllegalInstructionGuard(const IllegalInstructionGuard&) = delete;
  IllegalInstructionGuard& operator=(const IllegalInstructionGuard&) = delete;

 private:
  struct sigaction previous_ = {};
};

using TestBytes = std::array<uint8_t, 1024>;

/// Runs every instruction of `set` on `bytes`. True if contents came out right.
bool TryInstructions(const InstructionSet& set, TestBytes* bytes, TestBytes* copy) {
  std::iota(bytes->begin(), bytes->end(), uint8_t{1});
  const TestBytes expected = *bytes;
  set.write_back(bytes->data(), bytes->data() + bytes->size());
  set.fence();
  set.flush(bytes->data(), bytes->data() + bytes->size());
  set.fence();
  set.stream(copy->data(), bytes->data(), bytes->size());
  set.flush(copy->data(), copy->data() + copy->size());
  set.fence();
  return *bytes == expected && *copy == expected;
}

void CopyThroughCaches(uint8_t* destination, const uint8_t* source, size_t size_bytes) {
  std::memcpy(destination, source, size_bytes);
}

const uint8_t* LineBegin(const void* address, size_t line_bytes) {
  const auto* byte = static_cast<const uint8_t*>(address);
  return byte - (reinterpret_cast<uintptr_t>(address) & (line_bytes - 1));
}

}  // namespace

#if !defined(__x86_64__) && !defined(__aarch64__) && !defined(__powerpc64__)
InstructionSet DetectInstructions() { return {}; }
#endif

bool SelfTest(const InstructionSet& set) {
  constexpr size_t kLineBytesMax = 512;
  if (set.flush == nullptr || set.line_bytes == 0 || set.line_bytes > kLineBytesMax ||
      (set.line_bytes & (set.line_bytes - 1)) != 0) {
    return false;
  }
  alignas(kLineBytesMax) TestBytes bytes;
  alignas(kLineBytesMax) TestBytes copy;
  sigjmp_buf exit;
  const IllegalInstructionGuard guard(&exit);
  if (sigsetjmp(exit, 1) != 0) return false;
  return TryInstructions(set, &bytes, &copy);
}

const InstructionSet& NativeInstructions() {
  static const InstructionSet kNative = [] {
    const InstructionSet detected = DetectInstructions();
    if (SelfTest(detected)) return detected;
    InstructionSet none;
    none.stream = CopyThroughCaches;
    return none;
  }();
  return kNative;
}

bool CanFlushLines() { return NativeInstructions().flush != nullptr; }

size_t CacheLineBytes() { return NativeInstructions().line_bytes; }

void FlushLines(const void* address, size_t size_bytes) {
  if (size_bytes == 0) return;
  const InstructionSet& native = NativeInstructions();
  SHEAF_CHECK(native.flush != nullptr);
  native.flush(LineBegin(address, native.line_bytes),
               static_cast<const uint8_t*>(address) + size_bytes);
}

void WriteBackLines(const void* address, size_t size_bytes) {
  if (size_bytes == 0) return;
  const InstructionSet& native = NativeInstructions();
  SHEAF_CHECK(native.write_back != nullptr);
  native.write_back(LineBegin(address, native.line_bytes),
                    static_cast<const uint8_t*>(address) + size_bytes);
}

void FullFence() {
  const InstructionSet& native = NativeInstructions();
  SHEAF_CHECK(native.fence != nullptr);
  native.fence();
}

void StreamingCopy(void* destination, const void* source, size_t size_bytes) {
  auto* to = static_cast<uint8_t*>(destination);
  const auto* from = static_cast<const uint8_t*>(source);
  if (size_bytes < kStreamingBytesMin) {
    if (size_bytes > 0) std::memcpy(to, from, size_bytes);
    return;
  }
  const size_t past_line = reinterpret_cast<uintptr_t>(to) & (kStreamLineBytes - 1);
  const size_t head = past_line == 0 ? 0 : kStreamLineBytes - past_line;
  const size_t body = (size_bytes - head) & ~(kStreamLineBytes - 1);
  const size_t tail = size_bytes - head - body;
  if (head > 0) std::memcpy(to, from, head);
  if (tail > 0) std::memcpy(to + head + body, from + head + body, tail);
  NativeInstructions().stream(to + head, from + head, body);
}

}  // namespace sheaf::platform
