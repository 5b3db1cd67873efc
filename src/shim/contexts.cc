#include "shim/contexts.h"

#include <algorithm>

#include "driver/insist.h"
#include "shim/real.h"
#include "shim/runtime.h"

namespace headroom::shim {

namespace {

// What the driver says of a context that was destroyed, or reset; anything else says nothing of it.
bool IsGone(CUresult result) {
  return result == CUDA_ERROR_INVALID_CONTEXT || result == CUDA_ERROR_CONTEXT_IS_DESTROYED ||
         result == CUDA_ERROR_INVALID_VALUE || result == CUDA_ERROR_DEINITIALIZED;
}

}  // namespace

Status SynchronizeContext(const Driver& driver, CUcontext context) {
  CUcontext current = nullptr;
  const bool push = driver.CtxGetCurrent(&current) != CUDA_SUCCESS || current != context;
  const CUresult pushed = push ? driver.CtxPushCurrent(context) : CUDA_SUCCESS;
  if (IsGone(pushed)) return Status();
  if (pushed != CUDA_SUCCESS) return DriverStatus(pushed, "cuCtxPushCurrent");
  const CUresult result = driver.CtxSynchronize();
  if (push) PopContext(driver);
  return DriverStatus(result, "cuCtxSynchronize");
}

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

namespace {

template <typename Native>
CUresult Created(CUcontext* context, Native native) {
  Entry rt;
  const CUresult result = native();
  if (rt && result == CUDA_SUCCESS) rt->contexts.Add(*context);
  return result;
}

}  // namespace
}  // namespace headroom::shim

using namespace headroom::shim;

extern "C" {

CUresult cuCtxCreate_v2(CUcontext* context, unsigned flags, CUdevice device) {
  return Created(context, [=] { return Real().cuCtxCreate_v2(context, flags, device); });
}

CUresult cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam* affinity, int count, unsigned flags,
                        CUdevice device) {
  return Created(context, [=] { return Real().cuCtxCreate_v3(context, affinity, count, flags, device); });
}

CUresult cuCtxCreate_v4(CUcontext* context, CUctxCreateParams* parameters, unsigned flags, CUdevice device) {
  return Created(context, [=] { return Real().cuCtxCreate_v4(context, parameters, flags, device); });
}

CUresult cuCtxDestroy_v2(CUcontext context) {
  Entry rt;
  const CUresult result = Real().cuCtxDestroy_v2(context);
  if (rt && result == CUDA_SUCCESS) rt->contexts.Remove(context);
  return result;
}

}  // extern "C"
