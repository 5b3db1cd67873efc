// AddressMap: what lies at an address of this process: a range, another process's range that is open here,
// managed memory, or memory that the program mapped itself; and one PlacedIndex for each device. RangeTable,
// ManagedTable, HandleTable and ImportTable enter what they own. What is not here is the driver's own, of
// which pointer_table.h knows sizes alone.
//
// One ordered map: 100,000 allocations are 17 steps, memory of any size and alignment is one entry (in a
// radix tree by 2 MiB pages 64 GiB would be 32,768), and an address that is nowhere near costs two
// comparisons and no lock.
//
// Any thread. Functions that do not say otherwise are called with mutex() held.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "range/address_window.h"
#include "range/managed.h"
#include "range/placed_index.h"
#include "range/range.h"

namespace gpuroom {

class AddressMap {
 public:
  enum class Kind : uint8_t { kRange, kImport, kManaged, kMapping };
  static constexpr size_t kKinds = 4;
  static constexpr size_t kMaxDevices = 64;

  struct Occupant {
    uint64_t bytes = 0;
    Kind kind = Kind::kRange;
    Placed* placed = nullptr;               // of all but managed memory
    std::unique_ptr<Range> range;           // of ranges and imports, which are owned here
    std::unique_ptr<ManagedBlock> managed;  // of managed memory, the same
  };
  using Place = std::map<CUdeviceptr, Occupant>::iterator;

  AddressMap();

  std::shared_mutex& mutex() { return mutex_; }
  // Without the lock: false means that nothing of the kind holds `address`.
  bool MayHold(Kind kind, CUdeviceptr address) const { return windows_[Number(kind)].MayHold(address); }

  // Enters what begins at `va`, in the place of what has been there. Where the host has no memory for the
  // entry this throws std::bad_alloc, and `occupant` is as before.
  void Insert(CUdeviceptr va, Occupant&& occupant);
  // What holds `address`, or begins there; end() where nothing does.
  Place Holding(CUdeviceptr address);
  Place StartingAt(CUdeviceptr va) { return map_.find(va); }
  Place AtOrAfter(CUdeviceptr va) { return map_.lower_bound(va); }
  Place begin() { return map_.begin(); }
  Place end() { return map_.end(); }
  Place Erase(Place place) { return map_.erase(place); }

  PlacedIndex& IndexOf(CUdevice device) { return *indexes_[static_cast<size_t>(device)]; }
  PlacedIndex& IndexOf(const Placed& placed) { return IndexOf(placed.device); }
  // Without the lock, as PlacedIndex's figures.
  const PlacedIndex::Totals& totals() const { return totals_; }

  // All below take the lock; other threads wait while `use` runs, and the index knows afterwards what it
  // changed.

  // Runs `use(placed, va)` on what could move and holds `address`; `va` is where it is mapped. False: nothing
  // does.
  template <typename Use>
  bool WithPlaced(CUdeviceptr address, Use use) {
    const std::unique_lock lock(mutex_);
    const auto [placed, va] = PlacedAt(address);
    if (placed == nullptr) return false;
    use(*placed, va);
    IndexOf(*placed).Update(placed);
    return true;
  }
  // Runs `use(index)` on the index of a device, which calls Update for what it changes.
  template <typename Use>
  void WithIndex(CUdevice device, Use use) {
    const std::unique_lock lock(mutex_);
    use(IndexOf(device));
  }
  // Runs `use` on all that could move, the oldest first.
  template <typename Use>
  void WithAll(Use use) {
    const std::unique_lock lock(mutex_);
    const std::vector<Placed*> all = AllByAge();
    use(all);
    for (Placed* placed : all) IndexOf(*placed).Update(placed);
  }

  // What could move and holds `address`, and the address at which it is mapped there; null: nothing does.
  std::pair<Placed*, CUdeviceptr> PlacedAt(CUdeviceptr address);
  // What could move and has that Placed::order; null: nothing has.
  Placed* PlacedOfOrder(uint64_t order);

 private:
  static size_t Number(Kind kind) { return static_cast<size_t>(kind); }
  std::vector<Placed*> AllByAge();

  std::shared_mutex mutex_;
  std::map<CUdeviceptr, Occupant> map_;
  std::array<AddressWindow, kKinds> windows_;
  PlacedIndex::Totals totals_;
  std::array<std::unique_ptr<PlacedIndex>, kMaxDevices> indexes_;
};

}  // namespace gpuroom
