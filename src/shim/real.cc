#include "shim/real.h"

#include <mutex>

namespace headroom::shim {
namespace {

// dlsym's version in the C library: GLIBC_2.34 where libdl became part of it, and
// before that the architecture's first version.
#if defined(__x86_64__)
constexpr const char* kFirstVersion = "GLIBC_2.2.5";
#elif defined(__aarch64__)
constexpr const char* kFirstVersion = "GLIBC_2.17";
#else
#error "headroom supports x86-64 and aarch64"
#endif

void* OpenOnce(const char* name, std::once_flag& once, void*& library) {
  std::call_once(once, [&] { library = dlopen(name, RTLD_NOW | RTLD_LOCAL); });
  return library;
}

}  // namespace

HEADROOM_UNINSTRUMENTED DlsymFunction FindDlsym() {
  void* address = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
  if (address == nullptr) address = dlvsym(RTLD_NEXT, "dlsym", kFirstVersion);
  return reinterpret_cast<DlsymFunction>(address);
}

DlsymFunction RealDlsym() {
  static const DlsymFunction real = FindDlsym();
  return real;
}

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
#define HEADROOM_HOOK(name, symbol, since, stream) Bind(functions.symbol, #symbol);
#include "shim/hooks.def"
    return functions;
  }();
  return real;
}

}  // namespace headroom::shim
