// The program's own cuMemCreate: a chunk in HBM while that has room, elsewhere
// when it has not, and in several chunks where no tier can hold it whole. The
// program maps it as it maps any other; PyTorch's expandable segments and XLA's
// allocator reach the other tiers this way. What the program holds is a number of the shim's
// own (handle_table.h), so every function that takes a handle is here, in vmm_map.cc or in pinned.cc.
#include "shim/vmm.h"

#include "base/log.h"
#include "base/trace.h"
#include "driver/scrap.h"
#include "runtime/allocate.h"
#include "runtime/displace.h"
#include "runtime/intent.h"
#include "runtime/refusal.h"
#include "shim/hooks.h"
#include "shim/real.h"

namespace gpuroom {
namespace {

bool WantsDeviceMemory(const CUmemAllocationProp* prop) {
  return prop != nullptr && prop->type == CU_MEM_ALLOCATION_TYPE_PINNED &&
         prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
}

// What a chunk in another tier cannot be, or what a chunk made anew would lose.
bool IsSpecial(const CUmemAllocationProp& prop) {
  const unsigned posix = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  return (prop.requestedHandleTypes & ~posix) != 0 || prop.allocFlags.compressionType != 0 ||
         prop.allocFlags.usage != 0;
}

// Whether the driver makes such memory at all, by its answer for one chunk of it. What it refuses whatever
// the size, such as a fabric handle where there is no fabric, is to be refused with its own code, before
// anything gives way: programs then ask for another kind of handle.
CUresult AnswerForOneChunk(const CUmemAllocationProp* prop, unsigned long long flags) {
  CUmemGenericAllocationHandle handle = 0;
  const CUresult result = Real().cuMemCreate(&handle, kGranularity, prop, flags);
  if (result == CUDA_SUCCESS && Real().cuMemRelease(handle) != CUDA_SUCCESS) {
    Log(LogLevel::kWarn, "a chunk of 2 MiB could not be given back to the driver");
  }
  return result;
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
  record.small = !IsLarge(rt, record.bytes);
  const bool claimed =
      record.small ? device.tier.ClaimSmall(record.bytes)
                   : record.bytes <= device.source.DeviceFree() && device.tier.ClaimChunk(record.bytes);
  if (!claimed) return CUDA_ERROR_OUT_OF_MEMORY;
  CUmemGenericAllocationHandle handle = 0;
  const CUresult result = Real().cuMemCreate(&handle, record.bytes, prop, flags);
  if (result != CUDA_SUCCESS) {
    GiveBackClaim(device, record);
    return result;
  }
  record.chunks = {{handle, record.bytes, Tier::kDevice, device.tier.device()}};
  return result;
}

// One chunk outside HBM.
Status CreateOutside(DeviceState& device, HandleRecord& record) {
  for (const TierState& state : device.source.States()) {
    if (state.tier == Tier::kDevice || state.free < record.bytes) continue;
    const Result<Chunk> chunk = device.source.CreateChunk(state.tier, state.place, record.bytes);
    if (chunk.status().code() == Code::kOutOfMemory) continue;
    if (!chunk.ok()) return chunk.status();
    record.chunks = {*chunk};
    return Status();
  }
  return Status(Code::kOutOfMemory, "no tier holds it whole");
}

bool CreateCold(DeviceState& device, HandleRecord& record) {
  return IsMultiple(record.bytes, kGranularity) && CreateOutside(device, record).ok();
}

// In one chunk if a tier can hold it, since several cannot be exported.
Status CreateElsewhere(DeviceState& device, HandleRecord& record) {
  const Status status = CreateOutside(device, record);
  if (status.code() != Code::kOutOfMemory) return status;
  PlanRequest request;
  request.bytes = record.bytes;
  return device.source.Create(request, &record.chunks);
}

void Discard(DeviceState& device, std::vector<Chunk>* chunks) {
  if (chunks->empty()) return;
  auto rest = std::make_unique<Range>();
  rest->chunks.swap(*chunks);
  device.builder.Discard(std::move(rest));
}

CUresult CreateSpilled(DeviceState& device, HandleRecord& record) {
  if (!IsMultiple(record.bytes, kGranularity)) return CUDA_ERROR_OUT_OF_MEMORY;
  record.small = false;
  const Status status = CreateElsewhere(device, record);
  if (status.ok()) return CUDA_SUCCESS;
  Discard(device, &record.chunks);
  return AllocationResult(status);
}

Status Release(DeviceState& device, HandleRecord& record) {
  if (!record.small) return device.source.Release(&record.chunks);
  const CUresult result = Real().cuMemRelease(record.chunks[0].handle);
  if (result == CUDA_SUCCESS) GiveBackClaim(device, record);
  return DriverStatus(result, "cuMemRelease");
}

// The last reference is gone. On failure the record stays in the table, with one
// reference, so that the program may release it again.
CUresult GiveBack(Runtime& rt, HandleRecord record) {
  rt.EndHoldIfAwake();
  DeviceState& device = *rt.ExistingDevice(record.device);
  const Status status = Release(device, record);
  if (!status.ok()) {
    rt.handles.Revive(record);
    return ToCuResult(status);
  }
  Trace::Add(TraceKind::kFree, record.device, 0, {record.handle, record.bytes});
  if (!record.small) MoveBack(rt, device);
  return ToCuResult(status);
}

}  // namespace

void GiveBackLater(Runtime& rt, HandleRecord record) {
  rt.EndHoldIfAwake();
  DeviceState& device = *rt.ExistingDevice(record.device);
  auto step = [&device, record = std::move(record)]() mutable { return Release(device, record).ok(); };
  if (!step()) KeepScrap(std::move(step));
}

namespace {

// Memory that other requests have left to be given back.
void Reclaim(Runtime& rt) {
  ReclaimRetired(rt);
  RetryScrap();
}

CUresult Create(Runtime& rt, DeviceState& device, HandleRecord& record, const CUmemAllocationProp* prop,
                unsigned long long flags) {
  // Placed whole, so what is to be spread goes where there is room, like all else.
  const bool movable = IsLarge(rt, record.bytes) && record.pins == 0;
  if (record.hint == Hint::kCold && movable && CreateCold(device, record)) return CUDA_SUCCESS;
  CUresult result = CreateOnDevice(rt, device, record, prop, flags);
  if (result == CUDA_ERROR_OUT_OF_MEMORY && IsSpecial(*prop)) {
    const CUresult answer = AnswerForOneChunk(prop, flags);
    if (answer != CUDA_SUCCESS && answer != CUDA_ERROR_OUT_OF_MEMORY) return answer;
  }
  if (result == CUDA_ERROR_OUT_OF_MEMORY && MakeRoomFor(rt, device, record.bytes)) {
    result = CreateOnDevice(rt, device, record, prop, flags);
  }
  if (result != CUDA_ERROR_OUT_OF_MEMORY || IsSpecial(*prop)) return result;
  return CreateSpilled(device, record);
}

}  // namespace
}  // namespace gpuroom

