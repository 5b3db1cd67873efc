# gpuroom_options: what every target of this project compiles with.
add_library(gpuroom_options INTERFACE)
target_compile_options(gpuroom_options INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor
  # g++ 12 sees overlaps in std::string that are not there (gcc.gnu.org bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  $<$<BOOL:${GPUROOM_WERROR}>:-Werror>
  # Zig's C++ library annotates its mutexes itself; the gate `threads` of make lint looks at ours.
  $<$<AND:$<CXX_COMPILER_ID:Clang>,$<NOT:$<BOOL:${GPUROOM_ZIG}>>>:-Wthread-safety>)
target_include_directories(gpuroom_options INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)

if(GPUROOM_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(GPUROOM_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
elseif(GPUROOM_SANITIZE STREQUAL "fuzzer")
  # With the marks by which libFuzzer sees what an input reaches; its main() comes with the targets of tests/fuzz.
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
    -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(GPUROOM_SANITIZE)
  message(FATAL_ERROR "GPUROOM_SANITIZE is '${GPUROOM_SANITIZE}'; use address, thread or fuzzer")
endif()

# gpuroom_own_runtime: links the C++ runtime in. For libraries that live in other people's processes, and for programs
# that have to run where no C++ runtime is installed. A sanitizer needs the shared one. Zig's is always linked in.
add_library(gpuroom_own_runtime INTERFACE)
if(NOT GPUROOM_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_link_options(gpuroom_own_runtime INTERFACE -static-libstdc++ -static-libgcc)
endif()
