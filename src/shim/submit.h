// The hooks of submit.def, which only pass the gate.
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>

namespace gpuroom {

// Of drivers newer than the oldest cuda.h that this is built with.
using CopyWithAttributes = CUresult(CUDAAPI*)(CUdeviceptr, CUdeviceptr, size_t, CUmemcpyAttributes*,
                                              CUstream);
using Copy3DWithAttributes = CUresult(CUDAAPI*)(CUDA_MEMCPY3D_BATCH_OP*, unsigned long long, CUstream);
using CopyBatchOverFabric = CUresult(CUDAAPI*)(size_t, void* operations, unsigned long long, CUstream);

enum SubmitIndex : int {
#define GPUROOM_SUBMIT(name, symbol, type, since, stream) kSubmit_##symbol,
#include "shim/submit.def"
  kSubmitCount
};

// By SubmitIndex: the hooks, filled by the linker (LinkedTest sees to that). exports_*.S jumps through
// it, so that the library also exports them by name.
extern "C" __attribute__((visibility("hidden"))) void* const gpuroom_submit_hooks[kSubmitCount];

}  // namespace gpuroom
