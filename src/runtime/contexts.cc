#include "runtime/contexts.h"

#include <algorithm>

#include "driver/synchronize.h"

namespace headroom {

void Contexts::Add(CUcontext context) {
  MutexLock lock(mutex_);
  if (std::find(contexts_.begin(), contexts_.end(), context) == contexts_.end()) contexts_.push_back(context);
}

void Contexts::Remove(CUcontext context) {
  MutexLock lock(mutex_);
  contexts_.erase(std::remove(contexts_.begin(), contexts_.end(), context), contexts_.end());
}

Status Contexts::Synchronize() {
  std::vector<CUcontext> contexts;
  {
    MutexLock lock(mutex_);
    contexts = contexts_;
  }
  for (CUcontext context : contexts) {
    const Status status = SynchronizeContext(driver_, context);
    if (!status.ok()) return status;
  }
  return SynchronizePrimaries();
}

Status Contexts::SynchronizePrimaries() {
  int count = 0;
  const CUresult counted = driver_.DeviceGetCount(&count);
  if (counted != CUDA_SUCCESS) return DriverStatus(counted, "cuDeviceGetCount");
  for (CUdevice device = 0; device < count; ++device) {
    unsigned flags = 0;
    int active = 0;
    CUcontext context = nullptr;
    CUresult result = driver_.DevicePrimaryCtxGetState(device, &flags, &active);
    if (result != CUDA_SUCCESS) return DriverStatus(result, "cuDevicePrimaryCtxGetState");
    if (active == 0) continue;
    result = driver_.DevicePrimaryCtxRetain(&context, device);
    if (result != CUDA_SUCCESS) return DriverStatus(result, "cuDevicePrimaryCtxRetain");
    const Status status = SynchronizeContext(driver_, context);
    driver_.DevicePrimaryCtxRelease(device);
    if (!status.ok()) return status;
  }
  return Status();
}

}  // namespace headroom
