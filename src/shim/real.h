// The functions behind the hooks: the C library's own dlsym, and the driver's
// and NVML's functions that hooks.def names. Loaded on first use, never at
// start-up, since most processes below `gpuroom run` make no CUDA call.
// Any thread; nothing here allocates after loading.
#pragma once

#include <cuda.h>

// cuda.h renames some functions by macro; hooks.def means the exported symbols.
#undef cuGetProcAddress
#undef cuStreamBeginCapture
#undef cuIpcOpenMemHandle
#undef cuMulticastBindMem
#undef cuMulticastBindAddr

extern "C" {
CUresult cuGetProcAddress(const char*, void**, int, cuuint64_t);
CUresult cuMulticastBindMem(CUmemGenericAllocationHandle, size_t, CUmemGenericAllocationHandle, size_t,
                            size_t, unsigned long long);
CUresult cuMulticastBindMem_v2(CUmemGenericAllocationHandle, CUdevice, size_t, CUmemGenericAllocationHandle,
                               size_t, size_t, unsigned long long);
CUresult cuMulticastBindAddr(CUmemGenericAllocationHandle, size_t, CUdeviceptr, size_t, unsigned long long);
CUresult cuMulticastBindAddr_v2(CUmemGenericAllocationHandle, CUdevice, size_t, CUdeviceptr, size_t,
                                unsigned long long);
CUresult cuIpcOpenMemHandle(CUdeviceptr*, CUipcMemHandle, unsigned);
CUresult cuMemAllocAsync_ptsz(CUdeviceptr*, size_t, CUstream);
CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr*, size_t, CUmemoryPool, CUstream);
CUresult cuCtxCreate_v2(CUcontext*, unsigned, CUdevice);
CUresult cuCtxCreate_v3(CUcontext*, CUexecAffinityParam*, int, unsigned, CUdevice);
CUresult cuMemMapArrayAsync_ptsz(CUarrayMapInfo*, unsigned, CUstream);
CUresult cuMemFreeAsync_ptsz(CUdeviceptr, CUstream);
CUresult cuStreamBeginCapture_v2_ptsz(CUstream, CUstreamCaptureMode);
CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream, CUgraph, const CUgraphNode*, const CUgraphEdgeData*,
                                          size_t, CUstreamCaptureMode);
CUresult cuStreamEndCapture_ptsz(CUstream, CUgraph*);
}

namespace gpuroom {

struct RealFunctions {
#define GPUROOM_HOOK(name, symbol, since, stream) decltype(&::symbol) symbol = nullptr;
#include "shim/hooks.def"
};

// The driver's own functions. One that this driver lacks, or all where there is no
// driver, answers CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND: lookups never hand it
// out, but a program may find the shim's in the global scope. Opens libcuda.so.1 on
// the first call.
const RealFunctions& Real();

// A symbol of libcuda.so.1 or libnvidia-ml.so.1 if the library is loaded or can
// be; null otherwise.
void* DriverSymbol(const char* name);
void* NvmlSymbol(const char* name);

}  // namespace gpuroom
