# Apache Arrow, under one set of names wherever it comes from:
#   Arrow::arrow Arrow::compute Arrow::acero Arrow::dataset Arrow::parquet Arrow::flight
# First choice is an installed Arrow (find_package); else the pinned pyarrow wheel, whose
# headers and libraries are complete but which has no CMake package (docs/decisions/0001).
# Also installed beside SheafConfig.cmake, so programs that use Sheaf find Arrow by it.

# Readers have extension types read data that others wrote; with Arrow 21 some of them
# (fixed_shape_tensor) crash on it. 26 is what the tests run with.
set(SHEAF_ARROW_VERSION_MIN 26)
set(SHEAF_PYARROW_DIR "" CACHE PATH "Folder of an installed pyarrow; empty: look for one")

function(_sheaf_arrow_target name)
  add_library(Arrow::${name} INTERFACE IMPORTED GLOBAL)
  target_link_libraries(Arrow::${name} INTERFACE ${ARGN})
endfunction()

# Sets SHEAF_ARROW_FOUND when a complete installed Arrow is new enough.
function(_sheaf_arrow_from_packages)
  # No version here: Arrow's package accepts only its own major version.
  find_package(Arrow CONFIG QUIET)
  if(NOT Arrow_FOUND OR Arrow_VERSION VERSION_LESS SHEAF_ARROW_VERSION_MIN)
    return()
  endif()
  foreach(part ArrowCompute ArrowAcero ArrowDataset Parquet ArrowFlight)
    find_package(${part} CONFIG QUIET GLOBAL)
    if(NOT ${part}_FOUND)
      return()
    endif()
  endforeach()
  _sheaf_arrow_target(arrow Arrow::arrow_shared)
  _sheaf_arrow_target(compute ArrowCompute::arrow_compute_shared)
  _sheaf_arrow_target(acero ArrowAcero::arrow_acero_shared)
  _sheaf_arrow_target(dataset ArrowDataset::arrow_dataset_shared)
  _sheaf_arrow_target(parquet Parquet::parquet_shared)
  _sheaf_arrow_target(flight ArrowFlight::arrow_flight_shared)
  set(SHEAF_ARROW_FOUND TRUE PARENT_SCOPE)
  set(SHEAF_ARROW_ORIGIN "package ${Arrow_DIR}, version ${Arrow_VERSION}" PARENT_SCOPE)
endfunction()

# The folder of a pyarrow wheel: as told, else the checkout's own, else any Python's.
function(_sheaf_find_pyarrow result)
  file(GLOB candidates "${SHEAF_PYARROW_DIR}"
       "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../.deps/venv/lib/python3*/site-packages/pyarrow")
  find_program(SHEAF_PYTHON3 NAMES python3)
  if(NOT candidates AND SHEAF_PYTHON3)
    execute_process(
      COMMAND ${SHEAF_PYTHON3} -c "import pyarrow; print(*pyarrow.__path__)"
      OUTPUT_VARIABLE candidates OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  foreach(dir IN LISTS candidates)
    if(EXISTS "${dir}/include/arrow/api.h")
      file(REAL_PATH "${dir}" dir)
      set(${result} "${dir}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

function(_sheaf_arrow_from_wheel)
  _sheaf_find_pyarrow(dir)
  if(NOT dir)
    return()
  endif()
  foreach(name arrow compute acero dataset parquet flight)
    string(REGEX REPLACE "^arrow_(arrow|parquet)$" "\\1" file "arrow_${name}")
    file(GLOB library "${dir}/lib${file}.so.[0-9]*")
    list(LENGTH library count)
    if(NOT count EQUAL 1)
      message(FATAL_ERROR "expected one lib${file}.so.* in ${dir}, found ${count}")
    endif()
    add_library(Arrow::${name} SHARED IMPORTED GLOBAL)
    set_target_properties(
      Arrow::${name} PROPERTIES IMPORTED_LOCATION "${library}"
                                INTERFACE_INCLUDE_DIRECTORIES "${dir}/include")
    if(NOT name STREQUAL arrow)
      target_link_libraries(Arrow::${name} INTERFACE Arrow::arrow)
    endif()
  endforeach()
  target_link_libraries(Arrow::acero INTERFACE Arrow::compute)
  target_link_libraries(Arrow::dataset INTERFACE Arrow::acero Arrow::parquet)
  set(SHEAF_ARROW_FOUND TRUE PARENT_SCOPE)
  set(SHEAF_ARROW_ORIGIN "wheel ${dir}" PARENT_SCOPE)
  set(SHEAF_ARROW_WHEEL_DIR "${dir}" PARENT_SCOPE)
endfunction()

if(NOT TARGET Arrow::arrow)
  set(SHEAF_ARROW_FOUND FALSE)
  if(NOT SHEAF_PYARROW_DIR)
    _sheaf_arrow_from_packages()
  endif()
  if(NOT SHEAF_ARROW_FOUND)
    _sheaf_arrow_from_wheel()
  endif()
  if(SHEAF_ARROW_FOUND)
    message(STATUS "Arrow: ${SHEAF_ARROW_ORIGIN}")
  endif()
endif()
