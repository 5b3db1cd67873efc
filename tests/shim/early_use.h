// What a library got that used CUDA in its constructor, before libgpuroom.so was initialised.
#pragma once

#include <cuda.h>

namespace gpuroom::shim_test {

struct EarlyUse {
  CUresult result = CUDA_ERROR_UNKNOWN;  // of an allocation and its free
  void* launch = nullptr;                // cuLaunchKernel and cuMemAlloc, as cuGetProcAddress gave them
  void* allocate = nullptr;
  const char* control_directory = "";
};

__attribute__((visibility("default"))) const EarlyUse& EarlyUseOfCuda();

}  // namespace gpuroom::shim_test
