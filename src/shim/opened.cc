// dlopen and dlmopen, looked at as they pass: libraries that this library cannot stand in front of are told
// of.
#include <dlfcn.h>

#include <cstring>

#include "runtime/real_dlsym.h"
#include "runtime/unserved.h"

namespace gpuroom {
namespace {

// These are the driver's own, whose functions the program looks up through ours.
bool IsDriver(const char* name) {
  return std::strstr(name, "libcuda.so") != nullptr || std::strstr(name, "libnvidia-ml.so") != nullptr;
}

}  // namespace
}  // namespace gpuroom

using namespace gpuroom;

extern "C" {

// Where dlopen_*.S goes on to: the C library's own.
__attribute__((visibility("hidden"))) void* gpuroom_real_dlopen = nullptr;
__attribute__((visibility("hidden"))) void* gpuroom_real_dlmopen = nullptr;

// Called by dlopen and dlmopen with their own arguments, before they go on.
GPUROOM_UNINSTRUMENTED __attribute__((visibility("hidden"))) void gpuroom_dlopen_hook(const char* name,
                                                                                      int flags) {
  if (__atomic_load_n(&gpuroom_real_dlopen, __ATOMIC_RELAXED) == nullptr)
    __atomic_store_n(&gpuroom_real_dlopen, FindInC("dlopen"), __ATOMIC_RELAXED);
  if (name == nullptr || (flags & RTLD_DEEPBIND) == 0 || (flags & RTLD_NOLOAD) != 0) return;
  if (!IsDriver(name)) NoteUnserved("with RTLD_DEEPBIND", name);
}

GPUROOM_UNINSTRUMENTED __attribute__((visibility("hidden"))) void gpuroom_dlmopen_hook(Lmid_t space,
                                                                                       const char* name,
                                                                                       int flags) {
  if (__atomic_load_n(&gpuroom_real_dlmopen, __ATOMIC_RELAXED) == nullptr)
    __atomic_store_n(&gpuroom_real_dlmopen, FindInC("dlmopen"), __ATOMIC_RELAXED);
  if (name == nullptr || (flags & RTLD_NOLOAD) != 0) return;
  if (space != LM_ID_BASE) NoteUnserved("in a namespace of its own (dlmopen)", name);
}

}  // extern "C"
