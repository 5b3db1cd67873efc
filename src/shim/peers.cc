// Access by peer GPUs, which ranges must be given chunk by chunk.
#include "base/log.h"
#include "driver/device_context.h"
#include "runtime/runtime.h"
#include "shim/hooks.h"
#include "shim/real.h"

namespace gpuroom {
namespace {

// The current device may now reach the memory of the owner's context: its ranges, too.
Status AllowAccess(Runtime& rt, CUcontext peer) {
  const Result<CUdevice> owner = DeviceOf(rt.driver, peer);
  if (!owner.ok()) return owner.status();
  CUdevice accessor = -1;
  const CUresult result = rt.driver.CtxGetDevice(&accessor);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuCtxGetDevice");
  DeviceState* device = rt.Device(*owner);
  if (device == nullptr) return Status();  // nothing of ours there
  Status status;
  const auto allow = [&](const std::vector<Range*>& ranges) {
    if (status.ok()) status = device->builder.AllowPeer(accessor, ranges);
  };
  rt.ranges.WithRangesOf(*owner, allow);
  rt.imports.ranges().WithRangesOf(*owner, allow);
  return status;
}

}  // namespace
}  // namespace gpuroom

namespace gpuroom::hooks {

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
  const CUresult result = Real().cuCtxEnablePeerAccess(peer, flags);
  Entry rt;
  if (!rt || result != CUDA_SUCCESS) return result;
  const Status status = AllowAccess(*rt, peer);
  if (status.ok()) return result;
  // Access to a part of the memory is no access; the program may ask again.
  Log(LogLevel::kWarn, "peer access to large allocations failed in %s: %s", status.what(),
      ErrorName(static_cast<CUresult>(status.native())));
  rt->driver.CtxDisablePeerAccess(peer);
  return ToCuResult(status);
}

}  // namespace gpuroom::hooks
