#include "range/range_table.h"

namespace gpuroom {

void RangeTable::Insert(std::unique_ptr<Range>&& range) {
  std::unique_lock lock(mutex_);
  const CUdeviceptr va = range->va;
  window_.Include(va, range->bytes);
  ranges_.emplace(va, std::move(range));
}

std::unique_ptr<Range> RangeTable::Take(CUdeviceptr va) {
  if (!MayHold(va)) return nullptr;
  std::unique_lock lock(mutex_);
  const auto found = ranges_.find(va);
  if (found == ranges_.end()) return nullptr;
  std::unique_ptr<Range> range = std::move(found->second);
  ranges_.erase(found);
  return range;
}

std::vector<std::unique_ptr<Range>> RangeTable::TakeAll(CUdevice device) {
  return TakeIf([device](const Range& range) { return range.device == device; });
}

std::vector<std::unique_ptr<Range>> RangeTable::TakeAll(CUcontext context) {
  return TakeIf([context](const Range& range) { return range.context == context; });
}

template <typename Which>
std::vector<std::unique_ptr<Range>> RangeTable::TakeIf(Which which) {
  std::vector<std::unique_ptr<Range>> taken;
  std::unique_lock lock(mutex_);
  for (auto next = ranges_.begin(); next != ranges_.end();) {
    if (!which(*next->second)) {
      ++next;
      continue;
    }
    taken.push_back(std::move(next->second));
    next = ranges_.erase(next);
  }
  return taken;
}

Range* RangeTable::Holding(CUdeviceptr address) const {
  auto next = ranges_.upper_bound(address);
  if (next == ranges_.begin()) return nullptr;
  Range* range = std::prev(next)->second.get();
  return address - range->va < range->bytes ? range : nullptr;
}

bool RangeTable::Find(CUdeviceptr address, RangeInfo* out) const {
  if (!MayHold(address)) return false;
  std::shared_lock lock(mutex_);
  const Range* range = Holding(address);
  if (range != nullptr) *out = range->Info();
  return range != nullptr;
}

uint64_t RangeTable::BytesOf(CUdevice device) const {
  std::shared_lock lock(mutex_);
  uint64_t sum = 0;
  for (const auto& [va, range] : ranges_) sum += range->device == device ? range->bytes : 0;
  return sum;
}

bool RangeTable::Pin(CUdeviceptr address) {
  if (!MayHold(address)) return false;
  std::unique_lock lock(mutex_);
  Range* range = Holding(address);
  if (range != nullptr) ++range->pins;
  return range != nullptr;
}

}  // namespace gpuroom
