// Program: a CUDA program as the tests play it. It comes by the driver as unchanged
// programs do, with dlopen and dlsym, so that what it calls is the shim where the
// shim stands in front. Sim: the simulated driver's control functions.
//
// One thread, except where a function says otherwise.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/size.h"

#undef cuGetProcAddress
#undef cuStreamBeginCapture

namespace gpuroom::shim_test {

struct Calls {
#define GPUROOM_CALL(member, symbol, type) decltype(&::type) member = nullptr;
#include "driver_calls.def"
};

// The driver's functions as dlsym gives them for libcuda.so.1. A function that the
// driver lacks is null, and a test that needs it fails at its address.
const Calls& Cu();
void* LibCuda();

struct Sim {
  uint64_t (*call_count)(const char*);
  uint64_t (*early_launches)();
  void (*fail)(const char*);
  int (*leaks)(char*, size_t);
  uint64_t (*used)(int);
  int (*strict_errors)(char*, size_t);
  void (*clear_strict_errors)();
};
const Sim& GetSim();
std::string Leaks();
std::string StrictErrors();

struct Info {
  size_t free = 0;
  size_t total = 0;
  bool operator==(const Info&) const = default;
};
Info MemInfo();

// cuInit, and the primary context of `device` current in this thread.
CUcontext UseDevice(int device);

// The sample kernels on the current context; any thread. `bytes` is a multiple of 8.
void Fill(CUdeviceptr p, uint64_t bytes, uint64_t seed, CUstream stream = nullptr);
void Verify(CUdeviceptr p, uint64_t bytes, uint64_t seed, CUdeviceptr bad, CUstream stream = nullptr);
void Spin(uint64_t nanoseconds, CUstream stream = nullptr);
// Spin that asks to begin while the kernel before it runs (programmatic dependent launch).
void SpinEarly(uint64_t nanoseconds, CUstream stream = nullptr);
// Whether a kernel that asks for it begins early now.
bool BeginsEarly();
// Words that differ from what Fill wrote; waits for the context.
uint64_t CountBad(CUdeviceptr p, uint64_t bytes, uint64_t seed, CUstream stream = nullptr);
// What Fill writes as word `index`.
uint64_t FilledWord(uint64_t seed, uint64_t index);

CUmemAllocationProp DeviceMemory(int device = 0);
CUmemAccessDesc DeviceAccess(int device = 0);

struct Placement {
  uint64_t device_bytes = 0;
  uint64_t host_bytes = 0;
};
// Where a range lies, by gpuroom_describe; zeroes for ordinary memory.
Placement PlacementOf(CUdeviceptr p);

// "CUDA_SUCCESS" and so on, for messages.
std::string NameOf(CUresult result);

}  // namespace gpuroom::shim_test

#define EXPECT_CU(call) EXPECT_EQ(gpuroom::shim_test::NameOf(call), "CUDA_SUCCESS") << #call
#define ASSERT_CU(call) ASSERT_EQ(gpuroom::shim_test::NameOf(call), "CUDA_SUCCESS") << #call
#define EXPECT_CU_IS(call, result) \
  EXPECT_EQ(gpuroom::shim_test::NameOf(call), gpuroom::shim_test::NameOf(result)) << #call
