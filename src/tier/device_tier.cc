#include "tier/device_tier.h"

#include <algorithm>

#include "base/undo.h"

namespace gpuroom {

CUmemAllocationHandleType ExportableHandleType(const Driver& driver, CUdevice device) {
  int posix = 0;
  driver.DeviceGetAttribute(&posix, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, device);
  return posix != 0 ? CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR : CU_MEM_HANDLE_TYPE_NONE;
}

DeviceTier::DeviceTier(const Driver& driver, CUdevice device, uint64_t limit, uint64_t reserve,
                       Ledger* ledger)
    : driver_(driver), device_(device), reserve_(reserve), budget_(limit) {
  properties_.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties_.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties_.location.id = device;
  // cudaMalloc's memory can be registered for RDMA; a range should not lose that.
  int rdma = 0;
  driver_.DeviceGetAttribute(&rdma, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, device);
  properties_.requestedHandleTypes = ExportableHandleType(driver, device);
  properties_.allocFlags.gpuDirectRDMACapable = rdma != 0 ? 1 : 0;
  if (ledger != nullptr) account_ = HbmAccount::Open(*ledger, driver, device, budget_);
}

Result<Chunk> DeviceTier::Create(uint64_t bytes) {
  if (!ClaimChunk(bytes)) return Status(Code::kOutOfMemory, "the device's budget is used up");
  Undo give_back([&] { ReleaseChunk(bytes); });
  Chunk chunk{0, bytes, Tier::kDevice, device_};
  const CUresult result = driver_.MemCreate(&chunk.handle, bytes, &properties_, 0);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemCreate on the device");
  give_back.Dismiss();
  return chunk;
}

Status DeviceTier::Release(const Chunk& chunk) {
  const CUresult result = driver_.MemRelease(chunk.handle);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemRelease of a device chunk");
  ReleaseChunk(chunk.bytes);
  return Status();
}

bool DeviceTier::Claim(uint64_t bytes, uint64_t keep) {
  if (!budget_.Claim(bytes, keep)) return false;
  if (account_ != nullptr) account_->Follow();
  return true;
}

void DeviceTier::Unclaim(uint64_t bytes) {
  budget_.Release(bytes);
  if (account_ != nullptr) account_->Follow();
}

bool DeviceTier::ClaimSmall(uint64_t bytes) {
  if (!Claim(bytes, 0)) return false;
  small_used_.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

void DeviceTier::ReleaseSmall(uint64_t bytes) {
  small_used_.fetch_sub(bytes, std::memory_order_relaxed);
  Unclaim(bytes);
}

uint64_t DeviceTier::ReserveLeft() const {
  const uint64_t small = small_used_.load(std::memory_order_relaxed);
  const uint64_t reserve = reserve_.load(std::memory_order_relaxed);
  return small < reserve ? reserve - small : 0;
}

uint64_t DeviceTier::FreeForChunks() {
  // What was granted to this process, the others have given up.
  const bool counted = account_ != nullptr && !granted();
  const uint64_t free = std::min(budget_.free(), counted ? account_->Free() : UINT64_MAX);
  const uint64_t keep = ReserveLeft();
  return free > keep ? free - keep : 0;
}

}  // namespace gpuroom
