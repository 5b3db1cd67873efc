#include "range/address_map.h"

#include <algorithm>

#include "base/undo.h"

namespace gpuroom {

AddressMap::AddressMap() {
  for (std::unique_ptr<PlacedIndex>& index : indexes_) index = std::make_unique<PlacedIndex>(totals_);
}

void AddressMap::Insert(CUdeviceptr va, Occupant&& occupant) {
  windows_[Number(occupant.kind)].Include(va, occupant.bytes);
  const auto [place, fresh] = map_.try_emplace(va);
  if (!fresh && place->second.range != nullptr)
    IndexOf(*place->second.range).Remove(place->second.range.get());
  Undo take_back([&, at = place] { map_.erase(at); });
  if (occupant.kind == Kind::kRange) IndexOf(*occupant.placed).Update(occupant.placed);
  take_back.Dismiss();
  place->second = std::move(occupant);
}

AddressMap::Place AddressMap::Holding(CUdeviceptr address) {
  const Place next = map_.upper_bound(address);
  if (next == map_.begin()) return map_.end();
  const Place place = std::prev(next);
  return address - place->first < place->second.bytes ? place : map_.end();
}

std::pair<Placed*, CUdeviceptr> AddressMap::PlacedAt(CUdeviceptr address) {
  const Place place = Holding(address);
  if (place == map_.end() || place->second.placed == nullptr) return {};
  Placed* placed = place->second.placed;
  // Neither what another process lends nor what counts as a small allocation can move: no index has it.
  return placed->indexed.entered ? std::pair(placed, place->first) : std::pair<Placed*, CUdeviceptr>();
}

Placed* AddressMap::PlacedOfOrder(uint64_t order) {
  for (const std::unique_ptr<PlacedIndex>& index : indexes_) {
    const auto found = index->by_age().find(order);
    if (found != index->by_age().end()) return found->second;
  }
  return nullptr;
}

std::vector<Placed*> AddressMap::AllByAge() {
  std::vector<Placed*> all;
  for (const std::unique_ptr<PlacedIndex>& index : indexes_) {
    for (const auto& [order, placed] : index->by_age()) all.push_back(placed);
  }
  std::sort(all.begin(), all.end(), [](const Placed* a, const Placed* b) { return a->order < b->order; });
  return all;
}

}  // namespace gpuroom
