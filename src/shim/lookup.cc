// How programs come by the shim's functions: dlsym (dlopen'd libcuda, Python's
// ctypes, libcudart's own start-up) and cuGetProcAddress (libcudart, everything
// newer). Programs that link libcuda reach them by symbol interposition.
#include <dlfcn.h>

#include <climits>
#include <cstring>

#include "runtime/real_dlsym.h"
#include "shim/hooks.h"
#include "shim/nvml.h"
#include "shim/real.h"
#include "shim/submit.h"

namespace gpuroom {
namespace {

enum class Stream { kAny, kLegacy, kPerThread };

// As the library exports it, so that a program that links the driver has the same address.
template <auto kFunction>
void* AddressOf() {
  return reinterpret_cast<void*>(kFunction);
}
template <SubmitIndex kIndex>
void* SubmitHook() {
  return gpuroom_submit_hooks[kIndex];
}

struct Hook {
  const char* name;    // as cuGetProcAddress is asked for it
  const char* symbol;  // as dlsym is asked for it
  void* (*address)();
  int since;
  Stream stream;
};

// Filled by the linker: constructors of the program's libraries ask before this library's own have run.
constinit const Hook kHooks[] = {
#define GPUROOM_HOOK(name, symbol, since, stream) \
  {name, #symbol, &AddressOf<&::symbol>, since, Stream::stream},
#include "shim/hooks.def"
#define GPUROOM_SUBMIT(name, symbol, type, since, stream) \
  {name, #symbol, &SubmitHook<kSubmit_##symbol>, since, Stream::stream},
#include "shim/submit.def"
};

const Hook* FindSymbol(const char* symbol) {
  for (const Hook& hook : kHooks) {
    if (std::strcmp(hook.symbol, symbol) == 0) return &hook;
  }
  return nullptr;
}

// The hook for what the driver hands out under `name` at `version`: the newest
// that is not newer than asked.
const Hook* FindName(const char* name, int version, cuuint64_t flags) {
  const bool per_thread = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0;
  if (version < 0) version = INT_MAX;  // the driver reads it as unsigned
  const Hook* best = nullptr;
  for (const Hook& hook : kHooks) {
    if (std::strcmp(hook.name, name) != 0 || hook.since > version) continue;
    if (hook.stream == (per_thread ? Stream::kLegacy : Stream::kPerThread)) continue;
    if (best == nullptr || hook.since > best->since) best = &hook;
  }
  return best;
}

// A driver newer than this shim may mean another signature by the same name at a
// higher version. Then its answer at our version differs, and stays untouched.
bool SameFunctionAt(const char* name, void* address, int since, cuuint64_t flags) {
  void* pinned = nullptr;
  return Real().cuGetProcAddress_v2(name, &pinned, since, flags, nullptr) == CUDA_SUCCESS &&
         pinned == address;
}

void Replace(const char* name, void** address, int version, cuuint64_t flags) {
  if (name == nullptr || address == nullptr || *address == nullptr) return;
  const Hook* hook = FindName(name, version, flags);
  if (hook != nullptr && SameFunctionAt(name, *address, hook->since, flags)) *address = hook->address();
}

// What to hand out instead of `real`, the symbol `name` of the library that
// `handle` names; null to leave the lookup alone. RTLD_DEFAULT and RTLD_NEXT are
// left to the C library: interposition makes the former find the shim first, and
// whoever asks for the next one wants what lies behind it.
void* Substitute(void* handle, const char* name, void* hook, void* (*library_symbol)(const char*)) {
  if (handle == RTLD_NEXT || handle == RTLD_DEFAULT) return nullptr;
  void* found = RealDlsym()(handle, name);
  return found != nullptr && found == library_symbol(name) ? hook : nullptr;
}

void* HookFor(void* handle, const char* name) {
  const Hook* hook = FindSymbol(name);
  if (hook != nullptr) return Substitute(handle, name, hook->address(), DriverSymbol);
  void* nvml_hook = NvmlHook(name);
  return nvml_hook == nullptr ? nullptr : Substitute(handle, name, nvml_hook, NvmlSymbol);
}

}  // namespace
}  // namespace gpuroom

using namespace gpuroom;

extern "C" {

__attribute__((visibility("hidden"))) void* gpuroom_real_dlsym = nullptr;

// Called by dlsym with its own arguments. Null: go on to the C library's.
GPUROOM_UNINSTRUMENTED __attribute__((visibility("hidden"))) void* gpuroom_dlsym_hook(void* handle,
                                                                                      const char* name) {
  if (__atomic_load_n(&gpuroom_real_dlsym, __ATOMIC_RELAXED) == nullptr) {
    __atomic_store_n(&gpuroom_real_dlsym, reinterpret_cast<void*>(FindDlsym()), __ATOMIC_RELAXED);
  }
  if (name == nullptr) return nullptr;
  const bool ours = (name[0] == 'c' && name[1] == 'u') || (name[0] == 'n' && name[1] == 'v');
  return ours ? HookFor(handle, name) : nullptr;
}

}  // extern "C"

namespace gpuroom::hooks {

CUresult cuGetProcAddress(const char* name, void** address, int version, cuuint64_t flags) {
  const CUresult result = Real().cuGetProcAddress(name, address, version, flags);
  if (result == CUDA_SUCCESS) Replace(name, address, version, flags);
  return result;
}

CUresult cuGetProcAddress_v2(const char* name, void** address, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult* status) {
  const CUresult result = Real().cuGetProcAddress_v2(name, address, version, flags, status);
  if (result == CUDA_SUCCESS) Replace(name, address, version, flags);
  return result;
}

}  // namespace gpuroom::hooks
