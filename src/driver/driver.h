// The CUDA driver, bound at run time: libcuda.so.1 is opened with dlopen and
// every function is asked for with cuGetProcAddress at the version that
// functions.def pins, so nothing links libcuda or libcudart and a newer driver
// cannot hand us another signature. A machine without a driver is an answer.
//
// A Driver is immutable after Bind and may be used from any thread. Calls go
// straight through its function pointers: driver.MemMap(...).
#pragma once

#include <cuda.h>

#include "base/status.h"

namespace gpuroom {

// CUDA 13.0: what this library's signatures are checked against.
inline constexpr int kMinimumDriverVersion = 13000;

struct Driver {
#define GPUROOM_DRIVER_FUNCTION(member, name, symbol, version, need) decltype(&::symbol) member = nullptr;
#include "driver/functions.def"
  int version = 0;          // as cuDriverGetVersion gives it, 13000 = 13.0
  void* library = nullptr;  // dlopen handle; never closed, as drivers do not survive that
};

// How Bind finds symbols. A preloaded library that hooks dlsym passes the real
// one, or it would find itself.
using SymbolLookup = void* (*)(void* library, const char* name);

// Opens libcuda.so.1 and binds functions.def. Calls no cuInit. kNotFound: no
// libcuda.so.1; kUnsupported: too old, native() is its version;
// kDriver: a required function is missing, native() is 0 then, or cuDriverGetVersion failed.
Result<Driver> BindDriver(SymbolLookup lookup = nullptr);

// "CUDA_ERROR_OUT_OF_MEMORY" for a CUresult; never null.
const char* ErrorName(CUresult result);

// kOk for CUDA_SUCCESS, kOutOfMemory for lack of memory, else kDriver.
Status DriverStatus(CUresult result, const char* what);

// Whether the result of asking for memory speaks of that memory: too little, not allowed, not supported, not
// there. False where it says that the context or the GPU can do nothing more, whatever is asked.
bool RefusesMemory(CUresult result);

// The CUresult that an allocation answers for a Status. Programs know lack of memory and what ends a context
// from cuMemAlloc; whatever else kept memory from being made is lack of memory to them, and one warning says
// what it was.
CUresult AllocationResult(const Status& status);

// The CUresult that a C boundary reports for a Status.
CUresult ToCuResult(const Status& status);

}  // namespace gpuroom
