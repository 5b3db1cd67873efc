// Serving one allocation request: small ones from the driver's own allocator,
// counted; large ones as ranges, falling back to the host when HBM is short, or as managed
// memory where the request is for that backend.
#pragma once

#include "runtime/displace.h"
#include "runtime/intent.h"
#include "runtime/managed.h"
#include "runtime/runtime.h"

namespace gpuroom {

// A range for `bytes` on `device`, with the memory of freed ranges taken back
// first where that is needed and nothing is being captured.
CUresult AllocateRange(Runtime& rt, DeviceState& device, size_t bytes, CUdeviceptr* out);

// Enters a range that was just built; its address.
CUdeviceptr Publish(Runtime& rt, DeviceState& device, std::unique_ptr<Range> range);

// Gives a range or a small block back, once its context's work is done. As cuMemFree, it waits for that;
// during a capture it is set aside instead.
CUresult FreeRange(Runtime& rt, std::unique_ptr<Range> range);
CUresult FreeBlock(Runtime& rt, const SmallBlock& block);

// Takes a range or a small block out of use that the GPU may still be working on, once `stream`
// has reached this point (PER_THREAD and legacy handles allowed).
CUresult RetireRange(Runtime& rt, std::unique_ptr<Range> range, CUstream stream);
CUresult RetireBlock(Runtime& rt, const SmallBlock& block, CUstream stream);

// Takes freed ranges back that the GPU is done with, if that is allowed now.
inline void ReclaimRetired(Runtime& rt) {
  if (rt.retired.empty() && !rt.managed.has_deferred()) return;
  const Captures::Quiet quiet(rt.captures);
  if (!quiet) return;
  rt.retired.Reclaim();
  ReclaimManaged(rt);
}

// Waits for the GPU to be done with freed memory and takes it back, and what small blocks share and do not
// use. False where there is none or that is not allowed now: trying again is no use.
bool DrainRetired(Runtime& rt);

// Where programs share the GPU: waits until this one has been granted what a request takes, or is told that
// it will not be. Before anything is known of mappings.
inline void AwaitHbm(Runtime& rt, const DeviceState& device, uint64_t bytes) {
  if (!rt.hbm_waits.on()) return;
  const bool large = IsLarge(rt, bytes);
  if (large && !WantsDevice(IntentFor(rt, device, bytes))) return;
  // More than the limit cannot be granted: the rest is spilled.
  const uint64_t most = std::min<uint64_t>(bytes, device.tier.budget().limit());
  rt.hbm_waits.Await(device.tier, RoundUp(most, kGranularity), large ? device.tier.ReserveLeft() : 0);
}

// `context`: whose end frees it; null: none's.
template <typename Native>
CUresult AllocateCounted(Runtime& rt, DeviceState& device, CUcontext context, size_t bytes, CUdeviceptr* out,
                         Native native) {
  if (!device.tier.ClaimSmall(bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = native(out);
  if (result != CUDA_SUCCESS) {
    device.tier.ReleaseSmall(bytes);
    return result;
  }
  rt.pointers.Insert({*out, bytes, device.tier.device(), context});
  device.counts.Count(bytes, false);
  return result;
}

// Runs `native(out)`, the driver's own allocation of `bytes`, and counts it. Where HBM
// is short, by its budget or by the driver's word, large data gives way.
template <typename Native>
CUresult AllocateNative(Runtime& rt, DeviceState& device, CUcontext context, size_t bytes, CUdeviceptr* out,
                        Native native) {
  const CUresult result = AllocateCounted(rt, device, context, bytes, out, native);
  if (result != CUDA_ERROR_OUT_OF_MEMORY || !MakeRoomFor(rt, device, bytes)) return result;
  return AllocateCounted(rt, device, context, bytes, out, native);
}

// Runs `native()`, the driver's own free of `address`, and takes it off the count.
template <typename Native>
CUresult FreeNative(Runtime& rt, CUdeviceptr address, Native native) {
  PointerRecord record;
  const bool known = rt.pointers.Take(address, &record);
  const CUresult result = native();
  if (!known) return result;
  if (result == CUDA_SUCCESS) {
    DeviceState& device = *rt.ExistingDevice(record.device);
    device.tier.ReleaseSmall(record.bytes);
    MoveBack(rt, device);
  } else {
    rt.pointers.Insert(record);
  }
  return result;
}

// A range, managed memory, or a block of a range that small requests share: whichever the calling thread's
// request is for. `stream` is the one that will use it first.
CUresult AllocateApart(Runtime& rt, DeviceState& device, size_t bytes, CUstream stream, CUdeviceptr* out);

// Large requests (IsLarge) leave the driver's allocator alone from the start, small ones only when it has no
// more.
template <typename Native>
CUresult Allocate(Runtime& rt, size_t bytes, CUdeviceptr* out, Native native) {
  CUcontext context = nullptr;
  DeviceState* device = rt.CurrentDevice(&context);
  if (device == nullptr) return native(out);
  AwaitHbm(rt, *device, bytes);
  if (!IsLarge(rt, bytes)) {
    const CUresult result = AllocateNative(rt, *device, context, bytes, out, native);
    if (result != CUDA_ERROR_OUT_OF_MEMORY) return result;
  }
  return AllocateApart(rt, *device, bytes, nullptr, out);
}

// Gives back what Allocate gave; `native()` is the driver's own free of what it does not know.
template <typename Native>
CUresult Free(Runtime& rt, CUdeviceptr address, Native native) {
  std::unique_ptr<Range> range = rt.ranges.Take(address);
  if (range != nullptr) return FreeRange(rt, std::move(range));
  SmallBlock small;
  if (rt.small_blocks.Take(address, &small)) return FreeBlock(rt, small);
  ManagedBlock block;
  if (rt.managed.Take(address, &block)) return FreeManaged(rt, block);
  return FreeNative(rt, address, native);
}

}  // namespace gpuroom
