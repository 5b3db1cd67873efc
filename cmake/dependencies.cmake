# What the build needs from outside: the CUDA driver's header (types only,
# nothing is linked), and header-only libraries. `make deps` installs them; a source
# distribution has the latter in third_party and takes the former from NVIDIA's wheel.
find_package(Threads REQUIRED)

# cuda.h and its types: a toolkit's, or the one that scripts/deps.sh took from NVIDIA's wheel. Where pip builds, it has
# that wheel in a folder which is new each time, and gone afterwards: looked at last, since all would be compiled anew.
if(NOT EXISTS "${GPUROOM_CUDA_INCLUDE}/cuda.h")
  unset(GPUROOM_CUDA_INCLUDE CACHE)
endif()
find_path(GPUROOM_CUDA_INCLUDE cuda.h
  HINTS ${CMAKE_SOURCE_DIR}/build/deps/cuda/include $ENV{CUDA_HOME}/include /usr/local/cuda/include
  NO_CMAKE_FIND_ROOT_PATH NO_CMAKE_PATH)
find_path(GPUROOM_CUDA_INCLUDE cuda.h PATH_SUFFIXES nvidia/cu13/include NO_CMAKE_FIND_ROOT_PATH)
if(NOT GPUROOM_CUDA_INCLUDE)
  message(FATAL_ERROR "cuda.h (CUDA 13) was not found; run 'make deps', or set GPUROOM_CUDA_INCLUDE")
endif()
add_library(cuda_header INTERFACE)
file(STRINGS ${GPUROOM_CUDA_INCLUDE}/cuda.h cuda_version_line REGEX "#define CUDA_VERSION [0-9]+")
if(NOT cuda_version_line MATCHES "CUDA_VERSION 1[3-9]")
  message(FATAL_ERROR "${GPUROOM_CUDA_INCLUDE}/cuda.h is older than CUDA 13 (${cuda_version_line}); "
    "run 'make deps' and configure with -DGPUROOM_CUDA_INCLUDE=build/deps/cuda/include")
endif()

# Header-only libraries are reached through links of their own, so that a cross
# build does not see the rest of the build machine's /usr/include.
set(header_links ${CMAKE_BINARY_DIR}/headers)
set(vendored_headers ${CMAKE_SOURCE_DIR}/third_party)
file(MAKE_DIRECTORY ${header_links})
foreach(library fmt nlohmann CLI)
  find_path(GPUROOM_${library}_DIR ${library} HINTS ${vendored_headers} /usr/include /usr/local/include
    NO_CMAKE_FIND_ROOT_PATH)
  if(NOT GPUROOM_${library}_DIR)
    message(FATAL_ERROR "the headers of ${library} were not found; run 'make deps'")
  endif()
  file(CREATE_LINK ${GPUROOM_${library}_DIR}/${library} ${header_links}/${library} SYMBOLIC)
endforeach()
foreach(header cuda.h cudaTypedefs.h)
  file(CREATE_LINK ${GPUROOM_CUDA_INCLUDE}/${header} ${header_links}/${header} SYMBOLIC)
endforeach()
target_include_directories(cuda_header SYSTEM INTERFACE ${header_links})

# XXH3, inlined: the library that programs load depends on nothing more.
find_path(GPUROOM_XXHASH_INCLUDE xxhash.h HINTS ${vendored_headers} /usr/include /usr/local/include
  NO_CMAKE_FIND_ROOT_PATH)
if(NOT GPUROOM_XXHASH_INCLUDE)
  message(FATAL_ERROR "the header of xxhash was not found; run 'make deps'")
endif()
file(CREATE_LINK ${GPUROOM_XXHASH_INCLUDE}/xxhash.h ${header_links}/xxhash.h SYMBOLIC)
add_library(gpuroom_xxhash INTERFACE)
target_include_directories(gpuroom_xxhash SYSTEM INTERFACE ${header_links})

add_library(gpuroom_cli_libraries INTERFACE)
target_include_directories(gpuroom_cli_libraries SYSTEM INTERFACE ${header_links})
# fmt: the distribution's shared library; or compiled once, by cmake/fmt.cc, which knows fmt 9 and 10; or else its headers
# alone, which takes 6 s more in every file that prints. What is installed does without the shared library.
option(GPUROOM_SHARED_FMT "Use the distribution's libfmt.so where it serves the target" OFF)
if(GPUROOM_SHARED_FMT AND NOT CMAKE_CROSSCOMPILING)
  find_library(GPUROOM_FMT_LIBRARY fmt)
endif()
# gpuroom_program_runtime: the C++ runtime of our programs, in which they print.
add_library(gpuroom_program_runtime INTERFACE)
if(GPUROOM_FMT_LIBRARY)
  target_link_libraries(gpuroom_cli_libraries INTERFACE ${GPUROOM_FMT_LIBRARY})
else()
  target_link_libraries(gpuroom_program_runtime INTERFACE gpuroom_own_runtime)
  file(STRINGS ${header_links}/fmt/core.h fmt_version_line REGEX "define FMT_VERSION ")
  if(fmt_version_line MATCHES "FMT_VERSION (9|10)[0-9][0-9][0-9][0-9]$")
    add_library(gpuroom_fmt STATIC ${CMAKE_SOURCE_DIR}/cmake/fmt.cc)
    target_include_directories(gpuroom_fmt SYSTEM PRIVATE ${header_links})
    target_link_libraries(gpuroom_cli_libraries INTERFACE gpuroom_fmt)
  else()
    target_compile_definitions(gpuroom_cli_libraries INTERFACE FMT_HEADER_ONLY)
  endif()
endif()
