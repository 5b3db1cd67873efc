#include "runtime/pointer_table.h"

namespace gpuroom {

void PointerTable::Insert(const PointerRecord& record) {
  Shard& shard = ShardOf(Hash(record.address));
  MutexLock lock(shard.mutex);
  if ((shard.used + 1) * 4 > shard.slots.size() * 3) Grow(shard);
  Place(shard.slots, record);
  ++shard.used;
}

bool PointerTable::Take(CUdeviceptr address, PointerRecord* out) {
  if (address == 0) return false;
  const uint64_t hash = Hash(address);
  Shard& shard = ShardOf(hash);
  MutexLock lock(shard.mutex);
  if (shard.slots.empty()) return false;
  const size_t mask = shard.slots.size() - 1;
  for (size_t at = Home(hash, mask); shard.slots[at].address != 0; at = (at + 1) & mask) {
    if (shard.slots[at].address != address) continue;
    *out = shard.slots[at];
    Erase(shard.slots, at);
    --shard.used;
    return true;
  }
  return false;
}

uint64_t PointerTable::TakeAll(CUdevice device) {
  return TakeIf([device](const PointerRecord& record) { return record.device == device; });
}

uint64_t PointerTable::TakeAll(CUcontext context) {
  return TakeIf([context](const PointerRecord& record) { return record.context == context; });
}

template <typename Which>
uint64_t PointerTable::TakeIf(Which which) {
  uint64_t bytes = 0;
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    std::vector<PointerRecord> kept(shard.slots.size());
    shard.used = 0;
    for (const PointerRecord& record : shard.slots) {
      if (record.address == 0) continue;
      if (which(record)) {
        bytes += record.bytes;
      } else {
        Place(kept, record);
        ++shard.used;
      }
    }
    shard.slots.swap(kept);
  }
  return bytes;
}

void PointerTable::Place(std::vector<PointerRecord>& slots, const PointerRecord& record) {
  const size_t mask = slots.size() - 1;
  size_t at = Home(Hash(record.address), mask);
  while (slots[at].address != 0) at = (at + 1) & mask;
  slots[at] = record;
}

void PointerTable::Grow(Shard& shard) {
  std::vector<PointerRecord> larger(shard.slots.empty() ? 64 : shard.slots.size() * 2);
  for (const PointerRecord& record : shard.slots) {
    if (record.address != 0) Place(larger, record);
  }
  shard.slots.swap(larger);
}

// Closes the gap so that no probe sequence is broken: every following record that
// may move back into it does.
void PointerTable::Erase(std::vector<PointerRecord>& slots, size_t at) {
  const size_t mask = slots.size() - 1;
  size_t gap = at;
  for (size_t next = (at + 1) & mask; slots[next].address != 0; next = (next + 1) & mask) {
    const size_t home = Home(Hash(slots[next].address), mask);
    if (((next - home) & mask) < ((next - gap) & mask)) continue;
    slots[gap] = slots[next];
    gap = next;
  }
  slots[gap] = PointerRecord();
}

}  // namespace gpuroom
