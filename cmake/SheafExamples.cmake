# Each examples/x.cpp is a program that uses nothing but the installed library's headers, and
# a test that runs it in a cluster of its own.

file(GLOB examples CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/examples/*.cpp")
foreach(example IN LISTS examples)
  cmake_path(GET example STEM name)
  sheaf_add_executable(example_${name} "${example}")
  set_target_properties(
    example_${name} PROPERTIES OUTPUT_NAME ${name}
                               RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/examples")
  target_link_libraries(example_${name} PRIVATE sheaf::sheaf ${SHEAF_ARROW_ALL})
  if(TARGET sheaf_cli)
    add_test(NAME example.${name}
             COMMAND "${PROJECT_SOURCE_DIR}/tools/with_cluster.sh" $<TARGET_FILE:sheaf_cli>
                     $<TARGET_FILE:example_${name}>)
    set_tests_properties(example.${name} PROPERTIES LABELS multiprocess TIMEOUT 120)
  endif()
endforeach()
