# Tests: one ctest per GoogleTest case. Label `inprocess` (a room's own tests, one process,
# which thread sanitizer can judge) or `multiprocess` (tests/, examples, the command line).

include(GoogleTest)

set(SHEAF_ARROW_ALL Arrow::arrow Arrow::compute Arrow::acero Arrow::dataset Arrow::parquet
                    Arrow::flight)
list(TRANSFORM SHEAF_ROOMS PREPEND sheaf_ OUTPUT_VARIABLE SHEAF_ALL_ROOMS)

# Tests are most of what is compiled, and little of what takes time when it runs: presets ask
# for less optimisation here than for what they test.
set(SHEAF_TEST_OPTIONS "" CACHE STRING "Compiler options for the sources of tests alone")

add_library(sheaf_test_main OBJECT "${PROJECT_SOURCE_DIR}/cmake/test_main.cc")
target_link_libraries(sheaf_test_main PUBLIC sheaf_build Arrow::compute GTest::gmock)
if(SHEAF_PRECOMPILE)
  # A program like the others, of no tests: compiled with the very same options.
  sheaf_add_executable(sheaf_precompiled_tests "${PROJECT_SOURCE_DIR}/cmake/test_main.cc")
  target_compile_options(sheaf_precompiled_tests PRIVATE ${SHEAF_TEST_OPTIONS})
  target_link_libraries(sheaf_precompiled_tests PRIVATE sheaf_room Arrow::compute GTest::gmock)
  sheaf_precompile_in(sheaf_precompiled_tests <gmock/gmock.h> <gtest/gtest.h>)
endif()

# Paths of the programs under test, for tests that start them.
function(sheaf_define_binaries target)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_compile_definitions(
    ${target} PRIVATE SHEAF_TEST_DATA_DIR="${PROJECT_SOURCE_DIR}/tests/data"
                      SHEAF_EXAMPLES_DIR="${PROJECT_BINARY_DIR}/examples")
  if(TARGET sheaf_cli)
    add_dependencies(${target} sheaf_cli)
    target_compile_definitions(${target} PRIVATE SHEAF_BINARY="$<TARGET_FILE:sheaf_cli>")
  endif()
  if(TARGET sheafd)
    add_dependencies(${target} sheafd)
    target_compile_definitions(${target} PRIVATE SHEAFD_BINARY="$<TARGET_FILE:sheafd>")
  endif()
endfunction()

# Programs that ctest runs as a whole instead of case by case, because their suites share a
# costly set-up; tools/count_tests.py counts their cases.
set(SHEAF_TESTS_RUN_WHOLE "")
file(MAKE_DIRECTORY "${PROJECT_BINARY_DIR}/gtest")

# What `make tsan` builds.
add_custom_target(inprocess_tests)

# sheaf_add_test(<name> <label> <sources> <libraries>...)
function(sheaf_add_test name label sources)
  sheaf_add_executable(${name} ${sources})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/test")
  target_compile_options(${name} PRIVATE ${SHEAF_TEST_OPTIONS})
  sheaf_use_precompiled(${name} sheaf_precompiled_tests)
  # `testing` first: the static libraries it needs come after it.
  target_link_libraries(
    ${name} PRIVATE sheaf_test_main sheaf_testing ${ARGN} ${SHEAF_ARROW_ALL} GTest::gmock)
  if(label STREQUAL inprocess)
    add_dependencies(inprocess_tests ${name})
  endif()
  if(name IN_LIST SHEAF_TESTS_RUN_WHOLE)
    add_test(NAME ${name}.whole
             COMMAND ${name} --gtest_output=xml:${PROJECT_BINARY_DIR}/gtest/${name}.xml)
    set_tests_properties(${name}.whole PROPERTIES LABELS ${label} TIMEOUT 1200)
    return()
  endif()
  set(discovery DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 TEST_PREFIX "${name}.")
  gtest_discover_tests(
    ${name} TEST_FILTER "-*Race.*" ${discovery}
    PROPERTIES LABELS ${label} TIMEOUT 300)
  # Suites named ...Race want threads to meet: no other test may take their processors.
  gtest_discover_tests(
    ${name} TEST_FILTER "*Race.*" ${discovery}
    PROPERTIES LABELS ${label} TIMEOUT 300 RUN_SERIAL TRUE)
endfunction()

# The tests beside the sources in `dir`, as one program.
function(sheaf_add_tests_beside name dir)
  file(GLOB tests CONFIGURE_DEPENDS "${dir}/*_test.cc")
  if(tests)
    sheaf_add_test(${name} inprocess "${tests}" ${ARGN})
    target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
    target_compile_definitions(
      ${name} PRIVATE SHEAF_TEST_DATA_DIR="${PROJECT_SOURCE_DIR}/tests/data")
  endif()
