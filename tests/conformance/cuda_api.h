// The driver as the suite sees it: everything src/driver binds, and further
// functions bound the same way (cuGetProcAddress at a pinned version). A
// function that the driver lacks stays null; calling it through Call() fails
// the probe with its name instead of crashing.
#pragma once

#include "driver/driver.h"

namespace headroom::conformance {

struct Cuda : Driver {
#define HEADROOM_CUDA_FUNCTION(member, name, symbol, version) decltype(&::symbol) member = nullptr;
#include "cuda_functions.def"
};

// Opens libcuda.so.1 as the binding does. Calls no cuInit.
Result<Cuda> BindCuda();

}  // namespace headroom::conformance
