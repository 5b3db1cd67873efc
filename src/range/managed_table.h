// ManagedTable: the live managed memory of this process by address. Looking up an address
// that is nowhere near costs two comparisons. Any thread.
#pragma once

#include <map>
#include <shared_mutex>
#include <vector>

#include "range/address_window.h"
#include "range/managed.h"

namespace headroom {

class ManagedTable {
 public:
  void Insert(const ManagedBlock& block);
  // Removes and returns the block that begins at `va`; false if none does.
  bool Take(CUdeviceptr va, ManagedBlock* out);
  // Those of a device.
  std::vector<ManagedBlock> TakeAll(CUdevice device);
  // Cheap: false means that no block holds `address`.
  bool MayHold(CUdeviceptr address) const { return window_.MayHold(address); }
  // The block that holds `address`.
  bool Find(CUdeviceptr address, ManagedBlock* out) const;

 private:
  mutable std::shared_mutex mutex_;
  std::map<CUdeviceptr, ManagedBlock> blocks_;
  AddressWindow window_;
};

}  // namespace headroom
