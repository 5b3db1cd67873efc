# gpuroom.cdx.json: what others' code the binaries contain, with versions, in CycloneDX (a bill of materials, SBOM).

# gpuroom_header_version(VARIABLE HEADER MACRO...): numbers that a header defines, with dots between.
function(gpuroom_header_version variable header)
  foreach(macro ${ARGN})
    file(STRINGS ${header_links}/${header} line REGEX "define ${macro} " LIMIT_COUNT 1)
    string(REGEX MATCH "${macro} +\"?([0-9.]+)" found "${line}")
    if(NOT found)
      message(FATAL_ERROR "${header} does not define ${macro}; is it a version that this build does not know?")
    endif()
    list(APPEND numbers ${CMAKE_MATCH_1})
  endforeach()
  list(JOIN numbers "." version)
  set(${variable} ${version} PARENT_SCOPE)
endfunction()

set(fmt_header fmt/base.h)  # since fmt 11
if(NOT EXISTS ${header_links}/${fmt_header})
  set(fmt_header fmt/core.h)
endif()
gpuroom_header_version(fmt_number ${fmt_header} FMT_VERSION)  # 90100 is 9.1.0
math(EXPR fmt_major "${fmt_number} / 10000")
math(EXPR fmt_minor "${fmt_number} / 100 % 100")
math(EXPR fmt_patch "${fmt_number} % 100")
set(fmt_version ${fmt_major}.${fmt_minor}.${fmt_patch})
gpuroom_header_version(cli11_version CLI/Version.hpp CLI11_VERSION)
set(json_header nlohmann/detail/abi_macros.hpp)  # since 3.11
if(NOT EXISTS ${header_links}/${json_header})
  set(json_header nlohmann/json.hpp)
endif()
gpuroom_header_version(json_version ${json_header}
  NLOHMANN_JSON_VERSION_MAJOR NLOHMANN_JSON_VERSION_MINOR NLOHMANN_JSON_VERSION_PATCH)
gpuroom_header_version(xxhash_version xxhash.h XXH_VERSION_MAJOR XXH_VERSION_MINOR XXH_VERSION_RELEASE)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  set(cxx_runtime "LLVM libc++")
  set(cxx_runtime_license "Apache-2.0 WITH LLVM-exception")
else()
  set(cxx_runtime "GNU libstdc++")
  set(cxx_runtime_license "GPL-3.0-or-later WITH GCC-exception-3.1")
endif()
set(at "@")  # which configure_file reads as the start of a name
configure_file(${CMAKE_SOURCE_DIR}/packaging/sbom.cdx.json.in ${CMAKE_BINARY_DIR}/gpuroom.cdx.json @ONLY)
