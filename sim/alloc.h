// The driver's own allocator: what cuMemAlloc does. Requests up to 1 MiB share
// 2 MiB blocks, larger ones are rounded to 2 MiB and have a chunk of their own.
// Under the State's lock.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "va_table.h"

namespace headroom::sim {

// Adds a region of `kind` with read and write rights for `device`. Fails with
// CUDA_ERROR_OUT_OF_MEMORY.
CUresult AllocateDevice(CUcontext context, int device, uint64_t bytes, RegionKind kind, CUdeviceptr* out);
// Takes a region that AllocateDevice made away, with its memory.
void FreeDevice(Region* region);

// Host memory that the GPU sees: `data` is the program's address.
Region* AddHostRegion(CUcontext context, void* data, uint64_t bytes, RegionKind kind, unsigned flags);
AccessSet DeviceAccess(int device);
AccessSet EveryAccess();

}  // namespace headroom::sim
