// The built-in kernels, under the names that samples/kernels compiles to PTX.
// Any module image is accepted; a function of another name is not found.
#pragma once

#include <cuda.h>

#include "stream.h"

namespace gpuroom::sim {

struct Kernel {
  const char* name;
  int parameters;  // each of 8 bytes
  // Makes the operation of one launch; arguments are copied now, memory is read late.
  Operation (*launch)(const uint64_t* arguments, int device);
};

const Kernel* FindKernel(const char* name);
size_t KernelCount();
const Kernel* KernelAt(size_t index);

uint64_t Mix(uint64_t x);

}  // namespace gpuroom::sim
