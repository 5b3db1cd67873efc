// Stream-ordered allocation. While it fits, a request of any size stays with the
// driver's pools, whose warm path no range can match (docs/measurements.md); what
// does not fit becomes a range, freed by an event on the stream that frees it.
#include "runtime/allocate.h"
#include "shim/hooks.h"
#include "shim/real.h"

namespace gpuroom {
namespace {

// Bytes that the device's pool holds for requests to come. Without a limit the driver says what is
// free, and counts them as used. Not asked during captures, of which the driver's notes say nothing here.
uint64_t KeptByPool(const Runtime& rt, const DeviceState& device) {
  const Driver& driver = rt.driver;
  CUmemoryPool pool = nullptr;
  cuuint64_t reserved = 0;
  cuuint64_t used = 0;
  if (device.tier.budget().limited() || rt.captures.Any()) return 0;
  if (driver.DeviceGetMemPool == nullptr || driver.MemPoolGetAttribute == nullptr) return 0;
  if (driver.DeviceGetMemPool(&pool, device.tier.device()) != CUDA_SUCCESS) return 0;
  driver.MemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used);
  driver.MemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved);
  return reserved > used ? reserved - used : 0;
}

// `pool`: null: the device's own.
template <typename Native>
CUresult AllocateAsync(CUdeviceptr* out, size_t bytes, const CUmemoryPool* pool, CUstream stream,
                       Native native) {
  Entry rt;
  // Within a capture the allocation is a graph node: the driver's business alone.
  if (!rt || out == nullptr || bytes == 0) return native(out);
  bool capturing = false;
  const CUresult asked = rt->captures.Ask(stream, &capturing);
  if (asked != CUDA_SUCCESS) return asked;
  if (capturing) return native(out);
  DeviceState* device = rt->CurrentDevice();
  if (device == nullptr) return native(out);
  if (pool != nullptr && !rt->pools.IsOf(*pool, device->tier.device())) return native(out);
  AwaitHbm(*rt, *device, bytes);
  ReclaimRetired(*rt);
  const auto leaves_reserve = [&] {
    if (bytes < rt->options.range_threshold) return true;
    const uint64_t free = device->source.DeviceFree();
    return bytes <= free || bytes <= free + KeptByPool(*rt, *device);
  };
  if (leaves_reserve() || (MakeRoomFor(*rt, *device, bytes) && leaves_reserve())) {
    // Its pool's, which no context owns.
    const CUresult result = AllocateNative(*rt, *device, nullptr, bytes, out, native);
    if (result != CUDA_ERROR_OUT_OF_MEMORY) return result;
  }
  return AllocateApart(*rt, *device, bytes, stream, out);
}

template <typename Native>
CUresult FreeAsync(CUdeviceptr address, CUstream stream, Native native) {
  Entry rt;
  if (!rt) return native();
  if (rt->ranges.MayHold(address) || rt->managed.MayHold(address)) {
    bool capturing = false;
    const CUresult asked = rt->captures.Ask(stream, &capturing);
    if (asked != CUDA_SUCCESS) return asked;
    if (capturing) return native();
    std::unique_ptr<Range> range = rt->ranges.Take(address);
    if (range != nullptr) return RetireRange(*rt, std::move(range), stream);
    SmallBlock small;
    if (rt->small_blocks.Take(address, &small)) return RetireBlock(*rt, small, stream);
    ManagedBlock block;
    if (rt->managed.Take(address, &block)) return FreeManaged(*rt, block, stream);
  }
  return FreeNative(*rt, address, native);
}

}  // namespace
}  // namespace gpuroom

namespace gpuroom::hooks {

CUresult cuMemAllocAsync(CUdeviceptr* out, size_t bytes, CUstream stream) {
  return AllocateAsync(out, bytes, nullptr, stream,
                       [=](CUdeviceptr* p) { return Real().cuMemAllocAsync(p, bytes, stream); });
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr* out, size_t bytes, CUstream stream) {
  return AllocateAsync(out, bytes, nullptr, PerThread(stream),
                       [=](CUdeviceptr* p) { return Real().cuMemAllocAsync_ptsz(p, bytes, stream); });
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr* out, size_t bytes, CUmemoryPool pool, CUstream stream) {
  return AllocateAsync(out, bytes, &pool, stream, [=](CUdeviceptr* p) {
    return Real().cuMemAllocFromPoolAsync(p, bytes, pool, stream);
  });
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr* out, size_t bytes, CUmemoryPool pool, CUstream stream) {
  return AllocateAsync(out, bytes, &pool, PerThread(stream), [=](CUdeviceptr* p) {
    return Real().cuMemAllocFromPoolAsync_ptsz(p, bytes, pool, stream);
  });
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  return FreeAsync(address, stream, [=] { return Real().cuMemFreeAsync(address, stream); });
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream stream) {
  return FreeAsync(address, PerThread(stream), [=] { return Real().cuMemFreeAsync_ptsz(address, stream); });
}

CUresult cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* props) {
  Entry rt;
  const CUresult result = Real().cuMemPoolCreate(pool, props);
  const bool device = result == CUDA_SUCCESS && props->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
  if (rt && device) rt->pools.Add(*pool, props->location.id);
  return result;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool) {
  Entry rt;
  // Before: another thread may get the same address for a pool of its own.
  if (rt) rt->pools.Remove(pool);
  return Real().cuMemPoolDestroy(pool);
}

}  // namespace gpuroom::hooks
