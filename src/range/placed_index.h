// PlacedIndex: all that one device has given out and that could move, in the orders in which it is looked
// for, so that no question looks at all of it: what gives way first, what goes back to HBM first, how much of
// it may give way, and how much is asleep.
//
// Of a Placed it remembers what it has counted (Placed::indexed). Whoever changes chunks, windows, pins,
// hint, wants_device or asleep of a Placed that is in an index calls Update afterwards, under the same lock.
// The lock is AddressMap's; the figures may be read without it.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>

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

  const Order& by_age() const { return by_age_; }
  // Of what may give way, that with bytes in HBM and the rest; the coldest first, of those alike data before
  // workspaces, and the oldest first.
  const Order& givers() const { return givers_; }
  const Order& given() const { return given_; }
  // What belongs in HBM and has bytes outside it, in the same order: the last goes back first.
  const Order& returners() const { return returners_; }

  // Tells data from workspaces among memory that comes in pieces of one size (expandable segments), of which
  // size says nothing: what is made first and still lives is often a workspace, so that the oldest pieces
  // count as such.
  void TellWorkspaces();

  // Bytes in HBM of what may give way, and bytes that are asleep.
  uint64_t giving_bytes() const { return giving_bytes_.load(std::memory_order_relaxed); }
  uint64_t asleep_bytes() const { return asleep_bytes_.load(std::memory_order_relaxed); }
  bool has_returners() const { return returning_.load(std::memory_order_relaxed) != 0; }

 private:
  // The nodes that one Placed can need in all orders at once. It has so many from the beginning, here or in
  // spare_.
  static constexpr size_t kNodes = 4;

  void MakeNodes();
  void Put(Order* order, uint64_t key, Placed* placed);
  void TakeFrom(Order* order, uint64_t key);
  void Leave(Placed* placed, const IndexEntry& next);
  void Join(Placed* placed);
  void Count(const IndexEntry& change, bool add);

  Totals& totals_;
  Order by_age_;
  Order givers_;
  Order given_;
  Order returners_;
  Order pieces_;      // of memory in pieces that may give way, those whose size says nothing; by age
  Order workspaces_;  // of these, those that count as workspaces
  Order spare_;       // nodes that are in no order, by a number that says nothing
  uint64_t next_spare_ = 0;
  std::atomic<uint64_t> giving_bytes_{0};
  std::atomic<uint64_t> asleep_bytes_{0};
  std::atomic<size_t> returning_{0};
};

}  // namespace gpuroom
