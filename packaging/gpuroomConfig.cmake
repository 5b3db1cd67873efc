# find_package(gpuroom) gives two targets:
#   gpuroom::gpuroom    libgpuroom.so and its headers (<gpuroom/gpuroom.h> and others): the C interface
#   gpuroom::simulator  the simulated driver, to link in the place of CUDA's own libcuda.so.1
# and the variable gpuroom_COMMAND, the path of the command.
get_filename_component(_gpuroom_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(gpuroom_COMMAND "${_gpuroom_prefix}/bin/gpuroom")

if(NOT TARGET gpuroom::gpuroom)
  add_library(gpuroom::gpuroom SHARED IMPORTED)
  set_target_properties(gpuroom::gpuroom PROPERTIES
    IMPORTED_LOCATION "${_gpuroom_prefix}/lib/gpuroom/libgpuroom.so"
    IMPORTED_SONAME libgpuroom.so
    INTERFACE_INCLUDE_DIRECTORIES "${_gpuroom_prefix}/include")
  add_library(gpuroom::simulator SHARED IMPORTED)
  set_target_properties(gpuroom::simulator PROPERTIES
    IMPORTED_LOCATION "${_gpuroom_prefix}/lib/gpuroom/sim/libcuda.so.1"
    IMPORTED_SONAME libcuda.so.1)
endif()
foreach(_gpuroom_target gpuroom::gpuroom gpuroom::simulator)
  get_target_property(_gpuroom_file ${_gpuroom_target} IMPORTED_LOCATION)
  if(NOT EXISTS "${_gpuroom_file}")
    set(gpuroom_FOUND FALSE)
    set(gpuroom_NOT_FOUND_MESSAGE "'${_gpuroom_file}' is missing; install gpuroom again")
  endif()
endforeach()
unset(_gpuroom_file)
unset(_gpuroom_prefix)
