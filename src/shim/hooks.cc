#include "shim/hooks.h"

#include <new>

#include "base/log.h"

namespace gpuroom {

CUresult ResultOfException(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  Log(LogLevel::kError, "a call fails in CUDA_ERROR_UNKNOWN: %s", error.what());
  return CUDA_ERROR_UNKNOWN;
}

namespace {

template <auto kHook>
struct Guarded;

template <typename... Arguments, CUresult (*kHook)(Arguments...)>
struct Guarded<kHook> {
  static CUresult Call(Arguments... arguments) {
    try {
      return kHook(arguments...);
    } catch (const std::exception& error) {
      return ResultOfException(error);
    }
  }
};

}  // namespace
}  // namespace gpuroom

extern "C" void* const gpuroom_hooks[gpuroom::kHookCount] = {
#define GPUROOM_HOOK(name, symbol, since, stream) \
  reinterpret_cast<void*>(&gpuroom::Guarded<&gpuroom::hooks::symbol>::Call),
#include "shim/hooks.def"
};
