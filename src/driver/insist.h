// Insist: for driver calls that put things back. Nobody else knows what is to be
// undone, so one that fails is tried again, 16 times in all.
#pragma once

#include <unistd.h>

#include "base/clock.h"
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

// The same for mapping memory again, which may need device memory for page tables that another process holds
// at the moment: tries it every millisecond for up to five seconds more.
template <typename Call>
CUresult InsistOnMapping(Call call) {
  constexpr uint64_t kPatience = 5000000000;  // nanoseconds
  const uint64_t begin = NowNanoseconds();
  CUresult result = Insist(call);
  while (result != CUDA_SUCCESS && NowNanoseconds() - begin < kPatience) {
    usleep(1000);
    result = call();
  }
  return result;
}

// Takes back a cuCtxPushCurrent: what is below is what goes on.
inline void PopContext(const Driver& driver) {
  CUcontext popped = nullptr;
  Insist([&] { return driver.CtxPopCurrent(&popped); });
}

}  // namespace gpuroom