endfunction()

foreach(room IN LISTS SHEAF_ROOMS)
  sheaf_add_tests_beside(${room}_test "${PROJECT_SOURCE_DIR}/src/${room}" sheaf_${room})
endforeach()
sheaf_add_tests_beside(sheaf_cli_test "${PROJECT_SOURCE_DIR}/apps/sheaf" sheaf_cli_parts)
sheaf_add_tests_beside(sheafd_test "${PROJECT_SOURCE_DIR}/apps/sheafd" sheafd_parts)

file(GLOB tests CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/*_test.cc")
foreach(test IN LISTS tests)
  cmake_path(GET test STEM name)
  sheaf_add_test(${name} multiprocess "${test}" ${SHEAF_ALL_ROOMS})
  sheaf_define_binaries(${name})
endforeach()

# The demo, as tools/demo.sh runs it, over data that is made as there.
add_dependencies(demo_test sheaf_demo)
target_compile_definitions(
  demo_test PRIVATE SHEAF_DEMO_BINARY="$<TARGET_FILE:sheaf_demo>"
                    SHEAF_LINEITEM_MAKER="${PROJECT_SOURCE_DIR}/tools/make_lineitem.sh")

# Real tables, of which a checkout need not have any.
set(SHEAF_REAL_DATA_DIR "${PROJECT_SOURCE_DIR}/../shared/data"
    CACHE PATH "Folder of real tables that tests put: flights-3m.parquet and others")
target_compile_definitions(real_data_test
                           PRIVATE SHEAF_REAL_DATA_DIR="${SHEAF_REAL_DATA_DIR}")

# Porcupine's judgement of recorded histories: where there is a Go compiler, and the module
# can be had; else its tests say that they are left out.
find_program(SHEAF_GO NAMES go PATHS /usr/lib/go-1.19/bin /usr/local/go/bin)
set(checker "${PROJECT_BINARY_DIR}/test/linearizability_checker")
target_compile_definitions(linearizability_test
                           PRIVATE SHEAF_LINEARIZABILITY_CHECKER="${checker}")
if(SHEAF_GO)
  add_custom_target(
    linearizability_checker
    COMMAND
      ${CMAKE_COMMAND} -E env CGO_ENABLED=0 GOTOOLCHAIN=local "${SHEAF_GO}" build -o "${checker}" .
      || ${CMAKE_COMMAND} -E echo "no checker of histories: see above"
    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}/tools/linearizability"
    BYPRODUCTS "${checker}")
  add_dependencies(linearizability_test linearizability_checker)
endif()

# The project's own habits. Label `tools`: no need to run them once more under a sanitizer.
find_program(SHEAF_PYTHON3 NAMES python3 REQUIRED)
function(sheaf_add_tool_test name)
  add_test(NAME tools.${name} COMMAND ${ARGN})
  set_tests_properties(tools.${name} PROPERTIES LABELS tools TIMEOUT 300)
endfunction()
set(tools "${PROJECT_SOURCE_DIR}/tools")
sheaf_add_tool_test(check_layers ${SHEAF_PYTHON3} ${tools}/check_layers.py)
sheaf_add_tool_test(check_layers_test ${SHEAF_PYTHON3} ${tools}/check_layers_test.py)
sheaf_add_tool_test(check_budget ${SHEAF_PYTHON3} ${tools}/check_budget.py)
# Cache instructions of other CPUs, in qemu; skipped without cross compilers.
sheaf_add_tool_test(cross_smoke ${tools}/cross_smoke.sh)
set_tests_properties(tools.cross_smoke PROPERTIES SKIP_RETURN_CODE 77)

# One pass over every benchmark at its smallest, so that none rots.
if(TARGET sheaf_bench)
  add_test(NAME bench_smoke COMMAND sheaf_bench --benchmark_min_time=0.001)
  set_tests_properties(bench_smoke PROPERTIES LABELS tools TIMEOUT 600 ENVIRONMENT
                                              "SHEAF_BENCH_SMOKE=1")
endif()

# The installed package, seen from outside. Not under sanitizers: a user's build has none.
if(NOT SHEAF_SANITIZE)
  add_test(
    NAME install_consumer
    COMMAND
      ${CMAKE_COMMAND} -D "BUILD=${PROJECT_BINARY_DIR}" -D "GENERATOR=${CMAKE_GENERATOR}" -D
      "CXX=${CMAKE_CXX_COMPILER}" -D "CXX_FLAGS=${CMAKE_CXX_FLAGS}" -P
      "${PROJECT_SOURCE_DIR}/tests/install_consumer/run.cmake")
  set_tests_properties(install_consumer PROPERTIES LABELS tools TIMEOUT 300)
endif()
