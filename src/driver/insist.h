// Insist: for driver calls that put things back. Nobody else knows what is to be
// undone, so one that fails is tried again, 16 times in all.
#pragma once

#include "driver/driver.h"

namespace gpuroom {

inline constexpr int kInsist = 16;

// `call` gives a CUresult. The last result.
template <typename Call>
CUresult Insist(Call call) {
  CUresult result = call();
  for (int tries = 1; result != CUDA_SUCCESS && tries < kInsist; ++tries) result = call();
  return result;
}

// Takes back a cuCtxPushCurrent: what is below is what goes on.
inline void PopContext(const Driver& driver) {
  CUcontext popped = nullptr;
  Insist([&] { return driver.CtxPopCurrent(&popped); });
}

}  // namespace gpuroom
