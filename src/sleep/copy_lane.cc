#include "sleep/copy_lane.h"

#include "driver/insist.h"

namespace gpuroom {

Status CopyLane::Open() {
  CUresult result = driver_.CtxGetDevice(&device_);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuCtxGetDevice");
  result = driver_.StreamCreate(&stream_, CU_STREAM_NON_BLOCKING);
  if (result != CUDA_SUCCESS) stream_ = nullptr;
  return DriverStatus(result, "making a stream for copies");
}

void CopyLane::Close() {
  if (stream_ == nullptr) return;
  Insist([&] { return driver_.StreamSynchronize(stream_); });
  Insist([&] { return driver_.StreamDestroy(stream_); });
  stream_ = nullptr;
}

Status CopyLane::Copy(CUdeviceptr to, CUdeviceptr from, uint64_t bytes) {
  return DriverStatus(driver_.MemcpyDtoDAsync(to, from, bytes, stream_), "cuMemcpyDtoDAsync");
}

Status CopyLane::CopyToHost(void* to, CUdeviceptr from, uint64_t bytes) {
  return DriverStatus(driver_.MemcpyDtoHAsync(to, from, bytes, stream_), "cuMemcpyDtoHAsync");
}

Status CopyLane::Wait() { return DriverStatus(driver_.StreamSynchronize(stream_), "waiting for copies"); }

}  // namespace gpuroom
