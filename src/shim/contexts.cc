// Contexts that the program makes, destroys and resets.
#include "runtime/contexts.h"

#include "driver/device_context.h"
#include "runtime/runtime.h"
#include "shim/hooks.h"
#include "shim/real.h"

namespace gpuroom {
namespace {

template <typename Native>
CUresult Created(CUcontext* context, Native native) {
  Entry rt;
  const CUresult result = native();
  if (rt && result == CUDA_SUCCESS) rt->contexts.Add(*context);
  return result;
}

bool HasPrimary(const Driver& driver, CUdevice device) {
  unsigned flags = 0;
  int active = 0;
  return driver.DevicePrimaryCtxGetState(device, &flags, &active) == CUDA_SUCCESS && active != 0;
}

// The device's primary context; null where there is none.
CUcontext PrimaryOf(const Driver& driver, CUdevice device) {
  CUcontext context = nullptr;
  if (!HasPrimary(driver, device)) return nullptr;
  if (driver.DevicePrimaryCtxRetain(&context, device) != CUDA_SUCCESS) return nullptr;
  driver.DevicePrimaryCtxRelease(device);
  return context;
}

}  // namespace
}  // namespace gpuroom

namespace gpuroom::hooks {

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
  if (!rt || context == nullptr) return Real().cuCtxDestroy_v2(context);
  const Result<CUdevice> device = DeviceOf(rt->driver, context);
  const CUresult result = Real().cuCtxDestroy_v2(context);
  if (result == CUDA_SUCCESS) rt->ForgetContext(context, device.ok() ? *device : -1);
  return result;
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  Entry rt;
  const CUcontext context = rt ? PrimaryOf(rt->driver, device) : nullptr;
  const CUresult result = Real().cuDevicePrimaryCtxReset_v2(device);
  if (rt && result == CUDA_SUCCESS) {
    if (context != nullptr) rt->ForgetWork(context);
    rt->ForgetDevice(device);
  }
  return result;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  Entry rt;
  const CUcontext context = rt ? PrimaryOf(rt->driver, device) : nullptr;
  const CUresult result = Real().cuDevicePrimaryCtxRelease_v2(device);
  const bool known = context != nullptr && result == CUDA_SUCCESS;
  // The last one ends it. What belongs to the device's other contexts stays.
  if (known && !HasPrimary(rt->driver, device)) rt->ForgetContext(context, device);
  return result;
}

}  // namespace gpuroom::hooks
