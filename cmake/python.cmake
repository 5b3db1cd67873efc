# python_header: Python.h, for the stable ABI alone, so any CPython from 3.9 on will do, and a build for another 64-bit
# architecture takes the build machine's. The python3 early in PATH may have none where the distribution's has.
foreach(python ${Python_EXECUTABLE} python3 /usr/bin/python3)
  execute_process(COMMAND ${python} -c "import sysconfig; print(sysconfig.get_path('include'))"
    OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  list(APPEND python_folders ${folder})
endforeach()
find_path(GPUROOM_PYTHON_INCLUDE Python.h HINTS ${python_folders} NO_CMAKE_FIND_ROOT_PATH NO_DEFAULT_PATH)
if(GPUROOM_PYTHON_INCLUDE)
  # As <python3/Python.h>, through a link like the other headers' (dependencies.cmake).
  file(CREATE_LINK ${GPUROOM_PYTHON_INCLUDE} ${header_links}/python3 SYMBOLIC)
  # Debian's pyconfig.h includes <x86_64-linux-gnu/python3.11/pyconfig.h>, or that of another architecture. What the
  # stable ABI takes from it is the same on both of ours.
  get_filename_component(python_name ${GPUROOM_PYTHON_INCLUDE} NAME)
  file(GLOB python_configuration LIST_DIRECTORIES true /usr/include/*-linux-gnu/${python_name})
  if(python_configuration)
    foreach(triplet x86_64-linux-gnu aarch64-linux-gnu)
      file(MAKE_DIRECTORY ${header_links}/${triplet})
      file(CREATE_LINK ${python_configuration} ${header_links}/${triplet}/${python_name} SYMBOLIC)
    endforeach()
  endif()
  add_library(python_header INTERFACE)
  target_include_directories(python_header SYSTEM INTERFACE ${header_links})
else()
  message(STATUS "cumem_allocator is left out: Python.h was not found; install python3-dev ('make deps' does)")
endif()
