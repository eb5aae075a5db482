// Checks for our own bugs. Bytes that others wrote are input and get a Status instead.

#pragma once

namespace sheaf {

/// \brief Prints the broken claim and its place, then aborts. Any thread.
[[noreturn]] void CheckFailed(const char* claim, const char* file, int line);

}  // namespace sheaf

/// Always on.
#define SHEAF_CHECK(claim) \
  ((claim) ? (void)0 : ::sheaf::CheckFailed(#claim, __FILE__, __LINE__))

/// On in debug and sanitizer builds; for hot paths.
#ifdef NDEBUG
#  define SHEAF_DCHECK(claim) ((void)sizeof(!(claim)))
#else
#  define SHEAF_DCHECK(claim) SHEAF_CHECK(claim)
#endif
