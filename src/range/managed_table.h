// ManagedTable: the live managed memory of this process by address. Looking up an address
// that is nowhere near costs two comparisons. Any thread.
//
// Blocks that the program has freed and the driver must not free yet (during a capture) wait here, too.
#pragma once

#include <atomic>
#include <vector>

#include "range/address_map.h"

namespace gpuroom {

class ManagedTable {
 public:
  // `map` outlives this object.
  explicit ManagedTable(AddressMap& map) : map_(map) {}

  void Insert(const ManagedBlock& block);
  // Removes and returns the block that begins at `va`; false if none does.
  bool Take(CUdeviceptr va, ManagedBlock* out);
  // Those of a device, deferred ones too.
  std::vector<ManagedBlock> TakeAll(CUdevice device);
  // Those of a context.
  std::vector<ManagedBlock> TakeAll(CUcontext context);
  // For a block that was taken and cannot be freed now.
  void Defer(const ManagedBlock& block);
  bool has_deferred() const { return deferred_count_.load(std::memory_order_acquire) != 0; }
  std::vector<ManagedBlock> TakeDeferred();
  // Cheap: false means that no block holds `address`.
  bool MayHold(CUdeviceptr address) const { return map_.MayHold(AddressMap::Kind::kManaged, address); }
  // The block that holds `address`.
  bool Find(CUdeviceptr address, ManagedBlock* out) const;

 private:
  template <typename Which>
  std::vector<ManagedBlock> TakeIf(Which which);

  AddressMap& map_;
  std::vector<ManagedBlock> deferred_;  // under the map's lock
  std::atomic<size_t> deferred_count_{0};
};

}  // namespace gpuroom
