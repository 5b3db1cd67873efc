#include "runtime/real_dlsym.h"

#include <dlfcn.h>

namespace gpuroom {
namespace {

// The versions of libdl's functions in the C library: GLIBC_2.34 where libdl became part of it, and before
// that the architecture's first version, or the one that brought dlmopen.
#if defined(__x86_64__)
constexpr const char* kVersions[] = {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.3.4"};
#elif defined(__aarch64__)
constexpr const char* kVersions[] = {"GLIBC_2.34", "GLIBC_2.17"};
#else
#error "gpuroom supports x86-64 and aarch64"
#endif

}  // namespace

GPUROOM_UNINSTRUMENTED void* FindInC(const char* name) {
  for (const char* version : kVersions) {
    if (void* address = dlvsym(RTLD_NEXT, name, version)) return address;
  }
  return nullptr;
}

GPUROOM_UNINSTRUMENTED DlsymFunction FindDlsym() { return reinterpret_cast<DlsymFunction>(FindInC("dlsym")); }

DlsymFunction RealDlsym() {
  static const DlsymFunction real = FindDlsym();
  return real;
}

bool StandsInFront() {
  // The program's first dlsym is ours then. Asked by the program's own handle: RTLD_DEFAULT begins with the
  // scope of the library that asks, which finds itself where it is linked with -Bsymbolic.
  using Open = void* (*)(const char*, int);
  const auto open = reinterpret_cast<Open>(FindInC("dlopen"));
  void* const program = open != nullptr ? open(nullptr, RTLD_LAZY) : nullptr;
  Dl_info first{};
  Dl_info ours{};
  return program != nullptr && dladdr(RealDlsym()(program, "dlsym"), &first) != 0 &&
         dladdr(reinterpret_cast<void*>(&StandsInFront), &ours) != 0 && first.dli_fbase == ours.dli_fbase;
}

}  // namespace gpuroom
