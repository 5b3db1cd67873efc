#include "shim/handle_table.h"

#include <utility>

namespace headroom::shim {

void HandleTable::Insert(const HandleRecord& record) {
  MutexLock lock(mutex_);
  records_[record.handle] = record;
  if (record.spilled()) spilled_.fetch_add(1, std::memory_order_relaxed);
}

void HandleTable::Erase(std::unordered_map<Handle, HandleRecord>::iterator record) {
  if (record->second.spilled()) spilled_.fetch_sub(1, std::memory_order_relaxed);
  records_.erase(record);
}

bool HandleTable::Find(Handle handle, HandleRecord* out) {
  MutexLock lock(mutex_);
  const auto found = records_.find(handle);
  if (found == records_.end()) return false;
  *out = found->second;
  return true;
}

void HandleTable::AddReference(Handle handle) {
  MutexLock lock(mutex_);
  const auto found = records_.find(handle);
  if (found != records_.end()) ++found->second.references;
}

void HandleTable::MarkExported(Handle handle) {
  MutexLock lock(mutex_);
  const auto found = records_.find(handle);
  if (found != records_.end()) found->second.exported = true;
}

HandleTable::Released HandleTable::Release(Handle handle, HandleRecord* out) {
  MutexLock lock(mutex_);
  const auto found = records_.find(handle);
  if (found == records_.end()) return Released::kUnknown;
  HandleRecord& record = found->second;
  if (record.references == 0) return Released::kInvalid;
  --record.references;
  if (record.references > 0 || record.mappings > 0) return Released::kStillUsed;
  *out = record;
  Erase(found);
  return Released::kDead;
}

void HandleTable::Revive(const HandleRecord& record) {
  HandleRecord revived = record;
  revived.references = 1;
  Insert(revived);
}

void HandleTable::Bury(const HandleRecord& record) {
  MutexLock lock(mutex_);
  buried_.push_back(record);
}

std::vector<HandleRecord> HandleTable::TakeBuried() {
  MutexLock lock(mutex_);
  return std::exchange(buried_, {});
}

void HandleTable::AddMapping(CUdeviceptr va, uint64_t bytes, Handle handle) {
  MutexLock lock(mutex_);
  const auto found = records_.find(handle);
  if (found == records_.end()) return;
  ++found->second.mappings;
  mappings_[va] = {bytes, handle};
}

std::vector<HandleRecord> HandleTable::RemoveMappings(CUdeviceptr va, uint64_t bytes) {
  std::vector<HandleRecord> dead;
  MutexLock lock(mutex_);
  auto mapping = mappings_.lower_bound(va);
  while (mapping != mappings_.end() && mapping->first - va < bytes) {
    const auto found = records_.find(mapping->second.handle);
    mapping = mappings_.erase(mapping);
    if (found == records_.end()) continue;
    HandleRecord& record = found->second;
    if (--record.mappings > 0 || record.references > 0) continue;
    dead.push_back(record);
    Erase(found);
  }
  return dead;
}

bool HandleTable::FindMapping(CUdeviceptr address, MappingInfo* out) {
  MutexLock lock(mutex_);
  auto next = mappings_.upper_bound(address);
  if (next == mappings_.begin()) return false;
  const auto& [va, mapping] = *std::prev(next);
  if (address - va >= mapping.bytes) return false;
  const auto found = records_.find(mapping.handle);
  if (found == records_.end()) return false;
  const HandleRecord& record = found->second;
  *out = {va, mapping.bytes, mapping.handle, BytesIn(Tier::kHost, record.chunks), record.device};
  return true;
}

}  // namespace headroom::shim
