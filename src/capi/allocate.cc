#include "capi/allocate.h"

#include "driver/device_context.h"
#include "driver/relaxed_capture.h"
#include "runtime/allocate.h"
#include "runtime/intent.h"

namespace gpuroom {
namespace {

// Whether HBM has room for a range of `bytes`, or can be made to.
bool HbmHas(Runtime& rt, DeviceState& device, uint64_t bytes) {
  const auto fits = [&] { return RoundUp(bytes, kGranularity) <= device.source.DeviceFree(); };
  return fits() || (MakeRoomFor(rt, device, bytes) && fits());
}

Result<CUdeviceptr> AllocateHere(Runtime& rt, uint64_t bytes, SegmentSource::Where where) {
  CUcontext context = nullptr;
  DeviceState* device = rt.CurrentDevice(&context);
  if (device == nullptr) return Status(Code::kNotFound, "no device is current");
  AwaitHbm(rt, *device, bytes);
  const RelaxedCapture relaxed(rt.driver);
  const auto native = [&](CUdeviceptr* out) { return rt.driver.MemAlloc(out, bytes); };
  CUdeviceptr address = 0;
  CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
  if (where == SegmentSource::Where::kAny || IntentFor(rt, bytes).backend == Backend::kManaged) {
    result = Allocate(rt, bytes, &address, native);
  } else if (!IsLarge(rt, bytes)) {
    result = AllocateNative(rt, *device, context, bytes, &address, native);
  } else if (HbmHas(rt, *device, bytes)) {
    result = AllocateRange(rt, *device, bytes, &address);
  }
  if (result != CUDA_SUCCESS) return DriverStatus(result, "allocating device memory");
  return address;
}

Status FreeHere(Runtime& rt, CUdeviceptr address) {
  const RelaxedCapture relaxed(rt.driver);
  const CUresult result = Free(rt, address, [&] { return rt.driver.MemFree(address); });
  if (result == CUDA_SUCCESS) return Status();
  // The caller has no second chance.
  std::unique_ptr<Range> range = rt.ranges.Take(address);
  RetiredMemory small;
  ManagedBlock block;
  if (range != nullptr) {
    RetiredMemory memory;
    memory.builder = &rt.ExistingDevice(range->device)->builder;
    memory.range = std::move(range);
    rt.retired.Add(std::move(memory));
  } else if (rt.small_blocks.Take(address, &small.block)) {
    rt.retired.Add(std::move(small));
  } else if (rt.managed.Take(address, &block)) {
    rt.managed.Defer(block);
  } else {
    return DriverStatus(result, "cuMemFree");
  }
  return Status();
}

// Runs `use` on the runtime with a context of `device` current.
template <typename Answer, typename Use>
Answer On(int device, Use use) {
  const Entry rt(true);
  if (!rt) return Status(Code::kUnsupported, "no gpuroom in this process");
  const OnDevice here(rt->driver, device);
  return here.status().ok() ? use(*rt) : Answer(here.status());
}

}  // namespace

Result<CUdeviceptr> AllocateOn(int device, uint64_t bytes, SegmentSource::Where where) {
  return On<Result<CUdeviceptr>>(device, [&](Runtime& rt) { return AllocateHere(rt, bytes, where); });
}

Status FreeOn(int device, CUdeviceptr address) {
  return On<Status>(device, [&](Runtime& rt) { return FreeHere(rt, address); });
}

}  // namespace gpuroom
