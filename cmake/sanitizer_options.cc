// Default options of the sanitizers, compiled into every program of a sanitizer build.
// The environment (ASAN_OPTIONS, TSAN_OPTIONS, UBSAN_OPTIONS) still overrides them.

extern "C" const char* __tsan_default_options();   // NOLINT: names fixed by the runtime
extern "C" const char* __asan_default_options();   // NOLINT
extern "C" const char* __ubsan_default_options();  // NOLINT

// libarrow is not instrumented: its internal locks are invisible, which looks like races.
// The default sleep of a second at exit would double the time of the run.
extern "C" const char* __tsan_default_options() {  // NOLINT
  return "ignore_noninstrumented_modules=1:second_deadlock_stack=1:atexit_sleep_ms=20";
}

extern "C" const char* __asan_default_options() {  // NOLINT
  return "detect_stack_use_after_return=1:strict_string_checks=1";
}

extern "C" const char* __ubsan_default_options() {  // NOLINT
  return "print_stacktrace=1";
}
