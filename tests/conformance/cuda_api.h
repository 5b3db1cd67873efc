// The driver as the suite sees it: everything src/driver binds, and further
// functions bound the same way (cuGetProcAddress at a pinned version). A
// function that the driver lacks answers CUDA_ERROR_NOT_FOUND, so that only the
// probes which need it fail.
#pragma once

#include "driver/driver.h"

namespace gpuroom::conformance {

struct Cuda : Driver {
#define GPUROOM_CUDA_FUNCTION(member, name, symbol, version) decltype(&::symbol) member = nullptr;
#include "cuda_functions.def"
};

// Opens libcuda.so.1 as the binding does. Calls no cuInit.
Result<Cuda> BindCuda();

}  // namespace gpuroom::conformance
