// What lies at an address, among all that could move of a device's memory.
#pragma once

#include <vector>

#include "range/mover.h"

namespace gpuroom {

// Where a move's address leads to.
struct Target {
  Placed* placed = nullptr;
  CUdeviceptr va = 0;
};

inline Target FindTarget(const std::vector<Placed*>& all, CUdeviceptr address) {
  for (Placed* placed : all) {
    const uint64_t bytes = BytesOf(*placed);
    for (const Window& window : placed->windows) {
      if (address - window.va < bytes) return {placed, window.va};
    }
  }
  return {};
}

}  // namespace gpuroom
