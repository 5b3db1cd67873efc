// The driver's own allocator: what cuMemAlloc does. Requests up to 1 MiB share
// 2 MiB blocks, larger ones are rounded to 2 MiB and have a chunk of their own.
// Under the State's lock.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "va_table.h"

namespace gpuroom::sim {

// Adds a region of `kind` (kAlloc, or kPool with its pool) in `place`, with read
// and write rights for `device`. Fails with CUDA_ERROR_OUT_OF_MEMORY.
struct Request {
  CUcontext context = nullptr;
  int device = 0;
  Place place;
  uint64_t bytes = 0;
  RegionKind kind = RegionKind::kAlloc;
  CUmemoryPool pool = nullptr;
};
Request OrdinaryRequest(CUcontext context, uint64_t bytes);
CUresult AllocateDevice(const Request& request, CUdeviceptr* out);
// How much AllocateDevice makes of a request.
uint64_t RoundedSize(uint64_t bytes);
// Takes a region that AllocateDevice made away, with its memory.
void FreeDevice(Region* region);

// Addresses that are reserved for `bytes` of another process.
uint64_t ImportedSpan(uint64_t bytes);

// Host memory that the GPU sees: `data` is the program's address.
Region* AddHostRegion(CUcontext context, void* data, uint64_t bytes, RegionKind kind, unsigned flags);
AccessSet DeviceAccess(int device);
AccessSet EveryAccess();

}  // namespace gpuroom::sim
