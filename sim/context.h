// Making and ending contexts. A context's end drops its work; its memory that
// the program did not free goes with it, as with a real driver. Under the lock.
#pragma once

#include <cuda.h>

#include "state.h"

namespace gpuroom::sim {

CUcontext NewContext(int device, unsigned flags, bool primary);
void EndContext(CUcontext context);
// Frees cuMemAlloc, pool and host memory of the context.
void FreeContextMemory(CUcontext context);
void FreeContextArrays(CUcontext context);

}  // namespace gpuroom::sim
