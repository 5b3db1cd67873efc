// The program's own cuMemCreate: a chunk in HBM while that has room, on the host
// when it has not. The program maps it as it maps any other; PyTorch's expandable
// segments reach the host tier this way.
#include "base/log.h"
#include "shim/real.h"
#include "shim/runtime.h"

namespace headroom::shim {
namespace {

using Handle = CUmemGenericAllocationHandle;

bool WantsDeviceMemory(const CUmemAllocationProp* prop) {
  return prop != nullptr && prop->type == CU_MEM_ALLOCATION_TYPE_PINNED &&
         prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
}

// Without a limit the budget never says no, and HBM must not be filled to the
// brim: libraries and kernel launches need some that no program asked for.
bool LeavesReserve(const Runtime& rt, const DeviceState& device, size_t bytes) {
  if (device.tier.budget().limited()) return true;
  size_t free = 0;
  size_t total = 0;
  if (rt.driver.MemGetInfo(&free, &total) != CUDA_SUCCESS) return true;
  return free >= bytes && free - bytes >= device.tier.ReserveLeft();
}

void GiveBackClaim(DeviceState& device, const HandleRecord& record) {
  if (record.small) {
    device.tier.ReleaseSmall(record.chunk.bytes);
  } else {
    device.tier.ReleaseChunk(record.chunk.bytes);
  }
}

CUresult CreateOnDevice(Runtime& rt, DeviceState& device, HandleRecord& record, const CUmemAllocationProp* prop,
                        unsigned long long flags) {
  record.small = record.chunk.bytes < rt.options.range_threshold;
  const bool claimed = record.small ? device.tier.ClaimSmall(record.chunk.bytes)
                                    : LeavesReserve(rt, device, record.chunk.bytes) &&
                                          device.tier.ClaimChunk(record.chunk.bytes);
  if (!claimed) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = Real().cuMemCreate(&record.chunk.handle, record.chunk.bytes, prop, flags);
  if (result != CUDA_SUCCESS) GiveBackClaim(device, record);
  return result;
}

CUresult CreateOnHost(DeviceState& device, HandleRecord& record) {
  if (!IsMultiple(record.chunk.bytes, kGranularity)) return CUDA_ERROR_OUT_OF_MEMORY;
  Result<Chunk> chunk = device.host.Create(record.chunk.bytes, record.shareable);
  if (!chunk.ok()) {
    // Whatever kept the host from helping, what the program met is a full device.
    if (chunk.status().code() != Code::kOutOfMemory) {
      Log(LogLevel::kWarn, "%s failed: %s", chunk.status().what(),
          ErrorName(static_cast<CUresult>(chunk.status().native())));
    }
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  record.chunk = *chunk;
  record.small = false;
  return CUDA_SUCCESS;
}

// The last use of the chunk is gone. On failure it stays in the table, with one
// reference, so that the program may release it again.
CUresult GiveBack(Runtime& rt, const HandleRecord& record) {
  DeviceState& device = *rt.ExistingDevice(record.device);
  if (record.chunk.tier == Tier::kHost) {
    const Status status = device.host.Release(record.chunk, record.shareable, !record.exported);
    if (!status.ok()) rt.handles.Revive(record);
    return ToCuResult(status);
  }
  const CUresult result = Real().cuMemRelease(record.chunk.handle);
  if (result == CUDA_SUCCESS) {
    GiveBackClaim(device, record);
  } else {
    rt.handles.Revive(record);
  }
  return result;
}

}  // namespace
}  // namespace headroom::shim

using namespace headroom;
using namespace headroom::shim;

extern "C" {

CUresult cuMemCreate(CUmemGenericAllocationHandle* out, size_t bytes, const CUmemAllocationProp* prop,
                     unsigned long long flags) {
  Entry rt;
  DeviceState* device =
      rt && out != nullptr && bytes != 0 && WantsDeviceMemory(prop) ? rt->Device(prop->location.id) : nullptr;
  if (device == nullptr) return Real().cuMemCreate(out, bytes, prop, flags);
  HandleRecord record;
  record.chunk.bytes = bytes;
  record.device = prop->location.id;
  record.shareable = static_cast<unsigned>(prop->requestedHandleTypes);
  CUresult result = CreateOnDevice(*rt, *device, record, prop, flags);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) result = CreateOnHost(*device, record);
  if (result != CUDA_SUCCESS) return result;
  rt->handles.Insert(record);
  device->counts.Count(bytes, record.chunk.tier == Tier::kHost);
  *out = record.chunk.handle;
  return result;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  Entry rt;
  HandleRecord record;
  if (!rt) return Real().cuMemRelease(handle);
  switch (rt->handles.Release(handle, &record)) {
    case HandleTable::Released::kUnknown: return Real().cuMemRelease(handle);
    case HandleTable::Released::kStillUsed: return CUDA_SUCCESS;
    case HandleTable::Released::kInvalid: return CUDA_ERROR_INVALID_VALUE;
    case HandleTable::Released::kDead: break;
  }
  return GiveBack(*rt, record);
}

CUresult cuMemMap(CUdeviceptr va, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  const CUresult result = Real().cuMemMap(va, bytes, offset, handle, flags);
  Entry rt;
  if (rt && result == CUDA_SUCCESS) rt->handles.AddMapping(va, bytes, handle);
  return result;
}

CUresult cuMemUnmap(CUdeviceptr va, size_t bytes) {
  const CUresult result = Real().cuMemUnmap(va, bytes);
  Entry rt;
  if (!rt || result != CUDA_SUCCESS) return result;
  for (const HandleRecord& record : rt->handles.RemoveMappings(va, bytes)) GiveBack(*rt, record);
  return result;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* out, void* address) {
  const CUresult result = Real().cuMemRetainAllocationHandle(out, address);
  Entry rt;
  if (rt && result == CUDA_SUCCESS) rt->handles.AddReference(*out);
  return result;
}

CUresult cuMemExportToShareableHandle(void* out, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType type, unsigned long long flags) {
  Entry rt;
  if (rt) rt->handles.MarkExported(handle);
  return Real().cuMemExportToShareableHandle(out, handle, type, flags);
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* prop, CUmemGenericAllocationHandle handle) {
  const CUresult result = Real().cuMemGetAllocationPropertiesFromHandle(prop, handle);
  Entry rt;
  HandleRecord record;
  if (rt && result == CUDA_SUCCESS && rt->handles.Find(handle, &record) && record.chunk.tier == Tier::kHost) {
    prop->location = {CU_MEM_LOCATION_TYPE_DEVICE, {record.device}};
  }
  return result;
}

}  // extern "C"
