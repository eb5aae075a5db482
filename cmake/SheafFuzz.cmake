# Fuzz targets: fuzz/x_fuzz.cc is built with libFuzzer by preset `fuzz` (tools/fuzz.py runs
# it), and by all others with a main that replays its seeds: fuzz/corpus/x/ and
# tests/data/x*.

file(GLOB fuzzers CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/fuzz/*_fuzz.cc")
add_custom_target(fuzzers)
list(TRANSFORM SHEAF_ROOMS PREPEND sheaf_ OUTPUT_VARIABLE rooms)
foreach(fuzzer IN LISTS fuzzers)
  cmake_path(GET fuzzer STEM name)
  string(REGEX REPLACE "_fuzz$" "" subject "${name}")
  sheaf_add_executable(${name} "${fuzzer}")
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/fuzz")
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE sheaf_testing ${rooms} GTest::gmock)
  add_dependencies(fuzzers ${name})
  if(SHEAF_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    file(GLOB seeds CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/data/${subject}*")
    target_sources(${name} PRIVATE "${PROJECT_SOURCE_DIR}/cmake/fuzz_replay.cc")
    add_test(NAME fuzz.${subject}
             COMMAND ${name} "${PROJECT_SOURCE_DIR}/fuzz/corpus/${subject}" ${seeds})
    # Some make files for each input: in memory. None starts a thread: there is nothing that
    # thread sanitizer could judge.
    set_tests_properties(fuzz.${subject} PROPERTIES LABELS fuzz TIMEOUT 300 ENVIRONMENT
                                                    "TMPDIR=/dev/shm")
  endif()
endforeach()

# Writes fuzz/corpus/ anew, see fuzz/make_seeds.cc. Built on request only.
file(GLOB seed_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/fuzz/seeds_of_*.cc")
sheaf_add_executable(make_fuzz_seeds EXCLUDE_FROM_ALL "${PROJECT_SOURCE_DIR}/fuzz/make_seeds.cc"
                     ${seed_sources})
set_target_properties(make_fuzz_seeds PROPERTIES RUNTIME_OUTPUT_DIRECTORY
                                                 "${PROJECT_BINARY_DIR}/fuzz")
target_include_directories(make_fuzz_seeds PRIVATE "${PROJECT_SOURCE_DIR}")
target_link_libraries(make_fuzz_seeds PRIVATE sheaf_testing ${rooms} GTest::gmock)
