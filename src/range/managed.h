// ManagedMemory: one device's managed memory (cuMemAllocManaged), placed by policy and
// bounded by a cap. The driver moves it between HBM and the host as it is used, so where
// it lies is not known here.
//
//   kGpuFirst  prefers the device, mapped for the CPU (which then reads over the link and
//              moves nothing), prefetched if smaller than ManagedOptions::prefetch_below
//   kBalanced  mapped for the device; where it lies is the driver's choice
//   kCpuFirst  prefers the host, mapped for the device
//
// Advice and prefetch are wishes: where the driver refuses one, the memory is as usable
// without it, so that is one line in the log and no error. The cap is a promise. What may
// only be taken while the device has it free counts against the device's budget; else what
// exceeds the HBM counts against the host's, as if no other memory of the process were in HBM.
//
// Any thread. No call during a capture: allocating and freeing break it.
#pragma once

#include <atomic>
#include <optional>

#include "base/mutex.h"
#include "range/managed_cap.h"
#include "range/plan.h"
#include "tier/device_tier.h"
#include "tier/host_tier.h"

namespace gpuroom {

struct ManagedRequest {
  uint64_t bytes = 0;  // more than zero
  Policy policy = Policy::kGpuFirst;
  CUcontext context = nullptr;  // current
  CUstream stream = nullptr;    // where the prefetch goes; the legacy default stream
};

struct ManagedBlock {
  CUdeviceptr va = 0;
  uint64_t bytes = 0;    // as asked
  uint64_t claimed = 0;  // of the cap: a multiple of kGranularity
  CUcontext context = nullptr;
  CUdevice device = 0;
};

// The policy that a request's hint and policy come to.
Policy ManagedPolicy(const PlanRequest& request);

class ManagedMemory {
 public:
  // `machine` describes the device of `tier`; both tiers outlive this object.
  ManagedMemory(const Driver& driver, DeviceTier& tier, HostTier& host, const ManagedOptions& options,
                const ManagedMachine& machine);

  // kOutOfMemory beyond the cap, with a line in the log that says why, once; kUnsupported
  // where the driver has no managed memory. A context of this device is current.
  Result<ManagedBlock> Allocate(const ManagedRequest& request);

  // Waits for `stream`, if there is one, which must not have been destroyed, else for the
  // block's context; then frees. On failure nothing changed.
  Status Free(const ManagedBlock& block, std::optional<CUstream> stream = std::nullopt);
  // For a block whose context was reset: the driver has freed it, or does so now.
  void Forget(const ManagedBlock& block);

  // Bytes that may still be allocated where the driver says that the device has
  // `driver_free` free.
  uint64_t FreeBytes(uint64_t driver_free) const;
  const ManagedCap& cap() const { return cap_; }
  // Claimed, of cap().bytes.
  const Budget& budget() const { return budget_; }

 private:
  Status Claim(uint64_t bytes);
  Status ClaimDevice(uint64_t bytes) GPUROOM_REQUIRES(mutex_);
  Status ClaimHost(uint64_t bytes) GPUROOM_REQUIRES(mutex_);
  void Unclaim(uint64_t bytes);
  // Of the host's memory, what `used` bytes take that the HBM does not hold.
  uint64_t BeyondHbm(uint64_t used) const { return used > machine_.hbm ? used - machine_.hbm : 0; }
  uint64_t DeviceRoom(uint64_t driver_free) const;
  Status Refuse(ManagedCap::Bound bound, uint64_t bytes);

  void Place(const ManagedBlock& block, const ManagedRequest& request);
  bool Advise(const ManagedBlock& block, CUmem_advise advice, CUmemLocationType type, int id);
  void AdviseOrWarn(const ManagedBlock& block, CUmem_advise advice, CUmemLocationType type, int id);
  void PreferHost(const ManagedBlock& block);

  const Driver& driver_;
  DeviceTier& tier_;
  HostTier& host_;
  const ManagedOptions options_;
  const ManagedMachine machine_;
  const ManagedCap cap_;
  const bool advisable_;  // false: host and device may not use it at once, and the driver takes no advice
  Budget budget_;
  Mutex mutex_;  // claims in several budgets go together
  // What the device had free, with all that this process held counted as free, when no
  // managed memory was there: pages that are not resident yet do not show in what is free.
  std::atomic<uint64_t> device_bytes_{UINT64_MAX};
  std::atomic<bool> told_refused_{false};
  std::atomic<bool> told_advice_{false};
  std::atomic<bool> told_prefetch_{false};
};

}  // namespace gpuroom
