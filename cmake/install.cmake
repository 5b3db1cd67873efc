# What a user gets. The folders are fixed, not the distribution's libdir: the
# command finds its libraries at <bin>/../lib/headroom, and the loader needs the
# simulated driver under the driver's own file names.
set(library_folder lib/headroom)

# headroom_product builds all that is installed; `make demo` needs no more.
add_custom_target(headroom_product)

if(TARGET headroom_command)
  add_dependencies(headroom_product headroom_command)
  install(TARGETS headroom_command RUNTIME DESTINATION bin)
endif()
if(TARGET headroom_library)
  add_dependencies(headroom_product headroom_library)
  install(TARGETS headroom_library LIBRARY DESTINATION ${library_folder})
endif()
if(TARGET headroom_demo)
  add_dependencies(headroom_product headroom_demo)
  install(TARGETS headroom_demo RUNTIME DESTINATION ${library_folder})
endif()
if(TARGET headroom_cumem_module)
  add_dependencies(headroom_product headroom_cumem_module)
  install(TARGETS headroom_cumem_module LIBRARY DESTINATION ${library_folder}/python)
endif()

get_property(sim_targets DIRECTORY ${CMAKE_SOURCE_DIR}/sim PROPERTY BUILDSYSTEM_TARGETS)
foreach(target ${sim_targets})
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "SHARED_LIBRARY")
    add_dependencies(headroom_product ${target})
    install(PROGRAMS $<TARGET_FILE:${target}> DESTINATION ${library_folder}/sim
      RENAME $<TARGET_SONAME_FILE_NAME:${target}>)
  endif()
endforeach()

# What draws the figure of `headroom bench tiers`; found at <bin>/../share/headroom.
foreach(script plot_results.py plot_tiers.py plot_sleep.py)
  configure_file(${CMAKE_SOURCE_DIR}/scripts/${script} ${CMAKE_BINARY_DIR}/share/headroom/${script} COPYONLY)
  install(PROGRAMS scripts/${script} DESTINATION share/headroom)
endforeach()

install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/headroom DESTINATION include FILES_MATCHING PATTERN "*.h")
