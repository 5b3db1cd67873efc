// RangeTable: the live ranges of this process by address. Looking an address up
// costs two comparisons when no range is near it and a shared lock when one is,
// since pointer queries are frequent. Any thread.
//
// A Range stays valid until Take removes it; programs that query memory while
// they free it are in error with the driver too.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "range/address_window.h"
#include "range/range.h"

namespace gpuroom {

class RangeTable {
 public:
  // Where the host has no memory for the entry, this throws std::bad_alloc, and the caller still has the
  // range.
  void Insert(std::unique_ptr<Range>&& range);
  // The range that begins at `va`, removed from the table; null if none does.
  std::unique_ptr<Range> Take(CUdeviceptr va);
  // All ranges of a device, removed from the table.
  std::vector<std::unique_ptr<Range>> TakeAll(CUdevice device);
  // All that were made in a context.
  std::vector<std::unique_ptr<Range>> TakeAll(CUcontext context);
  // Copies what pointer queries need of the range that holds `address`.
  bool Find(CUdeviceptr address, RangeInfo* out) const;
  // What lies at `address` stays where it is from now on. False: no range does.
  bool Pin(CUdeviceptr address);
  // Runs `use` on the range that holds `address`, or on the one of that Placed::order
  // (slow), which may change it; other threads wait. False: there is none.
  template <typename Use>
  bool With(CUdeviceptr address, Use use) {
    if (!MayHold(address)) return false;
    std::unique_lock lock(mutex_);
    Range* range = Holding(address);
    if (range != nullptr) use(*range);
    return range != nullptr;
  }
  template <typename Use>
  bool WithOrder(uint64_t order, Use use) {
    std::unique_lock lock(mutex_);
    for (const auto& [va, range] : ranges_) {
      if (range->order != order) continue;
      use(*range);
      return true;
    }
    return false;
  }
  // Bytes of the ranges of a device.
  uint64_t BytesOf(CUdevice device) const;
  // Cheap: false means that no range holds `address`.
  bool MayHold(CUdeviceptr address) const { return window_.MayHold(address); }

  // The ranges of a device while `use` runs, which may change them; other threads wait.
  template <typename Use>
  void WithRangesOf(CUdevice device, Use use) {
    std::unique_lock lock(mutex_);
    std::vector<Range*> ranges;
    for (const auto& [va, range] : ranges_) {
      if (range->device == device) ranges.push_back(range.get());
    }
    use(ranges);
  }
  // The same for all devices.
  template <typename Use>
  void WithAll(Use use) {
    std::unique_lock lock(mutex_);
    std::vector<Range*> ranges;
    ranges.reserve(ranges_.size());
    for (const auto& [va, range] : ranges_) ranges.push_back(range.get());
    use(ranges);
  }

 private:
  template <typename Which>
  std::vector<std::unique_ptr<Range>> TakeIf(Which which);
  Range* Holding(CUdeviceptr address) const;

  mutable std::shared_mutex mutex_;
  std::map<CUdeviceptr, std::unique_ptr<Range>> ranges_;
  AddressWindow window_;
};

}  // namespace gpuroom
