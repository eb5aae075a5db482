# The programs `sheaf` and `sheafd`: apps/<name>/main.cc and a library of the other sources
# there, so that tests beside them can link those.

# Apps include their own headers from the project's root: "apps/sheaf/x.h".
add_library(sheaf_app INTERFACE)
target_include_directories(sheaf_app INTERFACE "${PROJECT_SOURCE_DIR}")
target_compile_definitions(sheaf_app INTERFACE SHEAF_VERSION="${PROJECT_VERSION}")

# sheaf_add_app(<folder of apps/> <target>)
function(sheaf_add_app app target)
  set(dir "${PROJECT_SOURCE_DIR}/apps/${app}")
  sheaf_glob_sources(sources "${dir}")
  if(NOT sources)
    return()
  endif()
  set(main ${sources})
  list(FILTER main INCLUDE REGEX "/main\\.cc$")
  list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
  set(rooms ${SHEAF_ROOMS})
  list(REMOVE_ITEM rooms testing)
  list(TRANSFORM rooms PREPEND sheaf_)
  sheaf_add_library(${target}_parts "${sources}" sheaf_room ${rooms} Arrow::parquet
                    Arrow::compute sheaf_app)
  if(main)
    sheaf_add_executable(${target} "${main}")
    set_target_properties(${target} PROPERTIES OUTPUT_NAME ${app})
    target_link_libraries(${target} PRIVATE ${target}_parts)
  endif()
endfunction()

sheaf_add_app(sheaf sheaf_cli)
sheaf_add_app(sheafd sheafd)
sheaf_add_app(demo sheaf_demo)
if(TARGET sheaf_demo)
  target_link_libraries(sheaf_demo_parts PUBLIC sheaf_cli_parts Arrow::acero Arrow::flight)
endif()

# What `make build` builds: all that is installed, and the demo.
add_custom_target(programs DEPENDS sheaf)
foreach(program sheaf_cli sheafd sheaf_demo)
  if(TARGET ${program})
    add_dependencies(programs ${program})
  endif()
endforeach()
