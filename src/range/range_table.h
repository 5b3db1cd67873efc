// RangeTable: the live ranges of this process, or those of others that are open here, by address. Looking an
// address up costs two comparisons when no range is near it and a shared lock when one is, since pointer
// queries are frequent. Any thread.
//
// A Range stays valid until Take removes it; programs that query memory while
// they free it are in error with the driver too.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "range/address_map.h"

namespace gpuroom {

class RangeTable {
 public:
  // `kind`: kRange or kImport. `map` outlives this object.
  RangeTable(AddressMap& map, AddressMap::Kind kind) : map_(map), kind_(kind) {}

  // Where the host has no memory for the entry, this throws std::bad_alloc, and the caller still has the
  // range.
  void Insert(std::unique_ptr<Range>&& range);
  // The program's range that begins at `va`, removed from the table; null if none does.
  std::unique_ptr<Range> Take(CUdeviceptr va);
  // The same, also of one that small allocations share (Placed::shared).
  std::unique_ptr<Range> TakeWhole(CUdeviceptr va);
  // All ranges of a device, removed from the table.
  std::vector<std::unique_ptr<Range>> TakeAll(CUdevice device);
  // All that were made in a context.
  std::vector<std::unique_ptr<Range>> TakeAll(CUcontext context);
  // One of a device and a context that small allocations share; null: there is none. Looks at all ranges.
  std::unique_ptr<Range> TakeShared(CUdevice device, CUcontext context);
  // Copies what pointer queries need of the range that holds `address`.
  bool Find(CUdeviceptr address, RangeInfo* out) const;
  // What lies at `address` stays where it is from now on. False: no range does.
  bool Pin(CUdeviceptr address);
  // Runs `use` on the range that holds `address`, or on the one of that Placed::order, which may change it;
  // other threads wait. False: there is none.
  template <typename Use>
  bool With(CUdeviceptr address, Use use) {
    if (!MayHold(address)) return false;
    const std::unique_lock lock(map_.mutex());
    return Run(Holding(address), use);
  }
  template <typename Use>
  bool WithOrder(uint64_t order, Use use) {
    const std::unique_lock lock(map_.mutex());
    Placed* placed = map_.PlacedOfOrder(order);
    // Only ranges are in no pieces.
    return placed != nullptr && !placed->in_pieces && Run(static_cast<Range*>(placed), use);
  }
  // Bytes of the ranges of a device.
  uint64_t BytesOf(CUdevice device) const { return bytes_[static_cast<size_t>(device)].load(); }
  // Cheap: false means that no range holds `address`.
  bool MayHold(CUdeviceptr address) const { return map_.MayHold(kind_, address); }

  // The ranges of a device while `use` runs, which may change them; other threads wait. Looks at all of them.
  template <typename Use>
  void WithRangesOf(CUdevice device, Use use) {
    const std::unique_lock lock(map_.mutex());
    std::vector<Range*> ranges;
    for (auto& [va, occupant] : map_) {
      if (occupant.kind == kind_ && occupant.placed->device == device) ranges.push_back(occupant.range.get());
    }
    use(ranges);
    for (Range* range : ranges) Update(range);
  }

 private:
  template <typename Use>
  bool Run(Range* range, Use use) {
    if (range == nullptr) return false;
    use(*range);
    Update(range);
    return true;
  }
  void Update(Range* range) {
    if (kind_ == AddressMap::Kind::kRange) map_.IndexOf(*range).Update(range);
  }
  template <typename Which>
  std::vector<std::unique_ptr<Range>> TakeIf(Which which);
  template <typename Which>
  std::unique_ptr<Range> TakeAt(CUdeviceptr va, Which which);
  std::unique_ptr<Range> TakeOut(AddressMap::Place place);
  Range* Holding(CUdeviceptr address) const;

  AddressMap& map_;
  const AddressMap::Kind kind_;
  std::array<std::atomic<uint64_t>, AddressMap::kMaxDevices> bytes_{};  // written under the map's lock
};

}  // namespace gpuroom
