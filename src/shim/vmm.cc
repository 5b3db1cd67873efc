// The program's own cuMemCreate: a chunk in HBM while that has room, on the host
// when it has not, and in several chunks where neither can hold it whole. The
// program maps it as it maps any other; PyTorch's expandable segments and XLA's
// allocator reach the host tier this way.
#include "base/log.h"
#include "shim/alloc.h"
#include "shim/real.h"

namespace headroom::shim {
namespace {

bool WantsDeviceMemory(const CUmemAllocationProp* prop) {
  return prop != nullptr && prop->type == CU_MEM_ALLOCATION_TYPE_PINNED &&
         prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
}

void GiveBackClaim(DeviceState& device, const HandleRecord& record) {
  if (record.small) {
    device.tier.ReleaseSmall(record.bytes);
  } else {
    device.tier.ReleaseChunk(record.bytes);
  }
}

CUresult CreateOnDevice(Runtime& rt, DeviceState& device, HandleRecord& record,
                        const CUmemAllocationProp* prop, unsigned long long flags) {
  record.small = record.bytes < rt.options.range_threshold;
  const bool claimed =
      record.small ? device.tier.ClaimSmall(record.bytes)
                   : record.bytes <= device.source.DeviceFree() && device.tier.ClaimChunk(record.bytes);
  if (!claimed) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = Real().cuMemCreate(&record.handle, record.bytes, prop, flags);
  if (result != CUDA_SUCCESS) {
    GiveBackClaim(device, record);
    return result;
  }
  record.chunks = {{record.handle, record.bytes, Tier::kDevice, device.tier.device()}};
  return result;
}

Status CreateOnHost(DeviceState& device, HandleRecord& record) {
  if ((record.shareable & ~unsigned{CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR}) != 0) {
    return Status(Code::kOutOfMemory, "host memory has no handles of the type asked for");
  }
  const Result<Chunk> chunk = device.host.Create(record.bytes);
  if (!chunk.ok()) return chunk.status();
  record.chunks = {*chunk};
  record.handle = chunk->handle;
  return Status();
}

// Handles of the driver's are heap addresses or small numbers; these are neither.
constexpr CUmemGenericAllocationHandle kFirstComposite = 0xead0000000000000u;

CUmemGenericAllocationHandle NewCompositeHandle() {
  static std::atomic<uint64_t> next{0};
  return kFirstComposite + (next.fetch_add(1, std::memory_order_relaxed) << 4);
}

// The driver crashes on numbers that it never gave out.
bool WasComposite(CUmemGenericAllocationHandle handle) { return handle >> 48 == kFirstComposite >> 48; }

Status CreateComposite(DeviceState& device, HandleRecord& record) {
  PlanRequest request;
  request.bytes = record.bytes;
  const Status status = device.source.Create(request, &record.chunks);
  if (status.ok()) {
    record.handle = NewCompositeHandle();
    record.composite = true;
  } else {
    auto rest = std::make_unique<Range>();
    rest->chunks.swap(record.chunks);
    device.builder.Discard(std::move(rest));
  }
  return status;
}

// A chunk of the whole size keeps the driver's own handle, which can be exported;
// several chunks are the last resort.
CUresult CreateSpilled(DeviceState& device, HandleRecord& record) {
  if (!IsMultiple(record.bytes, kGranularity)) return CUDA_ERROR_OUT_OF_MEMORY;
  record.small = false;
  Status status = CreateOnHost(device, record);
  if (status.code() == Code::kOutOfMemory) status = CreateComposite(device, record);
  if (status.code() == Code::kDriver) {
    Log(LogLevel::kWarn, "%s failed: %s", status.what(), ErrorName(static_cast<CUresult>(status.native())));
  }
  // Whatever kept the other tiers from helping, what the program met is a full device.
  return status.ok() ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

Status Release(DeviceState& device, HandleRecord& record) {
  if (record.composite) return device.source.Release(&record.chunks);
  if (record.spilled()) return device.host.Release(record.chunks[0], !record.exported);
  const CUresult result = Real().cuMemRelease(record.handle);
  if (result == CUDA_SUCCESS) GiveBackClaim(device, record);
  return DriverStatus(result, "cuMemRelease");
}

// The last reference is gone. On failure the record stays in the table, with one
// reference, so that the program may release it again.
CUresult GiveBack(Runtime& rt, HandleRecord record) {
  const Status status = Release(*rt.ExistingDevice(record.device), record);
  if (!status.ok()) rt.handles.Revive(record);
  return ToCuResult(status);
}

// The last mapping is gone, and no reference was left: what cannot be given back
// now is nobody's business but ours.
void GiveBackLater(Runtime& rt, HandleRecord record) {
  if (!Release(*rt.ExistingDevice(record.device), record).ok()) rt.handles.Bury(record);
}

// Memory that other requests have left to be given back.
void Reclaim(Runtime& rt, DeviceState& device) {
  ReclaimRetired(rt);
  device.builder.RetryScrapped();
  for (HandleRecord& record : rt.handles.TakeBuried()) GiveBackLater(rt, std::move(record));
}

CUresult Create(Runtime& rt, DeviceState& device, HandleRecord& record, const CUmemAllocationProp* prop,
                unsigned long long flags) {
  const CUresult result = CreateOnDevice(rt, device, record, prop, flags);
  return result == CUDA_ERROR_OUT_OF_MEMORY ? CreateSpilled(device, record) : result;
}

CUresult MapComposite(Runtime& rt, CUdeviceptr va, size_t bytes, size_t offset, const HandleRecord& record) {
  if (offset != 0 || bytes != record.bytes) return CUDA_ERROR_NOT_SUPPORTED;  // as the driver has it
  uint64_t mapped = 0;
  const Status status = MapChunks(rt.driver, va, record.chunks, &mapped);
  // Nobody else knows of these mappings: insist.
  for (int tries = 0; !status.ok() && mapped > 0 && tries < 16; ++tries) {
    if (rt.driver.MemUnmap(va, mapped) == CUDA_SUCCESS) break;
  }
  return ToCuResult(status);
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
  record.bytes = bytes;
  record.device = prop->location.id;
  record.shareable = static_cast<unsigned>(prop->requestedHandleTypes);
  Reclaim(*rt, *device);
  CUresult result = Create(*rt, *device, record, prop, flags);
  if (result == CUDA_ERROR_OUT_OF_MEMORY && DrainRetired(*rt)) {
    result = Create(*rt, *device, record, prop, flags);
  }
  if (result != CUDA_SUCCESS) return result;
  rt->handles.Insert(record);
  device->counts.Count(bytes, record.spilled());
  *out = record.handle;
  return result;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  Entry rt;
  HandleRecord record;
  if (!rt) return Real().cuMemRelease(handle);
  switch (rt->handles.Release(handle, &record)) {
    case HandleTable::Released::kUnknown:
      return WasComposite(handle) ? CUDA_ERROR_INVALID_VALUE : Real().cuMemRelease(handle);
    case HandleTable::Released::kStillUsed: return CUDA_SUCCESS;
    case HandleTable::Released::kInvalid: return CUDA_ERROR_INVALID_VALUE;
    case HandleTable::Released::kDead: break;
  }
  return GiveBack(*rt, std::move(record));
}

CUresult cuMemMap(CUdeviceptr va, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  Entry rt;
  HandleRecord record;
  const bool known = rt && rt->handles.Find(handle, &record);
  const CUresult result = known && record.composite ? MapComposite(*rt, va, bytes, offset, record)
                                                    : Real().cuMemMap(va, bytes, offset, handle, flags);
  if (known && result == CUDA_SUCCESS) rt->handles.AddMapping(va, bytes, handle);
  return result;
}

CUresult cuMemUnmap(CUdeviceptr va, size_t bytes) {
  Entry rt;
  const CUresult result = Real().cuMemUnmap(va, bytes);
  if (!rt || result != CUDA_SUCCESS) return result;
  for (HandleRecord& record : rt->handles.RemoveMappings(va, bytes)) GiveBackLater(*rt, std::move(record));
  return result;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* out, void* address) {
  Entry rt;
  HandleTable::MappingInfo mapping;
  // References are counted here: the driver sees the memory's first and last only.
  if (rt && out != nullptr && rt->handles.FindMapping(reinterpret_cast<CUdeviceptr>(address), &mapping)) {
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
  if (rt && rt->handles.Find(handle, &record)) {
    if (record.composite) {
      Log(LogLevel::kWarn, "a cuMemCreate of %llu MiB lies in several chunks and cannot be exported",
          static_cast<unsigned long long>(record.bytes / kMiB));
      return CUDA_ERROR_NOT_SUPPORTED;
    }
    rt->handles.MarkExported(handle);
  }
  return Real().cuMemExportToShareableHandle(out, handle, type, flags);
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* prop,
                                                CUmemGenericAllocationHandle handle) {
  Entry rt;
  HandleRecord record;
  const bool spilled = rt && rt->handles.Find(handle, &record) && record.spilled();
  const CUresult result =
      Real().cuMemGetAllocationPropertiesFromHandle(prop, spilled ? record.chunks[0].handle : handle);
  if (spilled && result == CUDA_SUCCESS) {
    prop->location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    prop->location.id = record.device;
  }
  return result;
}

}  // extern "C"
