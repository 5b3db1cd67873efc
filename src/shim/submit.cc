#include "shim/submit.h"

#include "runtime/runtime.h"
#include "shim/real.h"

namespace headroom {
namespace {

const char* const kSymbols[] = {
#define HEADROOM_SUBMIT(name, symbol, type, since, stream) #symbol,
#include "shim/submit.def"
};

// The driver's own functions; null for one that this driver lacks.
void* const* RealSubmits() {
  static void* real[kSubmitCount];
  static const bool filled = [] {
    for (int i = 0; i < kSubmitCount; ++i) real[i] = DriverSymbol(kSymbols[i]);
    return true;
  }();
  (void)filled;
  return real;
}

template <int kIndex, typename Function>
struct Submit;

template <int kIndex, typename... Arguments>
struct Submit<kIndex, CUresult (*)(Arguments...)> {
  static CUresult Hook(Arguments... arguments) {
    const auto real = reinterpret_cast<CUresult (*)(Arguments...)>(RealSubmits()[kIndex]);
    if (real == nullptr) return CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND;
    const Passage passage;
    return real(arguments...);
  }
};

}  // namespace
}  // namespace headroom

using namespace headroom;

extern "C" void* const headroom_submit_hooks[kSubmitCount] = {
#define HEADROOM_SUBMIT(name, symbol, type, since, stream) \
  reinterpret_cast<void*>(&Submit<kSubmit_##symbol, type>::Hook),
#include "shim/submit.def"
};
