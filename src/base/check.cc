#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace sheaf {

void CheckFailed(const char* claim, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: sheaf bug: %s does not hold\n", file, line, claim);
  std::abort();
}

}  // namespace sheaf
