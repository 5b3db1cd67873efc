# Builds for glibc 2.28 and newer, whatever this machine has, for x86-64 or 64-bit Arm: what the wheels and the .deb
# packages hold. The compiler is Zig's clang, which brings every C library's headers and symbol lists with it; PyPI's
# package `ziglang` has it. Set GPUROOM_ARCH (x86_64 or aarch64) and GPUROOM_ZIG (path of the program `zig`).
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES GPUROOM_ARCH GPUROOM_ZIG)
if(NOT GPUROOM_ARCH MATCHES "^(x86_64|aarch64)$")
  message(FATAL_ERROR "GPUROOM_ARCH is '${GPUROOM_ARCH}'; use x86_64 or aarch64")
endif()
if(NOT EXISTS "${GPUROOM_ZIG}")
  message(FATAL_ERROR "GPUROOM_ZIG is '${GPUROOM_ZIG}', which is no file; 'make wheel' installs Zig and names it")
endif()
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${GPUROOM_ARCH})
set(gpuroom_target ${GPUROOM_ARCH}-linux-gnu.2.28)
set(CMAKE_C_COMPILER ${GPUROOM_ZIG} cc -target ${gpuroom_target})
# With -O2, which CMake's own flags follow: Zig compiles its C++ library at the first use, some 80 s of processor time,
# and once more for programs that are not optimized, as those by which CMake gets to know a compiler.
set(CMAKE_CXX_COMPILER ${GPUROOM_ZIG} c++ -target ${gpuroom_target} -O2)
set(CMAKE_ASM_COMPILER ${GPUROOM_ZIG} cc -target ${gpuroom_target})
# GNU's ar indexes objects of every architecture well enough for archives that only Zig's linker reads.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
# Nothing of the build machine's own libraries belongs in here.
set(CMAKE_FIND_ROOT_PATH ${CMAKE_CURRENT_LIST_DIR}/nothing)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
# Zig's linker strips; the build machine's `strip` may not know the target.
foreach(kind EXE SHARED MODULE)
  set(CMAKE_${kind}_LINKER_FLAGS_RELEASE_INIT -s)
endforeach()
set(CMAKE_STRIP /bin/true)
