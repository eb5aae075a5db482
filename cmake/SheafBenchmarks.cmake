# All benchmarks (benchmarks/ and beside the sources) in one program, sheaf_bench.

find_package(benchmark CONFIG REQUIRED)
file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/benchmarks/*.cc"
     "${PROJECT_SOURCE_DIR}/src/*/*_benchmark.cc")
if(sources)
  sheaf_add_executable(sheaf_bench ${sources})
  list(TRANSFORM SHEAF_ROOMS PREPEND sheaf_ OUTPUT_VARIABLE rooms)
  target_include_directories(sheaf_bench PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(
    sheaf_bench PRIVATE sheaf_testing ${rooms} Arrow::compute Arrow::acero Arrow::parquet
                        Arrow::flight benchmark::benchmark_main)
endif()
if(TARGET sheaf_bench AND TARGET sheafd)
  add_dependencies(sheaf_bench sheafd)  # started by those that need a cluster
endif()
