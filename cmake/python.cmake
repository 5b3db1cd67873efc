# python_header: Python.h, for the stable ABI alone, so any CPython from 3.9 on will do. The python3 early in PATH may
# have none where the distribution's has. A cross build has none for its target.
if(NOT CMAKE_CROSSCOMPILING)
  set(python_folders "")
  foreach(python python3 /usr/bin/python3)
    execute_process(COMMAND ${python} -c "import sysconfig; print(sysconfig.get_path('include'))"
      OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    list(APPEND python_folders ${folder})
  endforeach()
  find_path(GPUROOM_PYTHON_INCLUDE Python.h HINTS ${python_folders} NO_CMAKE_FIND_ROOT_PATH NO_DEFAULT_PATH)
endif()
if(GPUROOM_PYTHON_INCLUDE)
  # As <python3/Python.h>, through a link like the other headers' (dependencies.cmake).
  file(CREATE_LINK ${GPUROOM_PYTHON_INCLUDE} ${header_links}/python3 SYMBOLIC)
  add_library(python_header INTERFACE)
  target_include_directories(python_header SYSTEM INTERFACE ${header_links})
elseif(CMAKE_CROSSCOMPILING)
  message(STATUS "cumem_allocator is left out: a cross build has no Python headers for its target")
else()
  message(STATUS "cumem_allocator is left out: Python.h was not found; install python3-dev ('make deps' does)")
endif()
