#include "runtime/handle_table.h"

#include <algorithm>
#include <utility>

#include "base/undo.h"

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

// What counts as a small allocation never moves: no index has it.
void HandleTable::Update(HandleRecord* record) {
  if (!record->small) map_.IndexOf(*record).Update(record);
}

void HandleTable::Enter(HandleRecord&& record) {
  const auto entered = records_.insert_or_assign(record.handle, std::move(record)).first;
  Undo take_back([&] { records_.erase(entered); });
  Update(&entered->second);
  take_back.Dismiss();
}

HandleRecord HandleTable::TakeOut(Records::iterator place) {
  map_.IndexOf(place->second).Remove(&place->second);
  HandleRecord record = std::move(place->second);
  records_.erase(place);
  return record;
}

HandleRecord* HandleTable::RecordAt(AddressMap::Occupant& occupant) {
  const bool mapping = occupant.kind == AddressMap::Kind::kMapping;
  return mapping ? static_cast<HandleRecord*>(occupant.placed) : nullptr;
}

template <typename Use>
void HandleTable::ForMappingsIn(CUdeviceptr va, uint64_t bytes, Use use) {
  for (auto place = map_.AtOrAfter(va); place != map_.end() && place->first - va < bytes; ++place) {
    HandleRecord* record = RecordAt(place->second);
    if (record != nullptr) use(place->first, place->second, *record);
  }
}

void HandleTable::Insert(HandleRecord&& record) {
  const std::unique_lock lock(map_.mutex());
  Enter(std::move(record));
}

bool HandleTable::Find(Handle handle, HandleRecord* out) {
  const std::shared_lock lock(map_.mutex());
  const auto found = records_.find(handle);
  if (found == records_.end()) return false;
  *out = found->second;
  return true;
}

void HandleTable::AddReference(Handle handle) {
  const std::unique_lock lock(map_.mutex());
  const auto found = records_.find(handle);
  if (found != records_.end()) ++found->second.references;
}

void HandleTable::Pin(Handle handle, bool exported) {
  const std::unique_lock lock(map_.mutex());
  const auto found = records_.find(handle);
  if (found == records_.end()) return;
  ++found->second.pins;
  for (Chunk& chunk : found->second.chunks) chunk.exported |= exported;
  Update(&found->second);
}

HandleTable::Released HandleTable::Release(Handle handle, HandleRecord* out) {
  const std::unique_lock lock(map_.mutex());
  const auto found = records_.find(handle);
  if (found == records_.end()) return Released::kUnknown;
  HandleRecord& record = found->second;
  if (record.references == 0) return Released::kInvalid;
  --record.references;
  if (record.references > 0 || !record.windows.empty()) return Released::kStillUsed;
  *out = TakeOut(found);
  return Released::kDead;
}

void HandleTable::Revive(const HandleRecord& record) {
  HandleRecord revived = record;
  revived.references = 1;
  Insert(std::move(revived));
}

void HandleTable::AddMapping(CUdeviceptr va, uint64_t bytes, Handle handle) {
  const std::unique_lock lock(map_.mutex());
  const auto found = records_.find(handle);
  if (found == records_.end()) return;
  AddressMap::Occupant occupant;
  occupant.bytes = bytes;
  occupant.kind = AddressMap::Kind::kMapping;
  occupant.placed = &found->second;
  map_.Insert(va, std::move(occupant));
  found->second.windows.push_back({va, 0, 0});  // not open to any device yet: changes nothing for the index
}

void HandleTable::NoteAccess(CUdeviceptr va, uint64_t bytes, const CUmemAccessDesc* access, size_t count) {
  const std::unique_lock lock(map_.mutex());
  ForMappingsIn(va, bytes, [&](CUdeviceptr start, const AddressMap::Occupant&, HandleRecord& record) {
    const auto window = std::find_if(record.windows.begin(), record.windows.end(),
                                     [start](const Window& one) { return one.va == start; });
    for (size_t i = 0; i < count && window != record.windows.end(); ++i) {
      if (access[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE) {
        Allow(*window, access[i]);
      } else {
        ++record.pins;  // the host's access cannot be had for every chunk
      }
    }
    Update(&record);
  });
}

std::vector<HandleRecord> HandleTable::RemoveMappings(CUdeviceptr va, uint64_t bytes) {
  std::vector<HandleRecord> dead;
  const std::unique_lock lock(map_.mutex());
  auto place = map_.AtOrAfter(va);
  while (place != map_.end() && place->first - va < bytes) {
    HandleRecord* record = RecordAt(place->second);
    if (record == nullptr) {
      ++place;
      continue;
    }
    std::erase_if(record->windows,
                  [start = place->first](const Window& window) { return window.va == start; });
    place = map_.Erase(place);
    if (!record->windows.empty() || record->references > 0) {
      Update(record);
      continue;
    }
    dead.emplace_back();
    dead.back() = TakeOut(records_.find(record->handle));
  }
  return dead;
}

bool HandleTable::FindMapping(CUdeviceptr address, MappingInfo* out) {
  if (!map_.MayHold(AddressMap::Kind::kMapping, address)) return false;
  const std::shared_lock lock(map_.mutex());
  const AddressMap::Place place = map_.Holding(address);
  const HandleRecord* record = place != map_.end() ? RecordAt(place->second) : nullptr;
  if (record == nullptr) return false;
  *out = {place->first,   place->second.bytes, record->handle,   record->host_bytes, record->peer_bytes,
          record->device, record->hint,        !record->awake(), record->away()};
  return true;
}

std::vector<HandleTable::Span> HandleTable::SleepingIn(CUdeviceptr va, uint64_t bytes) {
  std::vector<Span> spans;
  if (!AnyAway()) return spans;
  const std::shared_lock lock(map_.mutex());
  ForMappingsIn(va, bytes,
                [&](CUdeviceptr start, const AddressMap::Occupant& occupant, const HandleRecord& record) {
                  if (!record.awake()) spans.push_back({start, occupant.bytes});
                });
  return spans;
}

}  // namespace gpuroom
