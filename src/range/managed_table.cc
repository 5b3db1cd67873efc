#include "range/managed_table.h"

#include <algorithm>

#include "tier/slow_memory.h"

namespace gpuroom {

void ManagedTable::Insert(const ManagedBlock& block) {
  const std::unique_lock lock(map_.mutex());
  AddressMap::Occupant occupant;
  occupant.bytes = block.bytes;
  occupant.kind = AddressMap::Kind::kManaged;
  occupant.managed = std::make_unique<ManagedBlock>(block);
  map_.Insert(block.va, std::move(occupant));
  SlowMemory::Add(block.bytes);
}

bool ManagedTable::Take(CUdeviceptr va, ManagedBlock* out) {
  if (!MayHold(va)) return false;
  const std::unique_lock lock(map_.mutex());
  const AddressMap::Place found = map_.StartingAt(va);
  if (found == map_.end() || found->second.managed == nullptr) return false;
  *out = *found->second.managed;
  map_.Erase(found);
  SlowMemory::Remove(out->bytes);
  return true;
}

std::vector<ManagedBlock> ManagedTable::TakeAll(CUdevice device) {
  return TakeIf([device](const ManagedBlock& block) { return block.device == device; });
}

std::vector<ManagedBlock> ManagedTable::TakeAll(CUcontext context) {
  return TakeIf([context](const ManagedBlock& block) { return block.context == context; });
}

template <typename Which>
std::vector<ManagedBlock> ManagedTable::TakeIf(Which which) {
  std::vector<ManagedBlock> taken;
  const std::unique_lock lock(map_.mutex());
  for (AddressMap::Place next = map_.begin(); next != map_.end();) {
    if (next->second.managed == nullptr || !which(*next->second.managed)) {
      ++next;
      continue;
    }
    taken.push_back(*next->second.managed);
    SlowMemory::Remove(taken.back().bytes);
    next = map_.Erase(next);
  }
  const auto kept = std::stable_partition(deferred_.begin(), deferred_.end(),
                                          [&which](const ManagedBlock& each) { return !which(each); });
  taken.insert(taken.end(), kept, deferred_.end());
  deferred_.erase(kept, deferred_.end());
  deferred_count_.store(deferred_.size(), std::memory_order_release);
  return taken;
}

void ManagedTable::Defer(const ManagedBlock& block) {
  const std::unique_lock lock(map_.mutex());
  deferred_.push_back(block);
  deferred_count_.store(deferred_.size(), std::memory_order_release);
}

std::vector<ManagedBlock> ManagedTable::TakeDeferred() {
  std::vector<ManagedBlock> blocks;
  const std::unique_lock lock(map_.mutex());
  blocks.swap(deferred_);
  deferred_count_.store(0, std::memory_order_release);
  return blocks;
}

bool ManagedTable::Find(CUdeviceptr address, ManagedBlock* out) const {
  if (!MayHold(address)) return false;
  const std::shared_lock lock(map_.mutex());
  const AddressMap::Place place = map_.Holding(address);
  if (place == map_.end() || place->second.managed == nullptr) return false;
  *out = *place->second.managed;
  return true;
}

}  // namespace gpuroom
