// Which sanitizer this is compiled under, as gcc and clang tell: macros, 0 or 1.

#pragma once

#if defined(__has_feature)
#  define SHEAF_HAS_FEATURE(feature) __has_feature(feature)
#else
#  define SHEAF_HAS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_THREAD__) || SHEAF_HAS_FEATURE(thread_sanitizer)
#  define SHEAF_THREAD_SANITIZER 1
#else
#  define SHEAF_THREAD_SANITIZER 0
#endif

#if defined(__SANITIZE_ADDRESS__) || SHEAF_HAS_FEATURE(address_sanitizer)
#  define SHEAF_ADDRESS_SANITIZER 1
#else
#  define SHEAF_ADDRESS_SANITIZER 0
#endif
