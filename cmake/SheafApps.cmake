# The programs `sheaf` and `sheafd`: apps/<name>/main.cc and a library of the other sources
# there, so that tests beside them can link those.

# sheaf_add_app(<folder of apps/> <target>)
function(sheaf_add_app app target)
  set(dir "${PROJECT_SOURCE_DIR}/apps/${app}")
  sheaf_glob_sources(sources "${dir}")
  if(NOT sources)
    return()
  endif()
  list(REMOVE_ITEM sources "${dir}/main.cc")
  set(rooms ${SHEAF_ROOMS})
  list(REMOVE_ITEM rooms testing)
  list(TRANSFORM rooms PREPEND sheaf_)
  sheaf_add_library(${target}_parts "${sources}" sheaf_room ${rooms} Arrow::parquet
                    Arrow::compute)
  sheaf_add_executable(${target} "${dir}/main.cc")
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${app})
  target_link_libraries(${target} PRIVATE ${target}_parts)
  foreach(part ${target} ${target}_parts)
    get_target_property(type ${part} TYPE)
    if(NOT type STREQUAL INTERFACE_LIBRARY)
      target_include_directories(${part} PRIVATE "${PROJECT_SOURCE_DIR}")
      target_compile_definitions(${part} PRIVATE SHEAF_VERSION="${PROJECT_VERSION}")
    endif()
  endforeach()
endfunction()

sheaf_add_app(sheaf sheaf_cli)
sheaf_add_app(sheafd sheafd)

# What `make build` builds: all that is installed.
add_custom_target(programs DEPENDS sheaf)
foreach(program sheaf_cli sheafd)
  if(TARGET ${program})
    add_dependencies(programs ${program})
  endif()
endforeach()
