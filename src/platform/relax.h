// Waiting for another core, awake.

#pragma once

namespace sheaf::platform {

/// \brief Between two looks at memory that another core writes: tens of nanoseconds in
/// which the other thread of this core has it to itself.
inline void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace sheaf::platform
