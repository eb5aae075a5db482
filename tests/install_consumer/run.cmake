# Installs a build and builds a user's project against it.
#   cmake -D BUILD=<build folder> -D GENERATOR=... -D CXX=... -D CXX_FLAGS=... -P run.cmake

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

set(work "${BUILD}/install_consumer")
file(REMOVE_RECURSE "${work}")
run(${CMAKE_COMMAND} --install "${BUILD}" --prefix "${work}/prefix")
run(${CMAKE_COMMAND} -G "${GENERATOR}" -S "${CMAKE_CURRENT_LIST_DIR}" -B "${work}/build"
    "-DCMAKE_PREFIX_PATH=${work}/prefix" "-DCMAKE_CXX_COMPILER=${CXX}"
    "-DCMAKE_CXX_FLAGS=${CXX_FLAGS}")
run(${CMAKE_COMMAND} --build "${work}/build")
run("${work}/build/consumer")
foreach(program sheaf sheafd)
  run("${work}/prefix/bin/${program}" --version)
endforeach()
