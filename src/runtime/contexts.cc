#include "runtime/contexts.h"

#include <algorithm>

#include "driver/synchronize.h"

namespace gpuroom {
namespace {

Status NobodyWaits() { return Status(Code::kBusy, "nobody waits for the GPU any more"); }

bool Contains(const std::vector<CUcontext>& contexts, CUcontext context) {
  return std::find(contexts.begin(), contexts.end(), context) != contexts.end();
}

}  // namespace

void Contexts::Add(CUcontext context) {
  MutexLock lock(mutex_);
  if (!Contains(contexts_, context)) contexts_.push_back(context);
}

void Contexts::Remove(CUcontext context) {
  ended_.fetch_add(1, std::memory_order_release);
  MutexLock lock(mutex_);
  contexts_.erase(std::remove(contexts_.begin(), contexts_.end(), context), contexts_.end());
}

Status Contexts::Synchronize(const std::function<bool()>& given_up) {
  std::vector<CUcontext> contexts;
  {
    MutexLock lock(mutex_);
    contexts = contexts_;
  }
  for (CUcontext context : contexts) {
    if (given_up()) return NobodyWaits();
    const Status status = SynchronizeContext(driver_, context);
    if (!status.ok()) return status;
  }
  return SynchronizePrimaries(contexts, given_up);
}

Status Contexts::SynchronizePrimaries(const std::vector<CUcontext>& done,
                                      const std::function<bool()>& given_up) {
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
    if (given_up()) return NobodyWaits();
    result = driver_.DevicePrimaryCtxRetain(&context, device);
    if (result != CUDA_SUCCESS) return DriverStatus(result, "cuDevicePrimaryCtxRetain");
    const Status status = Contains(done, context) ? Status() : SynchronizeContext(driver_, context);
    driver_.DevicePrimaryCtxRelease(device);
    if (!status.ok()) return status;
  }
  return Status();
}

}  // namespace gpuroom
