# cmake --install: headers, library, programs, and the CMake package Sheaf (sheaf::sheaf).

include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/Sheaf")
install(DIRECTORY include/sheaf DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(
  TARGETS sheaf
  EXPORT SheafTargets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
foreach(program sheaf_cli sheafd)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  endif()
endforeach()
install(EXPORT SheafTargets NAMESPACE sheaf:: DESTINATION "${package_dir}")

configure_package_config_file(cmake/SheafConfig.cmake.in "${PROJECT_BINARY_DIR}/SheafConfig.cmake"
                              INSTALL_DESTINATION "${package_dir}")
# Before 1.0 every minor version may change the interface.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/SheafConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/SheafConfig.cmake"
              "${PROJECT_BINARY_DIR}/SheafConfigVersion.cmake" cmake/SheafArrow.cmake
        DESTINATION "${package_dir}")
