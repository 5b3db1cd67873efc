#include "range/managed.h"

#include <algorithm>

#include "base/log.h"
#include "base/undo.h"
#include "driver/synchronize.h"

namespace gpuroom {
namespace {

int Attribute(const Driver& driver, CUdevice device, CUdevice_attribute attribute) {
  int value = 0;
  return driver.DeviceGetAttribute(&value, attribute, device) == CUDA_SUCCESS ? value : 0;
}

CUmemLocation At(CUmemLocationType type, int id) {
  CUmemLocation location{};
  location.type = type;
  location.id = id;
  return location;
}

}  // namespace

Policy ManagedPolicy(const PlanRequest& request) {
  switch (request.hint) {
    case Hint::kHot: return Policy::kGpuFirst;
    case Hint::kCold: return Policy::kCpuFirst;
    case Hint::kStream: return Policy::kBalanced;
    case Hint::kNone: break;
  }
  return request.policy;
}

ManagedMemory::ManagedMemory(const Driver& driver, DeviceTier& tier, HostTier& host,
                             const ManagedOptions& options, const ManagedMachine& machine)
    : driver_(driver),
      tier_(tier),
      host_(host),
      options_(options),
      machine_(machine),
      cap_(CapOf(options, machine)),
      advisable_(Attribute(driver, tier.device(), CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS) != 0 &&
                 driver.MemAdvise != nullptr && driver.MemPrefetchAsync != nullptr),
      budget_(cap_.bytes) {}

Result<ManagedBlock> ManagedMemory::Allocate(const ManagedRequest& request) {
  if (driver_.MemAllocManaged == nullptr) {
    return Status(Code::kUnsupported, "the driver has no managed memory; use --backend tiers");
  }
  if (request.bytes > cap_.bytes) return Refuse(cap_.bound, request.bytes);
  ManagedBlock block{0, request.bytes, RoundUp(request.bytes, kGranularity), request.context, tier_.device()};
  const Status claimed = Claim(block.claimed);
  if (!claimed.ok()) return claimed;
  Undo give_back([&] { Unclaim(block.claimed); });
  const CUresult result = driver_.MemAllocManaged(&block.va, block.bytes, CU_MEM_ATTACH_GLOBAL);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemAllocManaged");
  give_back.Dismiss();
  if (advisable_) Place(block, request);
  return block;
}

Status ManagedMemory::Free(const ManagedBlock& block, std::optional<CUstream> stream) {
  bool gone = false;
  const bool waited = stream && driver_.StreamSynchronize(*stream) == CUDA_SUCCESS;
  const Status status = waited ? Status() : SynchronizeContext(driver_, block.context, &gone);
  if (!status.ok()) return status;
  const CUresult result = driver_.MemFree(block.va);
  // A context takes its managed memory with it.
  if (result != CUDA_SUCCESS && !gone) return DriverStatus(result, "cuMemFree");
  Unclaim(block.claimed);
  return Status();
}

void ManagedMemory::Forget(const ManagedBlock& block) {
  driver_.MemFree(block.va);
  Unclaim(block.claimed);
}

uint64_t ManagedMemory::FreeBytes(uint64_t driver_free) const {
  if (cap_.only_free) {
    return std::min({budget_.free(), tier_.budget().free(), DeviceRoom(driver_free)});
  }
  const uint64_t used = budget_.used();
  const uint64_t in_hbm = machine_.hbm > used ? machine_.hbm - used : 0;
  const uint64_t left = std::min(budget_.free(), in_hbm + host_.FreeOfLimit());
  const uint64_t others = tier_.budget().used();
  return left > others ? left - others : 0;
}

Status ManagedMemory::Claim(uint64_t bytes) {
  MutexLock lock(mutex_);
  if (!budget_.Claim(bytes)) return Refuse(cap_.bound, bytes);
  const Status status = cap_.only_free ? ClaimDevice(bytes) : ClaimHost(bytes);
  if (!status.ok()) budget_.Release(bytes);
  return status;
}

Status ManagedMemory::ClaimDevice(uint64_t bytes) {
  size_t free = 0;
  size_t total = 0;
  const CUresult result = driver_.MemGetInfo(&free, &total);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemGetInfo");
  if (budget_.used() == bytes) device_bytes_ = free + tier_.budget().used();
  const uint64_t room = DeviceRoom(free);
  const uint64_t keep = tier_.ReserveLeft();
  const bool fits = room > keep && bytes <= room - keep;
  return fits && tier_.ClaimChunk(bytes) ? Status() : Refuse(ManagedCap::Bound::kDevice, bytes);
}

Status ManagedMemory::ClaimHost(uint64_t bytes) {
  const uint64_t used = budget_.used();
  const uint64_t on_host = BeyondHbm(used) - BeyondHbm(used - bytes);
  if (on_host == 0 || host_.ClaimOther(on_host)) return Status();
  return Refuse(ManagedCap::Bound::kHost, bytes);
}

void ManagedMemory::Unclaim(uint64_t bytes) {
  MutexLock lock(mutex_);
  const uint64_t used = budget_.used();
  if (cap_.only_free) {
    tier_.ReleaseChunk(bytes);
  } else if (BeyondHbm(used) > 0) {
    host_.ReleaseOther(BeyondHbm(used) - BeyondHbm(used - bytes));
  }
  budget_.Release(bytes);
}

// `device_bytes_` less all that this process holds there, resident or not.
uint64_t ManagedMemory::DeviceRoom(uint64_t driver_free) const {
  const uint64_t most = budget_.used() == 0 ? UINT64_MAX : device_bytes_.load(std::memory_order_relaxed);
  const uint64_t held = tier_.budget().used();
  return std::min(driver_free, most > held ? most - held : 0);
}

Status ManagedMemory::Refuse(ManagedCap::Bound bound, uint64_t bytes) {
  if (!told_refused_.exchange(true)) {
    Log(LogLevel::kWarn, "GPU %d: %s of managed memory refused, with %s in use: the cap is %s",
        tier_.device(), FormatSize(bytes).c_str(), FormatSize(budget_.used()).c_str(),
        WhyBound(bound, options_).c_str());
  }
  return Status(Code::kOutOfMemory, "the cap on managed memory is reached");
}

void ManagedMemory::Place(const ManagedBlock& block, const ManagedRequest& request) {
  if (request.policy == Policy::kGpuFirst) {
    AdviseOrWarn(block, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, CU_MEM_LOCATION_TYPE_DEVICE, block.device);
    AdviseOrWarn(block, CU_MEM_ADVISE_SET_ACCESSED_BY, CU_MEM_LOCATION_TYPE_HOST, 0);
    if (block.bytes >= options_.prefetch_below) return;
    const CUresult result = driver_.MemPrefetchAsync(
        block.va, block.bytes, At(CU_MEM_LOCATION_TYPE_DEVICE, block.device), 0, request.stream);
    if (result == CUDA_SUCCESS || told_prefetch_.exchange(true)) return;
    Log(LogLevel::kWarn, "managed memory could not be prefetched to GPU %d (%s); it comes there when used",
        block.device, ErrorName(result));
    return;
  }
  if (request.policy == Policy::kCpuFirst) PreferHost(block);
  AdviseOrWarn(block, CU_MEM_ADVISE_SET_ACCESSED_BY, CU_MEM_LOCATION_TYPE_DEVICE, block.device);
}

// The device's own node where the driver takes one: then no other socket's memory is meant.
void ManagedMemory::PreferHost(const ManagedBlock& block) {
  const bool near = host_.numa_node() >= 0 && Advise(block, CU_MEM_ADVISE_SET_PREFERRED_LOCATION,
                                                     CU_MEM_LOCATION_TYPE_HOST_NUMA, host_.numa_node());
  if (!near) AdviseOrWarn(block, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, CU_MEM_LOCATION_TYPE_HOST, 0);
}

bool ManagedMemory::Advise(const ManagedBlock& block, CUmem_advise advice, CUmemLocationType type, int id) {
  return driver_.MemAdvise(block.va, block.bytes, advice, At(type, id)) == CUDA_SUCCESS;
}

void ManagedMemory::AdviseOrWarn(const ManagedBlock& block, CUmem_advise advice, CUmemLocationType type,
                                 int id) {
  if (Advise(block, advice, type, id) || told_advice_.exchange(true)) return;
  Log(LogLevel::kWarn,
      "GPU %d: the driver takes no advice on where managed memory belongs (%s); it decides alone",
      block.device, advice == CU_MEM_ADVISE_SET_ACCESSED_BY ? "accessed by" : "preferred location");
}

}  // namespace gpuroom
