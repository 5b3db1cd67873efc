#include "shim/real.h"

#include <dlfcn.h>

#include <mutex>

#include "runtime/real_dlsym.h"

namespace gpuroom {
namespace {

void* OpenOnce(const char* name, std::once_flag& once, void*& library) {
  std::call_once(once, [&] { library = dlopen(name, RTLD_NOW | RTLD_LOCAL); });
  return library;
}

}  // namespace

void* DriverSymbol(const char* name) {
  static std::once_flag once;
  static void* library = nullptr;
  return OpenOnce("libcuda.so.1", once, library) == nullptr ? nullptr : RealDlsym()(library, name);
}

void* NvmlSymbol(const char* name) {
  static std::once_flag once;
  static void* library = nullptr;
  return OpenOnce("libnvidia-ml.so.1", once, library) == nullptr ? nullptr : RealDlsym()(library, name);
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
