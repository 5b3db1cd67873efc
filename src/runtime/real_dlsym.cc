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
  // The first dlsym of the global scope is ours then.
  Dl_info first{};
  Dl_info ours{};
  return dladdr(RealDlsym()(RTLD_DEFAULT, "dlsym"), &first) != 0 &&
         dladdr(reinterpret_cast<void*>(&StandsInFront), &ours) != 0 && first.dli_fbase == ours.dli_fbase;
}

}  // namespace gpuroom