namespace gpuroom::hooks {

CUresult cuMemCreate(CUmemGenericAllocationHandle* out, size_t bytes, const CUmemAllocationProp* prop,
                     unsigned long long flags) {
  Entry rt;
  DeviceState* device =
      rt && out != nullptr && bytes != 0 && WantsDeviceMemory(prop) ? rt->Device(prop->location.id) : nullptr;
  if (device == nullptr) return Real().cuMemCreate(out, bytes, prop, flags);
  AwaitHbm(*rt, *device, bytes);
  const uint64_t start = Trace::Now();
  HandleRecord record;
  record.bytes = bytes;
  record.device = prop->location.id;
  record.shareable = static_cast<unsigned>(prop->requestedHandleTypes);
  record.pins = IsSpecial(*prop) ? 1 : 0;
  record.whole = record.shareable != 0;
  record.in_pieces = true;
  const PlanRequest intent = IntentFor(*rt, bytes);
  record.SetHint(intent.hint);
  MarkByThread(&record);
  rt->driver.CtxGetCurrent(&record.context);
  Reclaim(*rt);
  CUresult result = Create(*rt, *device, record, prop, flags);
  if (result == CUDA_ERROR_OUT_OF_MEMORY && DrainRetired(*rt)) {
    result = Create(*rt, *device, record, prop, flags);
  }
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    const RefusedBy by = record.pins != 0 ? RefusedBy::kHbm : RefusedBy::kTiers;
    NoteRefusal(*rt, *device, by, DriverStatus(result, "cuMemCreate"), bytes);
  }
  if (result != CUDA_SUCCESS) return result;  // what the driver cannot do at all is no lack of memory
  record.CountTiers();
  record.handle = HandleTable::NewHandle();
  *out = record.handle;
  device->counts.Count(bytes, record.spilled());
  Trace::Add(TraceKind::kAllocation, record.device, start,
             {record.handle, bytes, record.host_bytes, record.peer_bytes});
  rt->handles.Insert(std::move(record));
  return result;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  Entry rt;
  HandleRecord record;
  if (!rt) return Real().cuMemRelease(handle);
  switch (rt->handles.Release(handle, &record)) {
    case HandleTable::Released::kUnknown:
      return HandleTable::IsOurs(handle) ? CUDA_ERROR_INVALID_VALUE : Real().cuMemRelease(handle);
    case HandleTable::Released::kStillUsed: return CUDA_SUCCESS;
    case HandleTable::Released::kInvalid: return CUDA_ERROR_INVALID_VALUE;
    case HandleTable::Released::kDead: break;
  }
  return GiveBack(*rt, std::move(record));
}

}  // namespace gpuroom::hooks
