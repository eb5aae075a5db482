# The simulated cluster: simulation/*.cc linked with all rooms of src/, whose calls of the
# operating system the linker leads to simulation/system_calls.cc (docs/simulation.md).

set(SHEAF_SIMULATION_WRAPS
    accept4 clock_gettime clock_nanosleep close connect getrandom mmap munmap open poll recvmsg
    send sendmsg socket syscall
    _ZN5sheaf6daemon10CheckPidFdERKNS_8platform8UniqueFdEi
    _ZN5sheaf6region9SimMemory5FlushEmm
    _ZN5sheaf8internal19PassArmedFaultPointENS_10FaultPointE
    _ZN5sheaf8platform10BootNumberEv
    _ZN5sheaf8platform15BackingPageSizeEPKv
    _ZN5sheaf8platform19FileSystemFreeBytesERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE
    _ZNSt6chrono3_V212system_clock3nowEv)
list(TRANSFORM SHEAF_SIMULATION_WRAPS PREPEND "-Wl,--wrap=" OUTPUT_VARIABLE
                                              SHEAF_SIMULATION_LINK_OPTIONS)
list(TRANSFORM SHEAF_ROOMS PREPEND sheaf_ OUTPUT_VARIABLE rooms)

file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/simulation/*.cc")
add_library(sheaf_simulation OBJECT ${sources})
target_include_directories(sheaf_simulation PUBLIC "${PROJECT_SOURCE_DIR}")
target_link_libraries(sheaf_simulation PUBLIC sheaf_room)

# A program `name` with `sources` in the place of the rooms' own.
function(sheaf_add_simulation name)
  sheaf_add_executable(${name} ${ARGN})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY
                                           "${PROJECT_BINARY_DIR}/simulation")
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE sheaf_simulation ${rooms})
  target_link_options(${name} PRIVATE ${SHEAF_SIMULATION_LINK_OPTIONS})
endfunction()

sheaf_add_simulation(simulate)

# Many schedules. A sanitizer's run is slower, and here for what it sees besides.
set(SHEAF_SIMULATION_OPS 120000)
if(SHEAF_SANITIZE)
  set(SHEAF_SIMULATION_OPS 12000)
endif()
add_test(NAME simulation.nothing_is_wrong
         COMMAND simulate --seeds 60 --ops ${SHEAF_SIMULATION_OPS})
set_tests_properties(simulation.nothing_is_wrong PROPERTIES LABELS multiprocess TIMEOUT 1200)

# A larger cluster: names, the death of the leader and of another node, seen by all; it
# also counts what that costs (docs/scale.md).
add_test(NAME simulation.larger_cluster COMMAND simulate --scale 12)
set_tests_properties(simulation.larger_cluster PROPERTIES LABELS multiprocess TIMEOUT 600)

# Each simulation/mutants/<name>.patch is a bug: applied to a copy of the one source that it
# names, which takes the place of that source in a program of its own. It must be found.
if(NOT SHEAF_SANITIZE AND NOT SHEAF_COVERAGE)
  find_program(SHEAF_PATCH NAMES patch REQUIRED)
  file(GLOB mutants CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/simulation/mutants/*.patch")
  foreach(mutant IN LISTS mutants)
    cmake_path(GET mutant STEM name)
    file(STRINGS "${mutant}" target REGEX "^\\+\\+\\+ b/")
    string(REGEX REPLACE "^\\+\\+\\+ b/" "" target "${target}")
    cmake_path(GET target FILENAME file)
    set(source "${PROJECT_BINARY_DIR}/mutants/${name}/${file}")
    add_custom_command(
      OUTPUT "${source}"
      COMMAND ${SHEAF_PATCH} --quiet --forward -o "${source}" "${PROJECT_SOURCE_DIR}/${target}"
              "${mutant}"
      DEPENDS "${mutant}" "${PROJECT_SOURCE_DIR}/${target}"
      COMMENT "Planting ${name}"
      VERBATIM)
    file(MAKE_DIRECTORY "${PROJECT_BINARY_DIR}/mutants/${name}")
    sheaf_add_simulation(mutant_${name} "${source}")
    target_compile_options(mutant_${name} PRIVATE -w)
    add_test(NAME simulation.finds.${name} COMMAND mutant_${name} --planted --seeds 100 --ops
                                                   100000)
    set_tests_properties(simulation.finds.${name} PROPERTIES LABELS multiprocess TIMEOUT 1200)
  endforeach()
endif()
