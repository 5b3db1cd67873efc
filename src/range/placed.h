// Placed: chunks side by side and the addresses at which they are mapped: what
// can be moved to another tier. A range is one, with one window; memory that a
// program creates and maps itself (PyTorch's expandable segments) is another,
// with a window for every cuMemMap.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "range/asleep.h"
#include "range/plan.h"
#include "range/tags.h"
#include "tier/chunk.h"

namespace gpuroom {

// An address at which all chunks of a Placed are mapped, in order.
struct Window {
  CUdeviceptr va = 0;
  uint64_t writers = 0;  // devices that may read and write, a bit each
  uint64_t readers = 0;  // devices that may only read
};

struct Placed {
  Placed();  // gives it its place in the order
  // To be called when `chunks` changed.
  void CountTiers();

  bool awake() const { return asleep == nullptr; }

  std::vector<Chunk> chunks;       // in address order; none while asleep
  std::vector<Window> windows;     // empty: not mapped. While asleep nothing is mapped there
  uint64_t host_bytes = 0;         // of the chunks', those in host memory
  uint64_t peer_bytes = 0;         // and those on other GPUs
  CUdevice device = 0;             // whose memory the program takes it for
  CUcontext context = nullptr;     // current when it was made
  uint64_t order;                  // of creation, in this process: the lowest is the oldest
  std::shared_ptr<Asleep> asleep;  // null: awake
  TagId tag = kUntagged;
  Hint hint = Hint::kNone;
  bool dispensable = false;  // a sleep drops its contents, whatever it does to others
  bool in_pieces = false;    // the program asks for all sizes in such pieces, whatever they are for
  bool data = true;          // rather than a workspace; told anew when something has to give way
  bool wants_device = true;  // goes back to HBM when that has room again
  bool whole = false;        // to lie in one chunk where it can: several cannot be exported
  bool offered = false;      // the program has a handle of it for other processes
  uint32_t pins = 0;         // while not 0 it stays where it is: shared, or mapped as we cannot repeat
};

}  // namespace gpuroom
