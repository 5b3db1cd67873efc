// Uses of memory that hold on to its chunks: sparse arrays, multicast objects,
// descriptors of address ranges, RDMA registrations. What they use is pinned: it
// does not move any more. Memory that is asleep has no chunks to hold on to.
#include <vector>

#include "runtime/runtime.h"
#include "shim/asleep.h"
#include "shim/hooks.h"
#include "shim/real.h"

namespace gpuroom {
namespace {

CUresult PinAt(Runtime& rt, CUdeviceptr address, const char* call) {
  HandleTable::MappingInfo mapping;
  if (rt.IsAsleep(address)) return RefuseAsleep(call);
  if (rt.ranges.Pin(address)) return CUDA_SUCCESS;
  if (rt.handles.FindMapping(address, &mapping)) rt.handles.Pin(mapping.handle, false);
  return CUDA_SUCCESS;
}

// The driver's handle behind the program's, which stays what it is from now on.
CUresult PinOne(Runtime& rt, CUmemGenericAllocationHandle* handle, const char* call) {
  HandleRecord record;
  if (!rt.handles.Find(*handle, &record)) return CUDA_SUCCESS;
  if (!record.awake()) return RefuseAsleep(call);
  if (record.chunks.size() != 1) return CUDA_ERROR_NOT_SUPPORTED;
  rt.handles.Pin(*handle, false);
  *handle = record.chunks[0].handle;
  return CUDA_SUCCESS;
}

// A sparse array names handles: the driver's own are put in place of the shim's.
template <typename Native>
CUresult MapArrays(CUarrayMapInfo* infos, unsigned count, Native native) {
  Entry rt;
  if (!rt || infos == nullptr) return native(infos);
  std::vector<CUarrayMapInfo> translated(infos, infos + count);
  for (CUarrayMapInfo& info : translated) {
    const bool named = info.memHandleType == CU_MEM_HANDLE_TYPE_GENERIC;
    const CUresult pinned =
        named ? PinOne(*rt, &info.memHandle.memHandle, "cuMemMapArrayAsync") : CUDA_SUCCESS;
    if (pinned != CUDA_SUCCESS) return pinned;
  }
  return native(translated.data());
}

}  // namespace
}  // namespace gpuroom

namespace gpuroom::hooks {

CUresult cuMemMapArrayAsync(CUarrayMapInfo* infos, unsigned count, CUstream stream) {
  return MapArrays(infos, count,
                   [=](CUarrayMapInfo* list) { return Real().cuMemMapArrayAsync(list, count, stream); });
}

CUresult cuMemMapArrayAsync_ptsz(CUarrayMapInfo* infos, unsigned count, CUstream stream) {
  return MapArrays(infos, count,
                   [=](CUarrayMapInfo* list) { return Real().cuMemMapArrayAsync_ptsz(list, count, stream); });
}

CUresult cuMulticastBindMem(CUmemGenericAllocationHandle multicast, size_t multicast_offset,
                            CUmemGenericAllocationHandle handle, size_t offset, size_t bytes,
                            unsigned long long flags) {
  Entry rt;
  const CUresult pinned = rt ? PinOne(*rt, &handle, "cuMulticastBindMem") : CUDA_SUCCESS;
  if (pinned != CUDA_SUCCESS) return pinned;
  return Real().cuMulticastBindMem(multicast, multicast_offset, handle, offset, bytes, flags);
}

CUresult cuMulticastBindMem_v2(CUmemGenericAllocationHandle multicast, CUdevice device,
                               size_t multicast_offset, CUmemGenericAllocationHandle handle, size_t offset,
                               size_t bytes, unsigned long long flags) {
  Entry rt;
  const CUresult pinned = rt ? PinOne(*rt, &handle, "cuMulticastBindMem") : CUDA_SUCCESS;
  if (pinned != CUDA_SUCCESS) return pinned;
  return Real().cuMulticastBindMem_v2(multicast, device, multicast_offset, handle, offset, bytes, flags);
}

CUresult cuMulticastBindAddr(CUmemGenericAllocationHandle multicast, size_t offset, CUdeviceptr address,
                             size_t bytes, unsigned long long flags) {
  Entry rt;
  const CUresult pinned = rt ? PinAt(*rt, address, "cuMulticastBindAddr") : CUDA_SUCCESS;
  if (pinned != CUDA_SUCCESS) return pinned;
  return Real().cuMulticastBindAddr(multicast, offset, address, bytes, flags);
}

CUresult cuMulticastBindAddr_v2(CUmemGenericAllocationHandle multicast, CUdevice device, size_t offset,
                                CUdeviceptr address, size_t bytes, unsigned long long flags) {
  Entry rt;
  const CUresult pinned = rt ? PinAt(*rt, address, "cuMulticastBindAddr") : CUDA_SUCCESS;
  if (pinned != CUDA_SUCCESS) return pinned;
  return Real().cuMulticastBindAddr_v2(multicast, device, offset, address, bytes, flags);
}

CUresult cuMemGetHandleForAddressRange(void* handle, CUdeviceptr address, size_t bytes,
                                       CUmemRangeHandleType type, unsigned long long flags) {
  Entry rt;
  const CUresult pinned = rt ? PinAt(*rt, address, "cuMemGetHandleForAddressRange") : CUDA_SUCCESS;
  if (pinned != CUDA_SUCCESS) return pinned;
  return Real().cuMemGetHandleForAddressRange(handle, address, bytes, type, flags);
}

// Libraries that register memory for RDMA ask for synchronous copies first.
CUresult cuPointerSetAttribute(const void* value, CUpointer_attribute attribute, CUdeviceptr address) {
  Entry rt;
  const CUresult pinned = rt && attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS
                              ? PinAt(*rt, address, "cuPointerSetAttribute(SYNC_MEMOPS)")
                              : CUDA_SUCCESS;
  if (pinned != CUDA_SUCCESS) return pinned;
  return Real().cuPointerSetAttribute(value, attribute, address);
}

}  // namespace gpuroom::hooks
