#include "runtime/handle_table.h"

#include <algorithm>
#include <utility>

namespace gpuroom {
namespace {

constexpr CUmemGenericAllocationHandle kFirstHandle = 0xead0000000000000u;

void Allow(Window& window, const CUmemAccessDesc& access) {
  const uint64_t device = uint64_t{1} << access.location.id;
  window.writers &= ~device;
  window.readers &= ~device;
  if (access.flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE) window.writers |= device;
  if (access.flags == CU_MEM_ACCESS_FLAGS_PROT_READ) window.readers |= device;
}

}  // namespace

CUmemGenericAllocationHandle HandleTable::NewHandle() {
  static std::atomic<uint64_t> next{0};
  return kFirstHandle + (next.fetch_add(1, std::memory_order_relaxed) << 4);
}

bool HandleTable::IsOurs(Handle handle) { return handle >> 48 == kFirstHandle >> 48; }

void HandleTable::CountAway() {
  size_t away = 0;
  for (const auto& [handle, record] : records_) away += record.away() ? 1 : 0;
  away_.store(away, std::memory_order_relaxed);
}

void HandleTable::Insert(const HandleRecord& record) {
  MutexLock lock(mutex_);
  records_[record.handle] = record;
  if (record.away()) away_.fetch_add(1, std::memory_order_relaxed);
}

void HandleTable::Erase(std::unordered_map<Handle, HandleRecord>::iterator record) {
  if (record->second.away()) away_.fetch_sub(1, std::memory_order_relaxed);
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

void HandleTable::Pin(Handle handle, bool exported) {
  MutexLock lock(mutex_);
  const auto found = records_.find(handle);
  if (found == records_.end()) return;
  ++found->second.pins;
  for (Chunk& chunk : found->second.chunks) chunk.exported |= exported;
}

HandleTable::Released HandleTable::Release(Handle handle, HandleRecord* out) {
  MutexLock lock(mutex_);
  const auto found = records_.find(handle);
  if (found == records_.end()) return Released::kUnknown;
  HandleRecord& record = found->second;
  if (record.references == 0) return Released::kInvalid;
  --record.references;
  if (record.references > 0 || !record.windows.empty()) return Released::kStillUsed;
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
  found->second.windows.push_back({va, 0, 0});
  mappings_[va] = {bytes, handle};
}

void HandleTable::NoteAccess(CUdeviceptr va, uint64_t bytes, const CUmemAccessDesc* access, size_t count) {
  MutexLock lock(mutex_);
  for (auto mapping = mappings_.lower_bound(va); mapping != mappings_.end() && mapping->first - va < bytes;
       ++mapping) {
    const auto found = records_.find(mapping->second.handle);
    if (found == records_.end()) continue;
    HandleRecord& record = found->second;
    const auto window = std::find_if(record.windows.begin(), record.windows.end(),
                                     [&](const Window& one) { return one.va == mapping->first; });
    for (size_t i = 0; i < count && window != record.windows.end(); ++i) {
      if (access[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE) {
        Allow(*window, access[i]);
      } else {
        ++record.pins;  // the host's access cannot be had for every chunk
      }
    }
  }
}

std::vector<HandleRecord> HandleTable::RemoveMappings(CUdeviceptr va, uint64_t bytes) {
  std::vector<HandleRecord> dead;
  MutexLock lock(mutex_);
  auto mapping = mappings_.lower_bound(va);
  while (mapping != mappings_.end() && mapping->first - va < bytes) {
    const auto found = records_.find(mapping->second.handle);
    const CUdeviceptr start = mapping->first;
    mapping = mappings_.erase(mapping);
    if (found == records_.end()) continue;
    HandleRecord& record = found->second;
    std::vector<Window>& windows = record.windows;
    windows.erase(std::remove_if(windows.begin(), windows.end(),
                                 [start](const Window& window) { return window.va == start; }),
                  windows.end());
    if (!windows.empty() || record.references > 0) continue;
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
  *out = {va,          mapping.bytes,   mapping.handle, record.host_bytes, record.peer_bytes, record.device,
          record.hint, !record.awake(), record.away()};
  return true;
}

std::vector<HandleTable::Span> HandleTable::SleepingIn(CUdeviceptr va, uint64_t bytes) {
  std::vector<Span> spans;
  if (away_.load(std::memory_order_relaxed) == 0) return spans;
  MutexLock lock(mutex_);
  for (auto mapping = mappings_.lower_bound(va); mapping != mappings_.end() && mapping->first - va < bytes;
       ++mapping) {
    const auto found = records_.find(mapping->second.handle);
    if (found != records_.end() && !found->second.awake())
      spans.push_back({mapping->first, mapping->second.bytes});
  }
  return spans;
}

}  // namespace gpuroom
