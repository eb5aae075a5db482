// The choice among x86-64's cache instructions, apart from asking the CPU, so that tests
// can try the ones of older CPUs too.

#pragma once

#include <cstddef>

#include "platform/cache_instructions.h"

namespace sheaf::platform {

/// \brief What CPUID and the operating system offer, as far as caches are concerned.
struct X86Features {
  bool clflush = false;
  bool clflushopt = false;
  bool clwb = false;
  bool avx2 = false;
  bool avx512f = false;
  size_t line_bytes = 0;
};

/// \brief Features of this CPU.
X86Features DetectX86Features();

/// \brief The best instructions that `features` allow; none that flush without clflush.
InstructionSet ChooseX86Instructions(const X86Features& features);

}  // namespace sheaf::platform
