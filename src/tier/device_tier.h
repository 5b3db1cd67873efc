// DeviceTier: one GPU's own memory. Chunks are created here against a budget;
// what the program allocates from the driver directly is counted here too, so
// that a limit holds over both. Any thread.
//
// A reserve of the budget is kept for small allocations: chunks leave it free,
// small claims use it up.
//
// With a ledger, the node's other processes see what is used here, and what they use counts as not free. Only
// plans go by that: whether a chunk can be created, the driver says.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/status.h"
#include "driver/driver.h"
#include "tier/budget.h"
#include "tier/chunk.h"
#include "tier/hbm_account.h"

namespace gpuroom {

// What a chunk is created with so that other processes can map it: a POSIX
// descriptor where the driver can do that; it costs nothing (docs/measurements.md).
CUmemAllocationHandleType ExportableHandleType(const Driver& driver, CUdevice device);

class DeviceTier {
 public:
  // `limit` bytes of this device's memory at most (Budget::kUnlimited: the driver
  // decides), of which `reserve` are for small allocations.
  // `ledger` is null where none is shared with other processes, and else outlives the tier.
  DeviceTier(const Driver& driver, CUdevice device, uint64_t limit, uint64_t reserve,
             Ledger* ledger = nullptr);

  // A chunk of `bytes` (a multiple of kGranularity). kOutOfMemory when the budget
  // or the driver has no more.
  Result<Chunk> Create(uint64_t bytes);
  // Gives the chunk back to the driver. On failure nothing changed; try again.
  Status Release(const Chunk& chunk);

  // Counts memory that the program takes from the driver itself. False: no room.
  bool ClaimSmall(uint64_t bytes);
  void ReleaseSmall(uint64_t bytes);
  uint64_t small_used() const { return small_used_.load(std::memory_order_relaxed); }
  // Counts physical memory of a program's own cuMemCreate; leaves the reserve free.
  bool ClaimChunk(uint64_t bytes) { return Claim(bytes, ReserveLeft()); }
  void ReleaseChunk(uint64_t bytes) { Unclaim(bytes); }

  // A context of this device has been current in a memory call: the program uses it itself.
  void MarkUsed() {
    used_.store(true, std::memory_order_release);
    if (account_ != nullptr) account_->MarkInUse();
  }
  bool used() const { return used_.load(std::memory_order_acquire); }

  // Whether another live process uses this GPU, or has memory of it; up to 20 ms old.
  bool UsedByOthers() { return account_ != nullptr && account_->Others() > 0; }

  // Bytes that chunks may still take.
  uint64_t FreeForChunks();
  // Of the reserve, what small allocations have not used.
  uint64_t ReserveLeft() const;
  // So much is left of the reserve from now on.
  void SetReserveLeft(uint64_t bytes) {
    const uint64_t small = small_used();
    reserve_.store(small + std::min(bytes, UINT64_MAX - small), std::memory_order_relaxed);
  }
  const Budget& budget() const { return budget_; }
  // As Budget::SetGrant; and whether there is one.
  void SetGrant(uint64_t bytes) { budget_.SetGrant(bytes); }
  bool granted() const { return budget_.grant() != Budget::kUnlimited; }
  CUdevice device() const { return device_; }

 private:
  bool Claim(uint64_t bytes, uint64_t keep);
  void Unclaim(uint64_t bytes);

  const Driver& driver_;
  const CUdevice device_;
  std::atomic<uint64_t> reserve_;
  Budget budget_;
  std::atomic<uint64_t> small_used_{0};
  std::atomic<bool> used_{false};
  CUmemAllocationProp properties_{};
  std::unique_ptr<HbmAccount> account_;  // null: this process counts alone
};

}  // namespace gpuroom
