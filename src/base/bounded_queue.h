// BoundedQueue: first in, first out, for a number of entries that is known before the work begins. Reset has
// all the memory that it will need, so that nothing afterwards can fail for want of memory.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace gpuroom {

template <typename T>
class BoundedQueue {
 public:
  // Empties it, and has room for `capacity` entries from now on. May throw std::bad_alloc.
  void Reset(size_t capacity) {
    slots_.assign(capacity, T());
    Clear();
  }
  void Clear() { first_ = count_ = 0; }

  bool empty() const { return count_ == 0; }
  size_t size() const { return count_; }
  const T& front() const { return slots_[first_]; }
  // The queue has room.
  void Push(T entry) { slots_[(first_ + count_++) % slots_.size()] = std::move(entry); }
  // The queue is not empty.
  T Pop() {
    T entry = std::move(slots_[first_]);
    first_ = (first_ + 1) % slots_.size();
    --count_;
    return entry;
  }

 private:
  std::vector<T> slots_;
  size_t first_ = 0;
  size_t count_ = 0;
};

}  // namespace gpuroom
