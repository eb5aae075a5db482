// What CPUs offer to user space for caches, one file per architecture behind it
// (cache_x86.cc, cache_aarch64.cc, cache_power.cc). Free of Arrow, so that it can be
// cross-compiled alone.

#pragma once

#include <cstddef>
#include <cstdint>

namespace sheaf::platform {

/// \brief One CPU's choice of instructions. Ranges begin on a line and are whole lines.
struct InstructionSet {
  const char* names = "none";
  size_t line_bytes = 64;
  /// Write back and drop, no fence. Null: user space of this CPU cannot.
  void (*flush)(const uint8_t* begin, const uint8_t* end) = nullptr;
  /// Write back; may keep the lines as clean copies, which go stale, no fence.
  void (*write_back)(const uint8_t* begin, const uint8_t* end) = nullptr;
  /// Waits for flushes and write-backs, orders all earlier accesses before all later
  /// ones.
  void (*fence)() = nullptr;
  /// Copies whole 64-byte lines past the caches and orders the stores before later ones.
  void (*stream)(uint8_t* destination, const uint8_t* source,
                 size_t size_bytes) = nullptr;
};

/// \brief What the CPU says it can do, not tried yet. Defined once per architecture.
InstructionSet DetectInstructions();

/// \brief True if every instruction of `set` runs without SIGILL and leaves contents as
/// they should be. Guards SIGILL of the calling thread meanwhile; one call at a time.
bool SelfTest(const InstructionSet& set);

/// \brief The instructions of this CPU: detected and tested at the first call. All
/// functions below use them. Any thread.
const InstructionSet& NativeInstructions();

/// \brief False if user space of this CPU cannot flush: then do not call the next three.
bool CanFlushLines();

/// \brief Write back and drop every line that the range touches. No fence.
void FlushLines(const void* address, size_t size_bytes);

/// \brief Write back every line that the range touches, maybe keep it. No fence. Cheaper
/// than FlushLines for who goes on reading, but a kept line goes stale when another node
/// writes it.
void WriteBackLines(const void* address, size_t size_bytes);

/// \brief Wait for flushes and write-backs; order everything before with everything
/// after.
void FullFence();

/// \brief See cache.h.
void StreamingCopy(void* destination, const void* source, size_t size_bytes);
size_t CacheLineBytes();

}  // namespace sheaf::platform
