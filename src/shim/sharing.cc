// Memory seen from elsewhere: legacy IPC handles, which ranges cannot have, and
// access by peer GPUs, which ranges must be given chunk by chunk.
#include "base/log.h"
#include "shim/real.h"
#include "shim/runtime.h"

namespace headroom::shim {
namespace {

CUdevice DeviceOf(const Driver& driver, CUcontext context) {
  CUdevice device = -1;
  if (driver.CtxPushCurrent(context) != CUDA_SUCCESS) return device;
  if (driver.CtxGetDevice(&device) != CUDA_SUCCESS) device = -1;
  driver.CtxPopCurrent(&context);
  return device;
}

// The current device may now reach the memory of `owner`: its ranges, too.
void AllowAccess(Runtime& rt, CUdevice owner) {
  CUdevice accessor = -1;
  DeviceState* device = rt.Device(owner);
  if (device == nullptr || rt.driver.CtxGetDevice(&accessor) != CUDA_SUCCESS) return;
  rt.ranges.WithRangesOf(owner, [&](const std::vector<Range*>& ranges) {
    const Status status = device->builder.AllowPeer(accessor, ranges);
    if (!status.ok()) {
      Log(LogLevel::kWarn, "device %d cannot reach the large allocations of device %d: %s", accessor, owner,
          ErrorName(static_cast<CUresult>(status.native())));
    }
  });
}

}  // namespace
}  // namespace headroom::shim

using namespace headroom;
using namespace headroom::shim;

extern "C" {

CUresult cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr address) {
  const CUresult result = Real().cuIpcGetMemHandle(handle, address);
  Entry rt;
  RangeInfo range;
  if (rt && result != CUDA_SUCCESS && rt->ranges.Find(address, &range)) {
    Log(LogLevel::kWarn,
        "cuIpcGetMemHandle on an allocation of %llu MiB fails: legacy IPC handles exist only for allocations "
        "below HEADROOM_RANGE_THRESHOLD (%llu MiB)",
        static_cast<unsigned long long>(range.requested / kMiB),
        static_cast<unsigned long long>(rt->options.range_threshold / kMiB));
  }
  return result;
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
  const CUresult result = Real().cuCtxEnablePeerAccess(peer, flags);
  Entry rt;
  if (rt && result == CUDA_SUCCESS) {
    const CUdevice owner = DeviceOf(rt->driver, peer);
    if (owner >= 0) AllowAccess(*rt, owner);
  }
  return result;
}

}  // extern "C"
