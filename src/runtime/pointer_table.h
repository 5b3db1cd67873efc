// PointerTable: the sizes of the program's allocations that went straight to the
// driver, so that their bytes count against the device's budget. This is on the
// path of every small cuMemAlloc and cuMemFree: open addressing, 16 shards, one
// uncontended lock. Any thread.
#pragma once

#include <cuda.h>

#include <array>
#include <cstdint>
#include <vector>

#include "base/mutex.h"

namespace gpuroom {

struct PointerRecord {
  CUdeviceptr address = 0;  // 0: free slot
  uint64_t bytes = 0;
  CUdevice device = 0;
  CUcontext context = nullptr;  // whose end frees it; null: none's
};

class PointerTable {
 public:
  void Insert(const PointerRecord& record);
  // Removes and returns the record of `address`; false if there is none.
  bool Take(CUdeviceptr address, PointerRecord* out);
  // Removes all records of a device; returns their bytes together. Slow.
  uint64_t TakeAll(CUdevice device);
  // The same of a context.
  uint64_t TakeAll(CUcontext context);

 private:
  struct alignas(64) Shard {
    Mutex mutex;
    std::vector<PointerRecord> slots GPUROOM_GUARDED_BY(mutex);  // a power of two; at most 3/4 full
    size_t used GPUROOM_GUARDED_BY(mutex) = 0;
  };
  static uint64_t Hash(CUdeviceptr address) { return (address >> 8) * 0x9e3779b97f4a7c15ULL; }
  // Addresses are often multiples of 2 MiB: only the product's middle bits differ well.
  static size_t Home(uint64_t hash, size_t mask) { return (hash >> 28) & mask; }
  Shard& ShardOf(uint64_t hash) { return shards_[hash >> 60]; }
  static void Place(std::vector<PointerRecord>& slots, const PointerRecord& record);
  static void Grow(Shard& shard) GPUROOM_REQUIRES(shard.mutex);
  template <typename Which>
  uint64_t TakeIf(Which which);
  static void Erase(std::vector<PointerRecord>& slots, size_t at);

  std::array<Shard, 16> shards_;
};

}  // namespace gpuroom
