#include "gpu.h"

#include <dlfcn.h>

#include "kernels.h"

namespace gpuroom::samples {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kBlocksPerMultiprocessor = 8;

}  // namespace

// Runs `call`; on failure returns its result from the calling function.
#define SAMPLE_TRY(call)                                        \
  do {                                                          \
    if (const CUresult r = (call); r != CUDA_SUCCESS) return r; \
  } while (0)

Gpu::~Gpu() {
  if (context_ == nullptr) return;
  if (stream_ != nullptr) calls_.StreamSynchronize(stream_);
  if (cell_ != 0) calls_.MemFree(cell_);
  if (start_ != nullptr) calls_.EventDestroy(start_);
  if (stop_ != nullptr) calls_.EventDestroy(stop_);
  if (stream_ != nullptr) calls_.StreamDestroy(stream_);
  if (module_ != nullptr) calls_.ModuleUnload(module_);
  calls_.DevicePrimaryCtxRelease(device_);
}

CUresult Gpu::Check(CUresult result, const char* step) {
  if (result != CUDA_SUCCESS) step_ = step;
  return result;
}

bool Gpu::Load() {
  library_ = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  step_ = "libcuda.so.1";
  if (library_ == nullptr) return false;
#define SAMPLE_TEXT(symbol) #symbol
#define SAMPLE_CALL(member, symbol)                                                  \
  step_ = SAMPLE_TEXT(symbol);                                                       \
  calls_.member = reinterpret_cast<decltype(calls_.member)>(dlsym(library_, step_)); \
  if (calls_.member == nullptr) return false;
#include "driver_calls.def"
  step_ = "";
  return true;
}

bool Gpu::simulated() const { return dlsym(library_, "gpuroom_sim_call_count") != nullptr; }

CUresult Gpu::Open() {
  SAMPLE_TRY(Check(calls_.Init(0), "cuInit"));
  SAMPLE_TRY(Check(calls_.DeviceGet(&device_, 0), "cuDeviceGet"));
  char name[256] = "";
  SAMPLE_TRY(Check(calls_.DeviceGetName(name, sizeof name, device_), "cuDeviceGetName"));
  name_ = name;
  int multiprocessors = 0;
  SAMPLE_TRY(
      Check(calls_.DeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device_),
            "cuDeviceGetAttribute"));
  blocks_ = static_cast<unsigned>(multiprocessors) * kBlocksPerMultiprocessor;
  if (blocks_ == 0) blocks_ = kBlocksPerMultiprocessor;
  size_t bytes = 0;
  SAMPLE_TRY(Check(calls_.DeviceTotalMem(&bytes, device_), "cuDeviceTotalMem"));
  total_ = bytes;
  SAMPLE_TRY(Check(calls_.DevicePrimaryCtxRetain(&context_, device_), "cuDevicePrimaryCtxRetain"));
  SAMPLE_TRY(Check(calls_.CtxSetCurrent(context_), "cuCtxSetCurrent"));
  SAMPLE_TRY(LoadKernels());
  // Not a non-blocking one: SetCell's copy from pageable memory may still be under way when it
  // returns, and only a stream that follows the default stream waits for it.
  SAMPLE_TRY(Check(calls_.StreamCreate(&stream_, CU_STREAM_DEFAULT), "cuStreamCreate"));
  SAMPLE_TRY(Check(calls_.EventCreate(&start_, CU_EVENT_DEFAULT), "cuEventCreate"));
  SAMPLE_TRY(Check(calls_.EventCreate(&stop_, CU_EVENT_DEFAULT), "cuEventCreate"));
  SAMPLE_TRY(Allocate(sizeof(uint64_t), &cell_));
  size_t free_bytes = 0;
  SAMPLE_TRY(Check(calls_.MemGetInfo(&free_bytes, &bytes), "cuMemGetInfo"));
  free_ = free_bytes;
  return CUDA_SUCCESS;
}

CUresult Gpu::LoadKernels() {
  SAMPLE_TRY(Check(calls_.ModuleLoadData(&module_, KernelsPtx()), "cuModuleLoadData"));
  SAMPLE_TRY(Check(calls_.ModuleGetFunction(&fill_, module_, "gpuroom_fill"), "cuModuleGetFunction"));
  SAMPLE_TRY(Check(calls_.ModuleGetFunction(&sum_, module_, "gpuroom_sum"), "cuModuleGetFunction"));
  return Check(calls_.ModuleGetFunction(&verify_, module_, "gpuroom_verify"), "cuModuleGetFunction");
}

CUresult Gpu::Allocate(uint64_t bytes, CUdeviceptr* buffer) {
  return Check(calls_.MemAlloc(buffer, bytes), "cuMemAlloc");
}

CUresult Gpu::Free(CUdeviceptr buffer) { return Check(calls_.MemFree(buffer), "cuMemFree"); }

CUresult Gpu::Launch(CUfunction kernel, void** arguments, const char* step) {
  return Check(calls_.LaunchKernel(kernel, blocks_, 1, 1, kThreads, 1, 1, 0, stream_, arguments, nullptr),
               step);
}

CUresult Gpu::SetCell(uint64_t value) {
  return Check(calls_.MemcpyHtoD(cell_, &value, sizeof value), "cuMemcpyHtoD");
}

CUresult Gpu::GetCell(uint64_t* value) {
  SAMPLE_TRY(Check(calls_.StreamSynchronize(stream_), "cuStreamSynchronize"));
  return Check(calls_.MemcpyDtoH(value, cell_, sizeof *value), "cuMemcpyDtoH");
}

CUresult Gpu::Fill(CUdeviceptr buffer, uint64_t words, uint64_t seed) {
  void* arguments[] = {&buffer, &words, &seed};
  SAMPLE_TRY(Launch(fill_, arguments, "launch of gpuroom_fill"));
  return Check(calls_.StreamSynchronize(stream_), "gpuroom_fill");
}

CUresult Gpu::CountWrong(CUdeviceptr buffer, uint64_t words, uint64_t seed, uint64_t* wrong) {
  SAMPLE_TRY(SetCell(0));
  void* arguments[] = {&buffer, &words, &seed, &cell_};
  SAMPLE_TRY(Launch(verify_, arguments, "launch of gpuroom_verify"));
  return GetCell(wrong);
}

CUresult Gpu::Sum(CUdeviceptr buffer, uint64_t words, uint64_t* sum, double* seconds) {
  SAMPLE_TRY(SetCell(0));
  void* arguments[] = {&buffer, &words, &cell_};
  SAMPLE_TRY(Check(calls_.EventRecord(start_, stream_), "cuEventRecord"));
  SAMPLE_TRY(Launch(sum_, arguments, "launch of gpuroom_sum"));
  SAMPLE_TRY(Check(calls_.EventRecord(stop_, stream_), "cuEventRecord"));
  SAMPLE_TRY(GetCell(sum));
  float milliseconds = 0;
  SAMPLE_TRY(Check(calls_.EventElapsedTime(&milliseconds, start_, stop_), "cuEventElapsedTime"));
  *seconds = static_cast<double>(milliseconds) / 1e3;
  return CUDA_SUCCESS;
}

CUresult Gpu::Read(CUdeviceptr source, uint64_t* words, uint64_t count) {
  return Check(calls_.MemcpyDtoH(words, source, count * sizeof(uint64_t)), "cuMemcpyDtoH");
}

}  // namespace gpuroom::samples
