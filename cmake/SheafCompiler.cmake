# How every target of the project is compiled. Linked by all of them as sheaf_build.

set(SHEAF_SANITIZE "" CACHE STRING "Sanitizers: empty, 'address,undefined' or 'thread'")
option(SHEAF_FUZZ "Build fuzz targets with libFuzzer (clang)" OFF)
option(SHEAF_COVERAGE "Count executed lines" OFF)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
# Packagers with other compilers: cmake --compile-no-warning-as-error
set(CMAKE_COMPILE_WARNING_AS_ERROR ON)

find_program(SHEAF_CCACHE NAMES ccache)
mark_as_advanced(SHEAF_CCACHE)
if(SHEAF_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Paths below the checkout count as relative, so that a second checkout finds the results
  # of the first (it may then show debuggers the first one's sources, which are the same).
  set(CMAKE_CXX_COMPILER_LAUNCHER
      "${CMAKE_COMMAND}" -E env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}" CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros "${SHEAF_CCACHE}")
endif()

add_library(sheaf_build INTERFACE)
target_compile_options(sheaf_build INTERFACE -Wall -Wextra -Wconversion -Wshadow)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # Clang counts sign conversions under -Wconversion, gcc does not: one rule for both.
  target_compile_options(sheaf_build INTERFACE -Wno-sign-conversion -Wthread-safety)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False alarms of gcc 12 on `const char* + std::string` (GCC bug 105651, mended in 13).
  target_compile_options(sheaf_build INTERFACE -Wno-restrict)
endif()
# Test programs name every part of Arrow; each loads only what it uses.
target_link_options(sheaf_build INTERFACE -Wl,--as-needed)

if(SHEAF_SANITIZE)
  set(flags -fsanitize=${SHEAF_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_compile_options(sheaf_build INTERFACE ${flags})
  target_link_options(sheaf_build INTERFACE ${flags})
  # Arrow is not instrumented. The options live in each program and not in the environment,
  # so daemons that a test starts have them too.
  add_library(sheaf_sanitizer_options OBJECT "${CMAKE_CURRENT_LIST_DIR}/sanitizer_options.cc")
endif()
if(SHEAF_FUZZ)
  # Coverage feedback everywhere; the fuzz targets alone link the driver. And counters per
  # line, for tools/fuzz.py to say what the corpora reach.
  set(flags -fsanitize=fuzzer-no-link -fprofile-instr-generate -fcoverage-mapping)
  target_compile_options(sheaf_build INTERFACE ${flags})
  target_link_options(sheaf_build INTERFACE ${flags})
endif()
if(SHEAF_COVERAGE)
  target_compile_options(sheaf_build INTERFACE --coverage)
  target_link_options(sheaf_build INTERFACE --coverage)
endif()

# Headers that most sources include, read once for all sources that are compiled alike: a
# quarter of what clang does. For the sanitizers' presets alone: in all others a source has to
# name what it uses.
option(SHEAF_PRECOMPILE "Precompile the headers that most sources include" OFF)

# Precompiles them, and `ARGN`, for other targets of just the same options.
function(sheaf_precompile_in target)
  target_compile_options(${target} PRIVATE -Xclang -fno-pch-timestamp)  # ccache asks for it
  target_precompile_headers(
    ${target} PRIVATE <arrow/api.h> <algorithm> <chrono> <filesystem> <fstream> <functional> <map>
                      <memory> <optional> <string> <unordered_map> <vector> ${ARGN})
endfunction()

function(sheaf_use_precompiled target from)
  if(SHEAF_PRECOMPILE)
    target_precompile_headers(${target} REUSE_FROM ${from})
  endif()
endfunction()
