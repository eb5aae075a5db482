# The installed library: all rooms but the daemon's two and the tests', in one archive.

set(objects "")
foreach(room IN LISTS SHEAF_ROOMS)
  if(NOT room MATCHES "^(arbiter|daemon|testing)$")
    get_target_property(type sheaf_${room} TYPE)
    if(type STREQUAL STATIC_LIBRARY)
      list(APPEND objects "$<TARGET_OBJECTS:sheaf_${room}>")
    endif()
  endif()
endforeach()
if(NOT objects)
  file(WRITE "${PROJECT_BINARY_DIR}/empty.cc" "")
  set(objects "${PROJECT_BINARY_DIR}/empty.cc")
endif()

add_library(sheaf ${objects})
add_library(sheaf::sheaf ALIAS sheaf)
set_target_properties(sheaf PROPERTIES LINKER_LANGUAGE CXX VERSION ${PROJECT_VERSION}
                                       SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
target_compile_features(sheaf PUBLIC cxx_std_20)
target_include_directories(
  sheaf PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>")
target_link_libraries(sheaf PUBLIC Arrow::arrow Threads::Threads)
target_link_libraries(sheaf PRIVATE "$<BUILD_INTERFACE:sheaf_build>")
