// PlacedIndex: all that one device has given out and that could move, in the orders in which it is looked
// for, so that no question looks at all of it: what gives way first, what goes back to HBM first, how much of
// it may give way, and how much is asleep.
//
// Whoever changes chunks, windows, pins, hint, wants_device or asleep of a Placed that is in an index calls
// Update afterwards, under the same lock, which is AddressMap's. Most of what is allocated is freed before
// anybody looks for something to move: Update only lists what changed, and the orders are brought up to date
// when they are read, or when the list is long. The figures may be read without the lock.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <vector>

#include "range/placed.h"

namespace gpuroom {

// Whether it may be moved out of HBM for another's sake.
bool MayGiveWay(const Placed& placed);

class PlacedIndex {
 public:
  // What the indexes of all devices count together.
  struct Totals {
    std::atomic<size_t> asleep{0};  // how many sleep
    std::atomic<size_t> away{0};    // of memory that the program mapped itself, how many are Placed::away()
  };
  // By a number that ascends in the order that the name says.
  using Order = std::map<uint64_t, Placed*>;

  explicit PlacedIndex(Totals& totals) : totals_(totals) {}
  PlacedIndex(const PlacedIndex&) = delete;
  PlacedIndex& operator=(const PlacedIndex&) = delete;

  // Enters it, or what has changed of it. Entering throws std::bad_alloc where the process has no memory for
  // it, and then it is in none of the orders; a change needs no memory.
  void Update(Placed* placed);
  void Remove(Placed* placed);

  const Order& by_age() { return Settled(by_age_); }
  // Of what may give way, that with bytes in HBM and the rest; the coldest first, of those alike data before
  // workspaces, and the oldest first.
  const Order& givers() { return Settled(givers_); }
  const Order& given() { return Settled(given_); }
  // What belongs in HBM and has bytes outside it, in the same order: the last goes back first.
  const Order& returners() { return Settled(returners_); }

  // Tells data from workspaces among memory that comes in pieces of one size (expandable segments), of which
  // size says nothing: what is made first and still lives is often a workspace, so that the oldest pieces
  // count as such.
  void TellWorkspaces();

  // Bytes in HBM of what may give way.
  uint64_t giving_bytes() {
    Settle();
    return giving_bytes_;
  }
  // Without the lock: bytes that are asleep.
  uint64_t asleep_bytes() const { return asleep_bytes_.load(std::memory_order_relaxed); }
  // Without the lock: bytes of host memory that hold the contents of what is asleep.
  uint64_t backup_bytes() const { return backup_bytes_.load(std::memory_order_relaxed); }
  // Without the lock: false means that nothing which belongs in HBM has bytes outside it.
  bool may_have_returners() const { return outside_.load(std::memory_order_relaxed) != 0; }

 private:
  // The nodes that one Placed can need in all orders at once. It has so many from the beginning, in the
  // orders or in spare_.
  static constexpr size_t kNodes = 4;
  // Nodes that are kept when a Placed leaves, so that the next one needs none from the heap.
  static constexpr size_t kKept = 16 * kNodes;
  // How many may have changed since the orders were brought up to date.
  static constexpr size_t kUnsettled = 64;

  // A place in an order; null: in none.
  struct Slot {
    bool operator==(const Slot&) const = default;

    Order* order = nullptr;
    uint64_t key = 0;
  };
  std::array<Slot, kNodes> SlotsOf(const Placed& placed, const IndexEntry& entry);

  const Order& Settled(const Order& order) {
    Settle();
    return order;
  }
  void Settle() {
    while (oldest_unsettled_ != nullptr) SettleOldest();
  }
  void SettleOldest();
  void List(Placed* placed);
  void Unlist(Placed* placed);
  void MakeNodes();
  void DropNodes();
  void Change(Placed* placed, const IndexEntry& next);
  void Shift(const Slot& from, const Slot& to, Placed* placed);
  void Count(Placed* placed, const IndexFigures& after);

  Totals& totals_;
  Order by_age_;
  Order givers_;
  Order given_;
  Order returners_;
  Order pieces_;      // of memory in pieces that may give way, those whose size says nothing; by age
  Order workspaces_;  // of these, those that count as workspaces
  std::vector<Order::node_type> spare_;  // nodes that are in no order; has room for all nodes
  size_t nodes_ = 0;                     // in the orders, but for workspaces_, and in spare_
  size_t entered_ = 0;                   // how many Placed
  Placed* oldest_unsettled_ = nullptr;   // the list of those that changed, linked by Placed::indexed
  Placed* newest_unsettled_ = nullptr;
  size_t unsettled_ = 0;
  uint64_t giving_bytes_ = 0;
  std::atomic<uint64_t> asleep_bytes_{0};
  std::atomic<uint64_t> backup_bytes_{0};
  std::atomic<size_t> outside_{0};  // how many have IndexFigures::outside
};

}  // namespace gpuroom
