#include "range/range_table.h"

#include "base/undo.h"

namespace gpuroom {

void RangeTable::Insert(std::unique_ptr<Range>&& range) {
  const std::unique_lock lock(map_.mutex());
  Range* entered = range.get();
  AddressMap::Occupant occupant;
  occupant.bytes = entered->bytes;
  occupant.kind = kind_;
  occupant.placed = entered;
  occupant.range = std::move(range);
  Undo give_back([&] { range = std::move(occupant.range); });
  map_.Insert(entered->va, std::move(occupant));
  give_back.Dismiss();
  bytes_[static_cast<size_t>(entered->device)] += entered->bytes;
}

std::unique_ptr<Range> RangeTable::TakeOut(AddressMap::Place place) {
  std::unique_ptr<Range> range = std::move(place->second.range);
  if (kind_ == AddressMap::Kind::kRange) map_.IndexOf(*range).Remove(range.get());
  bytes_[static_cast<size_t>(range->device)] -= range->bytes;
  return range;
}

std::unique_ptr<Range> RangeTable::Take(CUdeviceptr va) {
  return TakeAt(va, [](const Range& range) { return !range.shared; });
}

std::unique_ptr<Range> RangeTable::TakeWhole(CUdeviceptr va) {
  return TakeAt(va, [](const Range&) { return true; });
}

template <typename Which>
std::unique_ptr<Range> RangeTable::TakeAt(CUdeviceptr va, Which which) {
  if (!MayHold(va)) return nullptr;
  const std::unique_lock lock(map_.mutex());
  const AddressMap::Place found = map_.StartingAt(va);
  if (found == map_.end() || found->second.kind != kind_ || !which(*found->second.range)) return nullptr;
  std::unique_ptr<Range> range = TakeOut(found);
  map_.Erase(found);
  return range;
}

std::vector<std::unique_ptr<Range>> RangeTable::TakeAll(CUdevice device) {
  return TakeIf([device](const Range& range) { return range.device == device; });
}

std::vector<std::unique_ptr<Range>> RangeTable::TakeAll(CUcontext context) {
  return TakeIf([context](const Range& range) { return range.context == context; });
}

std::unique_ptr<Range> RangeTable::TakeShared(CUdevice device, CUcontext context) {
  const std::unique_lock lock(map_.mutex());
  for (AddressMap::Place place = map_.begin(); place != map_.end(); ++place) {
    const Placed* placed = place->second.kind == kind_ ? place->second.placed : nullptr;
    if (placed == nullptr || !placed->shared || placed->device != device || placed->context != context)
      continue;
    std::unique_ptr<Range> range = TakeOut(place);
    map_.Erase(place);
    return range;
  }
  return nullptr;
}

template <typename Which>
std::vector<std::unique_ptr<Range>> RangeTable::TakeIf(Which which) {
  std::vector<std::unique_ptr<Range>> taken;
  const std::unique_lock lock(map_.mutex());
  for (AddressMap::Place next = map_.begin(); next != map_.end();) {
    if (next->second.kind != kind_ || !which(*next->second.range)) {
      ++next;
      continue;
    }
    taken.emplace_back();
    taken.back() = TakeOut(next);
    next = map_.Erase(next);
  }
  return taken;
}

Range* RangeTable::Holding(CUdeviceptr address) const {
  const AddressMap::Place place = map_.Holding(address);
  return place != map_.end() && place->second.kind == kind_ ? place->second.range.get() : nullptr;
}

bool RangeTable::Find(CUdeviceptr address, RangeInfo* out) const {
  if (!MayHold(address)) return false;
  const std::shared_lock lock(map_.mutex());
  const Range* range = Holding(address);
  if (range != nullptr) *out = range->Info();
  return range != nullptr;
}

bool RangeTable::Pin(CUdeviceptr address) {
  return With(address, [](Range& range) { ++range.pins; });
}

}  // namespace gpuroom
