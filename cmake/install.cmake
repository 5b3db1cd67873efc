# What a user gets. The folders are fixed, not the distribution's libdir: the
# command finds its libraries at <bin>/../lib/gpuroom, and the loader needs the
# simulated driver under the driver's own file names.
#
# `make install` and the .deb packages take the components `product` and `system`; a wheel takes `product`, below the
# Python package, and `wheel`.
set(library_folder lib/gpuroom)
set(document_folder share/doc/gpuroom)

# gpuroom_product builds all that is installed; `make demo` needs no more.
add_custom_target(gpuroom_product)
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME product)

if(TARGET gpuroom_command)
  add_dependencies(gpuroom_product gpuroom_command)
  install(TARGETS gpuroom_command RUNTIME DESTINATION bin COMPONENT system)
endif()
if(TARGET gpuroom_library)
  add_dependencies(gpuroom_product gpuroom_library)
  install(TARGETS gpuroom_library LIBRARY DESTINATION ${library_folder})
endif()
if(TARGET gpuroom_compat)
  add_dependencies(gpuroom_product gpuroom_compat)
  install(TARGETS gpuroom_compat LIBRARY DESTINATION ${library_folder})
endif()
if(TARGET gpuroom_demo)
  add_dependencies(gpuroom_product gpuroom_demo)
  install(TARGETS gpuroom_demo RUNTIME DESTINATION ${library_folder})
endif()
if(TARGET gpuroom_cumem_module)
  add_dependencies(gpuroom_product gpuroom_cumem_module)
  install(TARGETS gpuroom_cumem_module LIBRARY DESTINATION ${library_folder}/python)
endif()

# The Python package, and the folder by which programs under `gpuroom run` find its plug-in for vLLM. They lie apart, so that a
# package that pip installed goes before this one (gpuroom_run.py).
set(plugins ${CMAKE_BINARY_DIR}/${library_folder}/plugins)
set(plugins_info gpuroom_run-${PROJECT_VERSION}.dist-info)
foreach(file METADATA entry_points.txt)
  configure_file(${CMAKE_SOURCE_DIR}/python/plugins/${file}.in ${plugins}/${plugins_info}/${file} @ONLY)
endforeach()
configure_file(${CMAKE_SOURCE_DIR}/python/plugins/gpuroom_run.py ${plugins}/gpuroom_run.py COPYONLY)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/${library_folder}/python)
file(CREATE_LINK ${CMAKE_SOURCE_DIR}/python/gpuroom ${CMAKE_BINARY_DIR}/${library_folder}/python/gpuroom SYMBOLIC)
install(DIRECTORY ${plugins} DESTINATION ${library_folder} PATTERN "__pycache__" EXCLUDE)
install(DIRECTORY python/gpuroom DESTINATION ${library_folder}/python PATTERN "__pycache__" EXCLUDE PATTERN "_native" EXCLUDE)

get_property(sim_targets DIRECTORY ${CMAKE_SOURCE_DIR}/sim PROPERTY BUILDSYSTEM_TARGETS)
foreach(target ${sim_targets})
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "SHARED_LIBRARY")
    add_dependencies(gpuroom_product ${target})
    install(PROGRAMS $<TARGET_FILE:${target}> DESTINATION ${library_folder}/sim
      RENAME $<TARGET_SONAME_FILE_NAME:${target}>)
  endif()
endforeach()

# What draws the figure of `gpuroom bench tiers`; found at <bin>/../share/gpuroom.
foreach(script plot_results.py plot_tiers.py plot_sleep.py)
  configure_file(${CMAKE_SOURCE_DIR}/scripts/${script} ${CMAKE_BINARY_DIR}/share/gpuroom/${script} COPYONLY)
  install(PROGRAMS scripts/${script} DESTINATION share/gpuroom)
endforeach()

# For programs that use the C interface, by find_package(gpuroom) or pkg-config.
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/gpuroom DESTINATION include FILES_MATCHING PATTERN "*.h")
include(CMakePackageConfigHelpers)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/gpuroomConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES packaging/gpuroomConfig.cmake ${CMAKE_BINARY_DIR}/gpuroomConfigVersion.cmake
  DESTINATION lib/cmake/gpuroom)
foreach(name gpuroom gpuroom-simulator)
  configure_file(packaging/${name}.pc.in ${CMAKE_BINARY_DIR}/${name}.pc @ONLY)
  install(FILES ${CMAKE_BINARY_DIR}/${name}.pc DESTINATION lib/pkgconfig)
endforeach()

# Manual pages and the shells' completions, from the help texts.
find_program(GPUROOM_PYTHON3 python3 NO_CMAKE_FIND_ROOT_PATH)
if(GPUROOM_PYTHON3)
  set(manual_folder ${CMAKE_BINARY_DIR}/manual)
  add_custom_command(OUTPUT ${manual_folder}/man/man1/gpuroom.1
    COMMAND ${GPUROOM_PYTHON3} ${CMAKE_SOURCE_DIR}/scripts/manual.py ${manual_folder} ${PROJECT_VERSION}
    DEPENDS ${CMAKE_SOURCE_DIR}/scripts/manual.py ${CMAKE_SOURCE_DIR}/src/cli/help.h)
  add_custom_target(gpuroom_manual ALL DEPENDS ${manual_folder}/man/man1/gpuroom.1)
  add_dependencies(gpuroom_product gpuroom_manual)
  install(DIRECTORY ${manual_folder}/ DESTINATION share COMPONENT system)
else()
  message(STATUS "manual pages and completions are left out: python3 was not found; install it ('make deps' does)")
endif()

include(cmake/sbom.cmake)
install(FILES LICENSE packaging/THIRD_PARTY_NOTICES.txt ${CMAKE_BINARY_DIR}/gpuroom.cdx.json
  DESTINATION ${document_folder} COMPONENT system)

# A wheel's command goes where pip puts commands; its licences are in pyproject.toml.
if(SKBUILD)
  install(TARGETS gpuroom_command RUNTIME DESTINATION ${SKBUILD_SCRIPTS_DIR} COMPONENT wheel)
  install(FILES ${CMAKE_BINARY_DIR}/gpuroom.cdx.json DESTINATION ${SKBUILD_METADATA_DIR}/sboms COMPONENT wheel)
endif()

# `make deb`. The C++ runtime is linked in, so that the C library is all that a package needs.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME gpuroom)
set(CPACK_PACKAGE_CONTACT "The gpuroom authors <authors@gpuroom.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGE_HOMEPAGE_URL ${gpuroom_url})
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_CMAKE_PROJECTS
  "${CMAKE_BINARY_DIR};gpuroom;product;/;${CMAKE_BINARY_DIR};gpuroom;system;/")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION utils)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE arm64)
else()
  set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE amd64)
endif()
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libc6 (>= 2.28)")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "python3-matplotlib")
include(CPack)
