// Contexts that the program makes, destroys and resets.
#include "runtime/contexts.h"

#include "runtime/runtime.h"
#include "shim/real.h"

namespace headroom {
namespace {

template <typename Native>
CUresult Created(CUcontext* context, Native native) {
  Entry rt;
  const CUresult result = native();
  if (rt && result == CUDA_SUCCESS) rt->contexts.Add(*context);
  return result;
}

}  // namespace
}  // namespace headroom

using namespace headroom;

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

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  Entry rt;
  const CUresult result = Real().cuDevicePrimaryCtxReset_v2(device);
  if (rt && result == CUDA_SUCCESS) rt->ForgetDevice(device);
  return result;
}

}  // extern "C"
