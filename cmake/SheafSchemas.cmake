# FlatBuffers schemas: src/format/x.fbs becomes "format/x_generated.h" in the build folder.

find_program(SHEAF_FLATC NAMES flatc REQUIRED)
mark_as_advanced(SHEAF_FLATC)

set(generated_dir "${PROJECT_BINARY_DIR}/generated")
file(GLOB schemas CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/format/*.fbs")
set(generated_headers "")
foreach(schema IN LISTS schemas)
  cmake_path(GET schema STEM stem)
  set(header "${generated_dir}/format/${stem}_generated.h")
  # Depends on all schemas, since one may include another.
  add_custom_command(
    OUTPUT "${header}"
    COMMAND ${SHEAF_FLATC} --cpp --cpp-std c++17 --scoped-enums --keep-prefix
            -I "${PROJECT_SOURCE_DIR}/src" -o "${generated_dir}/format" "${schema}"
    DEPENDS ${schemas}
    COMMENT "flatc ${stem}.fbs"
    VERBATIM)
  list(APPEND generated_headers "${header}")
endforeach()
file(MAKE_DIRECTORY "${generated_dir}/format")

add_custom_target(sheaf_schemas_generate DEPENDS ${generated_headers})
add_library(sheaf_schemas INTERFACE)
add_dependencies(sheaf_schemas sheaf_schemas_generate)
# SYSTEM: no warnings from generated code.
target_include_directories(sheaf_schemas SYSTEM INTERFACE "${generated_dir}")
