// DeviceTier: one GPU's own memory. Chunks are created here against a budget;
// what the program allocates from the driver directly is counted here too, so
// that a limit holds over both. Any thread.
//
// A reserve of the budget is kept for small allocations: chunks leave it free,
// small claims use it up.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/status.h"
#include "driver/driver.h"
#include "tier/budget.h"
#include "tier/chunk.h"

namespace gpuroom {

// What a chunk is created with so that other processes can map it: a POSIX
// descriptor where the driver can do that; it costs nothing (docs/measurements.md).
CUmemAllocationHandleType ExportableHandleType(const Driver& driver, CUdevice device);

class DeviceTier {
 public:
  // `limit` bytes of this device's memory at most (Budget::kUnlimited: the driver
  // decides), of which `reserve` are for small allocations.
  DeviceTier(const Driver& driver, CUdevice device, uint64_t limit, uint64_t reserve);

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
  bool ClaimChunk(uint64_t bytes) { return budget_.Claim(bytes, ReserveLeft()); }
  void ReleaseChunk(uint64_t bytes) { budget_.Release(bytes); }

  // A context of this device has been current in a memory call: the program uses it itself.
  void MarkUsed() { used_.store(true, std::memory_order_release); }
  bool used() const { return used_.load(std::memory_order_acquire); }

  // Bytes that chunks may still take.
  uint64_t FreeForChunks() const;
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
  const Driver& driver_;
  const CUdevice device_;
  std::atomic<uint64_t> reserve_;
  Budget budget_;
  std::atomic<uint64_t> small_used_{0};
  std::atomic<bool> used_{false};
  CUmemAllocationProp properties_{};
};

}  // namespace gpuroom
