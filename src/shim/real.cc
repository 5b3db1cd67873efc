#include "shim/real.h"

#include <dlfcn.h>

#include "runtime/real_dlsym.h"

namespace gpuroom {

void* DriverSymbol(const char* name) {
  static void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  return library == nullptr ? nullptr : RealDlsym()(library, name);
}

void* NvmlSymbol(const char* name) {
  static void* const library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  return library == nullptr ? nullptr : RealDlsym()(library, name);
}

namespace {

template <typename... Arguments>
void Bind(CUresult (*&function)(Arguments...), const char* symbol) {
  function = reinterpret_cast<CUresult (*)(Arguments...)>(DriverSymbol(symbol));
  if (function == nullptr) function = [](Arguments...) { return CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND; };
}

}  // namespace

const RealFunctions& Real() {
  static const RealFunctions real = [] {
    RealFunctions functions;
#define GPUROOM_HOOK(name, symbol, since, stream) Bind(functions.symbol, #symbol);
#include "shim/hooks.def"
    return functions;
  }();
  return real;
}

}  // namespace gpuroom
