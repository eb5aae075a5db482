# One static library per room of src/, linked as cmake/rooms.txt allows, and its tests.

# Sources of `dir` that are neither tests nor benchmarks.
function(sheaf_glob_sources result dir)
  file(GLOB sources CONFIGURE_DEPENDS "${dir}/*.cc")
  list(FILTER sources EXCLUDE REGEX "_(test|benchmark)\\.cc$")
  set(${result} ${sources} PARENT_SCOPE)
endfunction()

# A library for `sources`, INTERFACE while there are none.
function(sheaf_add_library target sources)
  if(sources)
    add_library(${target} STATIC ${sources})
    target_link_libraries(${target} PUBLIC ${ARGN})
    sheaf_use_precompiled(${target} sheaf_precompiled)
  else()
    add_library(${target} INTERFACE)
    target_link_libraries(${target} INTERFACE ${ARGN})
  endif()
endfunction()

# Programs: what sheaf_build says, and the sanitizers' options.
function(sheaf_add_executable target)
  add_executable(${target} ${ARGN})
  target_link_libraries(${target} PRIVATE sheaf_build)
  if(TARGET sheaf_sanitizer_options)
    target_link_libraries(${target} PRIVATE sheaf_sanitizer_options)
  endif()
endfunction()

# What every room sees: the public headers, src/ as include root, Arrow, generated headers.
add_library(sheaf_room INTERFACE)
target_include_directories(
  sheaf_room INTERFACE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
target_link_libraries(
  sheaf_room INTERFACE sheaf_build sheaf_schemas Arrow::arrow Threads::Threads)
# Header-only use of these, so the installed static library needs only Arrow and threads.
target_compile_definitions(
  sheaf_room INTERFACE ASIO_STANDALONE ASIO_NO_DEPRECATED SPDLOG_FMT_EXTERNAL
                       FMT_HEADER_ONLY)

if(SHEAF_PRECOMPILE)
  file(WRITE "${PROJECT_BINARY_DIR}/precompiled.cc" "")
  add_library(sheaf_precompiled OBJECT "${PROJECT_BINARY_DIR}/precompiled.cc")
  target_link_libraries(sheaf_precompiled PRIVATE sheaf_room)
  sheaf_precompile_in(sheaf_precompiled)
endif()

# Sets SHEAF_ROOMS (names, lowest first) and SHEAF_ROOM_<room> (what it may include).
set(rooms_file "${PROJECT_SOURCE_DIR}/cmake/rooms.txt")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${rooms_file}")
file(STRINGS "${rooms_file}" lines REGEX "^[a-z]+:")
set(SHEAF_ROOMS "")
foreach(line IN LISTS lines)
  string(REGEX MATCH "^([a-z]+): *(.*)$" _ "${line}")
  list(APPEND SHEAF_ROOMS ${CMAKE_MATCH_1})
  string(REPLACE " " ";" SHEAF_ROOM_${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
endforeach()

foreach(room IN LISTS SHEAF_ROOMS)
  sheaf_glob_sources(sources "${PROJECT_SOURCE_DIR}/src/${room}")
  list(TRANSFORM SHEAF_ROOM_${room} PREPEND sheaf_ OUTPUT_VARIABLE below)
  if(room STREQUAL testing)
    # Compiled against every room, linked with none: so the test of a low room needs no
    # high one. A program that uses a part of `testing` links the rooms that part needs.
    set(below GTest::gmock GTest::gtest)
  endif()
  sheaf_add_library(sheaf_${room} "${sources}" sheaf_room ${below})
endforeach()

# Only the arbiter talks to etcd.
find_package(CURL REQUIRED)
target_link_libraries(sheaf_arbiter PUBLIC CURL::libcurl)

# Programs of Debian packages that tests need and nobody should have to install.
target_compile_definitions(
  sheaf_testing PRIVATE SHEAF_UNPACKED_DIR="${PROJECT_SOURCE_DIR}/.deps/unpacked")
