# What a user gets. The folders are fixed, not the distribution's libdir: the
# command finds its libraries at <bin>/../lib/gpuroom, and the loader needs the
# simulated driver under the driver's own file names.
set(library_folder lib/gpuroom)

# gpuroom_product builds all that is installed; `make demo` needs no more.
add_custom_target(gpuroom_product)

if(TARGET gpuroom_command)
  add_dependencies(gpuroom_product gpuroom_command)
  install(TARGETS gpuroom_command RUNTIME DESTINATION bin)
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

install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/gpuroom DESTINATION include FILES_MATCHING PATTERN "*.h")
