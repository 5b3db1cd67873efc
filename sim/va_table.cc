#include "va_table.h"

#include <sys/mman.h>

#include "profile.h"

namespace gpuroom::sim {
namespace {

void* MapNone(CUdeviceptr at, uint64_t bytes, int extra) {
  return mmap(reinterpret_cast<void*>(at), bytes, PROT_NONE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | extra, -1, 0);
}

// A span that begins there and nowhere else.
bool MapAt(CUdeviceptr start, uint64_t bytes) {
  void* at = MapNone(start, bytes, MAP_FIXED_NOREPLACE);
  if (at == reinterpret_cast<void*>(start)) return true;
  if (at != MAP_FAILED) munmap(at, bytes);
  return false;
}

}  // namespace

CUdeviceptr VaTable::ReserveSpan(uint64_t bytes, uint64_t alignment, CUdeviceptr hint) {
  // Below the last span, if there is room: the kernel joins spans side by side, and a process may have no
  // more than 65,530 apart.
  static CUdeviceptr last = 0;
  if (alignment < kGranularity) alignment = kGranularity;
  if (bytes + alignment < bytes) return 0;
  if (hint != 0 && hint % alignment == 0 && MapAt(hint, bytes)) return hint;
  const CUdeviceptr below = last > bytes ? (last - bytes) / alignment * alignment : 0;
  if (below != 0 && MapAt(below, bytes)) return last = below;
  void* at = MapNone(0, bytes + alignment, 0);
  if (at == MAP_FAILED) return 0;
  const auto raw = reinterpret_cast<CUdeviceptr>(at);
  const CUdeviceptr start = (raw + alignment - 1) / alignment * alignment;
  if (start > raw) munmap(at, start - raw);
  const CUdeviceptr raw_end = raw + bytes + alignment;
  if (raw_end > start + bytes) munmap(reinterpret_cast<void*>(start + bytes), raw_end - start - bytes);
  return last = start;
}

void VaTable::FreeSpan(CUdeviceptr start, uint64_t bytes) { munmap(reinterpret_cast<void*>(start), bytes); }

Region* VaTable::Find(CUdeviceptr address) {
  auto it = regions_.upper_bound(address);
  if (it == regions_.begin()) return nullptr;
  --it;
  return address < it->second.end() ? &it->second : nullptr;
}

Region* VaTable::Add(Region region) {
  const CUdeviceptr start = region.start;
  return &regions_.insert_or_assign(start, std::move(region)).first->second;
}

bool VaTable::Overlaps(CUdeviceptr start, uint64_t bytes) {
  bool found = false;
  ForEach(start, bytes, [&](Region&) { found = true; });
  return found;
}

bool VaTable::Covered(CUdeviceptr start, uint64_t bytes) {
  CUdeviceptr next = start;
  ForEach(start, bytes, [&](Region& region) {
    if (region.start <= next) next = region.end();
  });
  return next >= start + bytes;
}

void VaTable::ForEach(CUdeviceptr start, uint64_t bytes, const std::function<void(Region&)>& visit) {
  auto it = regions_.upper_bound(start);
  if (it != regions_.begin() && std::prev(it)->second.end() > start) --it;
  for (; it != regions_.end() && it->first < start + bytes; ++it) visit(it->second);
}

Reservation* VaTable::FindReservation(CUdeviceptr start, uint64_t bytes) {
  auto it = reservations_.upper_bound(start);
  if (it == reservations_.begin()) return nullptr;
  --it;
  Reservation& found = it->second;
  return start + bytes <= found.start + found.bytes && start + bytes >= start ? &found : nullptr;
}

}  // namespace gpuroom::sim
