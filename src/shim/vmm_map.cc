// Mapping the program's own memory (vmm.cc makes it), and what is asked of its handles. Where memory
// sleeps nothing is mapped, and its handle stands for no chunk.
#include <algorithm>

#include "base/log.h"
#include "driver/insist.h"
#include "range/chunk_source.h"
#include "runtime/allocate.h"
#include "shim/asleep.h"
#include "shim/hooks.h"
#include "shim/real.h"
#include "shim/vmm.h"
#include "tier/slow_memory.h"

namespace gpuroom {
namespace {

bool ForTheHost(const CUmemAccessDesc* access, size_t count) {
  return std::any_of(access, access + count, [](const CUmemAccessDesc& one) {
    return one.location.type != CU_MEM_LOCATION_TYPE_DEVICE;
  });
}

// Of memory that the driver does not have. What is special (IsSpecial) never sleeps.
CUmemAllocationProp PropertiesAsleep(const HandleRecord& record) {
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  prop.location.id = record.device;
  prop.requestedHandleTypes = static_cast<CUmemAllocationHandleType>(record.shareable);
  return prop;
}

// Runs `call` on what is mapped in [va, va + bytes): all of it but what sleeps.
template <typename Call>
CUresult OnAwake(Runtime& rt, CUdeviceptr va, size_t bytes, Call call) {
  CUdeviceptr from = va;
  CUresult result = CUDA_SUCCESS;
  for (const HandleTable::Span& span : rt.handles.SleepingIn(va, bytes)) {
    if (span.va > from) result = call(from, span.va - from);
    if (result != CUDA_SUCCESS) return result;
    from = span.va + span.bytes;
  }
  const size_t done = from - va;
  return done < bytes ? call(from, bytes - done) : CUDA_SUCCESS;
}

CUresult MapSeveral(Runtime& rt, CUdeviceptr va, size_t bytes, size_t offset, const HandleRecord& record) {
  if (offset != 0 || bytes != record.bytes) return CUDA_ERROR_NOT_SUPPORTED;  // as the driver has it
  uint64_t mapped = 0;
  const Status status = MapChunks(rt.driver, va, record.chunks, &mapped);
  if (!status.ok() && mapped > 0) Insist([&] { return rt.driver.MemUnmap(va, mapped); });
  return ToCuResult(status);
}

}  // namespace
}  // namespace gpuroom

namespace gpuroom::hooks {

CUresult cuMemMap(CUdeviceptr va, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  Entry rt;
  HandleRecord record;
  if (!rt || !rt->handles.Find(handle, &record)) return Real().cuMemMap(va, bytes, offset, handle, flags);
  if (!record.awake()) return RefuseAsleep("cuMemMap");
  const CUresult result = record.chunks.size() > 1
                              ? MapSeveral(*rt, va, bytes, offset, record)
                              : Real().cuMemMap(va, bytes, offset, record.chunks[0].handle, flags);
  if (result == CUDA_SUCCESS) rt->handles.AddMapping(va, bytes, handle);
  return result;
}

CUresult cuMemSetAccess(CUdeviceptr va, size_t bytes, const CUmemAccessDesc* access, size_t count) {
  Entry rt;
  const auto native = [=](CUdeviceptr at, size_t size) {
    return Real().cuMemSetAccess(at, size, access, count);
  };
  // What sleeps opens to devices when it wakes; the host's access could not be had again.
  if (rt && access != nullptr && ForTheHost(access, count) && !rt->handles.SleepingIn(va, bytes).empty())
    return RefuseAsleep("cuMemSetAccess for the host");
  const CUresult result = rt ? OnAwake(*rt, va, bytes, native) : native(va, bytes);
  if (rt && result == CUDA_SUCCESS) rt->handles.NoteAccess(va, bytes, access, count);
  return result;
}

CUresult cuMemUnmap(CUdeviceptr va, size_t bytes) {
  Entry rt;
  const auto native = [](CUdeviceptr at, size_t size) { return Real().cuMemUnmap(at, size); };
  const CUresult result = rt ? OnAwake(*rt, va, bytes, native) : native(va, bytes);
  if (!rt || result != CUDA_SUCCESS) return result;
  for (HandleRecord& record : rt->handles.RemoveMappings(va, bytes)) GiveBackLater(*rt, std::move(record));
  return result;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* out, void* address) {
  Entry rt;
  const auto va = reinterpret_cast<CUdeviceptr>(address);
  RangeInfo range;
  bool imported = false;
  HandleTable::MappingInfo mapping;
  // As for the driver's own cuMemAlloc. A range's chunks are nobody else's: they are replaced and reused.
  if (rt && rt->FindRange(va, &range, &imported)) return CUDA_ERROR_INVALID_VALUE;
  // References are counted here: the driver sees the memory's first and last only.
  if (rt && out != nullptr && rt->handles.FindMapping(va, &mapping)) {
    rt->handles.AddReference(mapping.handle);
    *out = mapping.handle;
    return CUDA_SUCCESS;
  }
  return Real().cuMemRetainAllocationHandle(out, address);
}

CUresult cuMemExportToShareableHandle(void* out, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType type, unsigned long long flags) {
  Entry rt;
  HandleRecord record;
  if (!rt || !rt->handles.Find(handle, &record)) {
    return Real().cuMemExportToShareableHandle(out, handle, type, flags);
  }
  if (!record.awake()) return RefuseAsleep("cuMemExportToShareableHandle");
  if (record.chunks.size() != 1) {
    Log(LogLevel::kWarn, "a cuMemCreate of %llu MiB lies in several chunks and cannot be exported",
        static_cast<unsigned long long>(record.bytes / kMiB));
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  // Chunks that were made anew can be exported whether or not the program asked for it.
  if ((record.shareable & unsigned(type)) == 0) return CUDA_ERROR_INVALID_VALUE;
  rt->handles.Pin(handle, true);
  return Real().cuMemExportToShareableHandle(out, record.chunks[0].handle, type, flags);
}

// What another process made under gpuroom may lie on the host. It counts for good: when its last mapping is
// gone is not known here.
CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* out, void* shared,
                                        CUmemAllocationHandleType type) {
  const Entry rt;
  const CUresult result = Real().cuMemImportFromShareableHandle(out, shared, type);
  CUmemAllocationProp prop{};
  const bool told = rt && result == CUDA_SUCCESS &&
                    rt->driver.MemGetAllocationPropertiesFromHandle(&prop, *out) == CUDA_SUCCESS;
  if (told && prop.location.type != CU_MEM_LOCATION_TYPE_DEVICE) SlowMemory::Add(1);
  return result;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* prop,
                                                CUmemGenericAllocationHandle handle) {
  Entry rt;
  HandleRecord record;
  const bool known = rt && rt->handles.Find(handle, &record);
  if (known && !record.awake()) {
    if (prop == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *prop = PropertiesAsleep(record);
    return CUDA_SUCCESS;
  }
  const CUresult result =
      Real().cuMemGetAllocationPropertiesFromHandle(prop, known ? record.chunks[0].handle : handle);
  if (known && result == CUDA_SUCCESS) {
    prop->location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    prop->location.id = record.device;
    prop->requestedHandleTypes = static_cast<CUmemAllocationHandleType>(record.shareable);
  }
  return result;
}

}  // namespace gpuroom::hooks
