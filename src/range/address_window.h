// AddressWindow: the span that holds every address of a table, so that a look-up of an
// address that is nowhere near costs two comparisons and no lock. Grows only. Readers
// are any threads; writers hold the table's lock.
#pragma once

#include <cuda.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace gpuroom {

class AddressWindow {
 public:
  void Include(CUdeviceptr va, uint64_t bytes) {
    const CUdeviceptr end = va + bytes;
    const uint64_t span = span_.load(std::memory_order_relaxed);
    const CUdeviceptr low = span == 0 ? va : std::min(low_.load(std::memory_order_relaxed), va);
    const CUdeviceptr high = span == 0 ? end : std::max(low_.load(std::memory_order_relaxed) + span, end);
    // A reader between the two stores sees a window that is too wide or that lacks
    // only the memory whose address nobody has been told yet.
    span_.store(high - low, std::memory_order_release);
    low_.store(low, std::memory_order_release);
  }

  // False: nothing in the table holds `address`.
  bool MayHold(CUdeviceptr address) const {
    // In this order: a new low_ with an old span_ would leave out the highest addresses.
    const CUdeviceptr low = low_.load(std::memory_order_acquire);
    return address - low < span_.load(std::memory_order_acquire);
  }

 private:
  std::atomic<CUdeviceptr> low_{0};
  std::atomic<uint64_t> span_{0};
};

}  // namespace gpuroom
