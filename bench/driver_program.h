// The driver as a stand-alone program sees it: libcuda.so.1 opened with dlopen
// and asked with dlsym, or through cuGetProcAddress as libcudart does. The
// benchmarks and tests/gpu use this and nothing of gpuroom, so that they are
// the unchanged programs that the shim has to serve.
//
// Not for threads: one Program per process. Errors end the process with one
// line and status 1 (Check), a missing GPU or driver with status 77 (skip).
#pragma once

#include <cuda.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "gpuroom/gpuroom.h"

namespace gpuroom::bench {

// name in this table, symbol in libcuda, name and version for cuGetProcAddress.
#define GPUROOM_PROGRAM_FUNCTIONS(X)                                                     \
  X(Init, cuInit, "cuInit", 2000)                                                        \
  X(DriverGetVersion, cuDriverGetVersion, "cuDriverGetVersion", 2020)                    \
  X(DeviceGet, cuDeviceGet, "cuDeviceGet", 2000)                                         \
  X(DeviceGetCount, cuDeviceGetCount, "cuDeviceGetCount", 2000)                          \
  X(DeviceGetName, cuDeviceGetName, "cuDeviceGetName", 2000)                             \
  X(DeviceTotalMem, cuDeviceTotalMem_v2, "cuDeviceTotalMem", 3020)                       \
  X(PrimaryRetain, cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", 7000)           \
  X(CtxSetCurrent, cuCtxSetCurrent, "cuCtxSetCurrent", 4000)                             \
  X(CtxSynchronize, cuCtxSynchronize, "cuCtxSynchronize", 2000)                          \
  X(MemGetInfo, cuMemGetInfo_v2, "cuMemGetInfo", 3020)                                   \
  X(MemAlloc, cuMemAlloc_v2, "cuMemAlloc", 3020)                                         \
  X(MemAllocPitch, cuMemAllocPitch_v2, "cuMemAllocPitch", 3020)                          \
  X(MemFree, cuMemFree_v2, "cuMemFree", 3020)                                            \
  X(MemAllocAsync, cuMemAllocAsync, "cuMemAllocAsync", 11020)                            \
  X(MemFreeAsync, cuMemFreeAsync, "cuMemFreeAsync", 11020)                               \
  X(DeviceGetMemPool, cuDeviceGetMemPool, "cuDeviceGetMemPool", 11020)                   \
  X(MemPoolSetAttribute, cuMemPoolSetAttribute, "cuMemPoolSetAttribute", 11020)          \
  X(PointerGetAttribute, cuPointerGetAttribute, "cuPointerGetAttribute", 4000)           \
  X(PointerGetAttributes, cuPointerGetAttributes, "cuPointerGetAttributes", 7000)        \
  X(MemGetAddressRange, cuMemGetAddressRange_v2, "cuMemGetAddressRange", 3020)           \
  X(MemAddressReserve, cuMemAddressReserve, "cuMemAddressReserve", 10020)                \
  X(MemAddressFree, cuMemAddressFree, "cuMemAddressFree", 10020)                         \
  X(MemCreate, cuMemCreate, "cuMemCreate", 10020)                                        \
  X(MemRelease, cuMemRelease, "cuMemRelease", 10020)                                     \
  X(MemMap, cuMemMap, "cuMemMap", 10020)                                                 \
  X(MemUnmap, cuMemUnmap, "cuMemUnmap", 10020)                                           \
  X(MemSetAccess, cuMemSetAccess, "cuMemSetAccess", 10020)                               \
  X(IpcGetMemHandle, cuIpcGetMemHandle, "cuIpcGetMemHandle", 4010)                       \
  X(MemcpyHtoD, cuMemcpyHtoD_v2, "cuMemcpyHtoD", 3020)                                   \
  X(MemcpyDtoH, cuMemcpyDtoH_v2, "cuMemcpyDtoH", 3020)                                   \
  X(MemcpyDtoDAsync, cuMemcpyDtoDAsync_v2, "cuMemcpyDtoDAsync", 3020)                    \
  X(MemsetD32Async, cuMemsetD32Async, "cuMemsetD32Async", 3020)                          \
  X(StreamCreate, cuStreamCreate, "cuStreamCreate", 2000)                                \
  X(StreamDestroy, cuStreamDestroy_v2, "cuStreamDestroy", 4000)                          \
  X(StreamSynchronize, cuStreamSynchronize, "cuStreamSynchronize", 2000)                 \
  X(StreamBeginCapture, cuStreamBeginCapture_v2, "cuStreamBeginCapture", 10010)          \
  X(StreamEndCapture, cuStreamEndCapture, "cuStreamEndCapture", 10000)                   \
  X(GraphInstantiate, cuGraphInstantiateWithFlags, "cuGraphInstantiateWithFlags", 11040) \
  X(GraphDestroy, cuGraphDestroy, "cuGraphDestroy", 10000)                               \
  X(GraphLaunch, cuGraphLaunch, "cuGraphLaunch", 10000)                                  \
  X(ModuleLoadData, cuModuleLoadData, "cuModuleLoadData", 2000)                          \
  X(ModuleGetFunction, cuModuleGetFunction, "cuModuleGetFunction", 2000)                 \
  X(LaunchKernel, cuLaunchKernel, "cuLaunchKernel", 4000)

enum class Lookup { kDlsym, kProcAddress };

struct Api {
#define GPUROOM_PROGRAM_MEMBER(member, symbol, name, version) decltype(&::symbol) member = nullptr;
  GPUROOM_PROGRAM_FUNCTIONS(GPUROOM_PROGRAM_MEMBER)
#undef GPUROOM_PROGRAM_MEMBER
};

// Opens libcuda.so.1 and finds every function; a function that is missing stays
// null. Exits with 77 where there is no driver.
Api LoadApi(Lookup lookup);

// Ends the program with a line that names the call unless `result` is success.
void CheckResult(CUresult result, const char* call);
#define GPUROOM_CHECK(call) ::gpuroom::bench::CheckResult((call), #call)

// A program's device, context, stream and the sample kernels.
class Program {
 public:
  // Initialises the driver and makes the device's primary context current.
  Program(Lookup lookup, int device);

  const Api& api() const { return api_; }
  CUdevice device() const { return device_; }
  CUstream stream() const { return stream_; }

  // Loads the sample kernels (samples/kernels, see kernels.h); the launches
  // below are asynchronous on `stream`.
  void LoadKernels();
  void Fill(CUdeviceptr address, uint64_t bytes, uint64_t seed, CUstream stream);
  void Sum(CUdeviceptr address, uint64_t bytes, CUdeviceptr out, CUstream stream);
  void Verify(CUdeviceptr address, uint64_t bytes, uint64_t seed, CUdeviceptr bad, CUstream stream);

  // What the device holds at `address`, after the stream is done.
  uint64_t ReadWord(CUdeviceptr address);

 private:
  void Launch(CUfunction function, void** arguments, CUstream stream);

  Api api_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
  CUfunction fill_ = nullptr;
  CUfunction sum_ = nullptr;
  CUfunction verify_ = nullptr;
};

// splitmix64, as the sample kernels compute it.
uint64_t Mix(uint64_t x);

// Bytes of the allocation at `address` that lie in host memory, or -1 where the
// process has no gpuroom or the address is not in a range.
int64_t HostBytes(CUdeviceptr address);
bool HasGpuroom();

// Figures by name, printed as one JSON line.
class Report {
 public:
  explicit Report(std::string program) : program_(std::move(program)) {}
  void Figure(const std::string& name, double value);
  // A named yes or no; false makes Finish return 1.
  bool Check(const std::string& name, bool ok, const std::string& detail = "");
  // Prints {"program":..., "checks":[...], "figures":{...}}; the exit status.
  int Finish();

 private:
  std::string program_;
  std::string checks_;
  std::string figures_;
  bool failed_ = false;
};

// Command-line words of the form --name=value; anything else is an error.
class Options {
 public:
  Options(int argc, char** argv, const std::vector<std::string>& known);
  std::string Text(const std::string& name, const std::string& fallback) const;
  uint64_t Bytes(const std::string& name, uint64_t fallback) const;  // 512MiB, 6GiB, 1048576
  uint64_t Number(const std::string& name, uint64_t fallback) const;
  Lookup LookupKind() const;  // --lookup=dlsym|procaddress

 private:
  std::vector<std::string> words_;
};

double Median(std::vector<double> values);

inline double NowSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace gpuroom::bench
