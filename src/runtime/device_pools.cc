#include "runtime/device_pools.h"

namespace gpuroom {

void DevicePools::Add(CUmemoryPool pool, CUdevice device) {
  MutexLock lock(mutex_);
  pools_[pool] = device;
}

void DevicePools::Remove(CUmemoryPool pool) {
  MutexLock lock(mutex_);
  pools_.erase(pool);
}

bool DevicePools::IsOf(CUmemoryPool pool, CUdevice device) {
  {
    MutexLock lock(mutex_);
    const auto found = pools_.find(pool);
    if (found != pools_.end()) return found->second == device;
  }
  CUmemoryPool own = nullptr;
  return driver_.DeviceGetDefaultMemPool != nullptr &&
         driver_.DeviceGetDefaultMemPool(&own, device) == CUDA_SUCCESS && own == pool;
}

}  // namespace gpuroom
