#include "range/managed_table.h"

#include <algorithm>
#include <mutex>

#include "tier/slow_memory.h"

namespace gpuroom {

void ManagedTable::Insert(const ManagedBlock& block) {
  std::unique_lock lock(mutex_);
  window_.Include(block.va, block.bytes);
  blocks_.emplace(block.va, block);
  SlowMemory::Add(block.bytes);
}

bool ManagedTable::Take(CUdeviceptr va, ManagedBlock* out) {
  if (!MayHold(va)) return false;
  std::unique_lock lock(mutex_);
  const auto found = blocks_.find(va);
  if (found == blocks_.end()) return false;
  *out = found->second;
  blocks_.erase(found);
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
  std::unique_lock lock(mutex_);
  for (auto next = blocks_.begin(); next != blocks_.end();) {
    if (!which(next->second)) {
      ++next;
      continue;
    }
    taken.push_back(next->second);
    SlowMemory::Remove(next->second.bytes);
    next = blocks_.erase(next);
  }
  const auto kept = std::stable_partition(deferred_.begin(), deferred_.end(),
                                          [&which](const ManagedBlock& each) { return !which(each); });
  taken.insert(taken.end(), kept, deferred_.end());
  deferred_.erase(kept, deferred_.end());
  deferred_count_.store(deferred_.size(), std::memory_order_release);
  return taken;
}

void ManagedTable::Defer(const ManagedBlock& block) {
  std::unique_lock lock(mutex_);
  deferred_.push_back(block);
  deferred_count_.store(deferred_.size(), std::memory_order_release);
}

std::vector<ManagedBlock> ManagedTable::TakeDeferred() {
  std::vector<ManagedBlock> blocks;
  std::unique_lock lock(mutex_);
  blocks.swap(deferred_);
  deferred_count_.store(0, std::memory_order_release);
  return blocks;
}

bool ManagedTable::Find(CUdeviceptr address, ManagedBlock* out) const {
  if (!MayHold(address)) return false;
  std::shared_lock lock(mutex_);
  auto next = blocks_.upper_bound(address);
  if (next == blocks_.begin()) return false;
  const ManagedBlock& block = std::prev(next)->second;
  if (address - block.va >= block.bytes) return false;
  *out = block;
  return true;
}

}  // namespace gpuroom
