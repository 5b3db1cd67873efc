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

struct Placed;

// What follows is what an index (placed_index.h) remembers of a Placed. Its places in the orders:
struct IndexEntry {
  bool present = false;
  bool gives = false;    // may give way
  bool returns = false;  // belongs in HBM and has bytes elsewhere
  bool piece = false;    // may give way, and its size does not say whether it is data
  uint64_t key = 0;      // its place among those that give way or go back
  uint64_t in_hbm = 0;   // bytes
};

// What it adds to the figures that are read without a lock.
struct IndexFigures {
  bool asleep = false;
  bool away = false;          // Placed::away(), of memory that the program mapped itself
  bool outside = false;       // belongs in HBM and has bytes elsewhere, whether or not it can be moved
  uint64_t asleep_bytes = 0;  // all of it, if it is asleep
  uint64_t backup_bytes = 0;  // of its contents in host memory, if it is asleep
};

// Both. A copy of the Placed is in no index.
struct Indexed {
  Indexed() = default;
  Indexed(const Indexed&) {}
  Indexed& operator=(const Indexed&) { return *this; }  // copies nothing NOLINT(bugprone-unhandled*)

  bool entered = false;
  IndexFigures figures;
  IndexEntry entry;        // as of when it was settled last
  bool unsettled = false;  // in the list of those that changed since, between these two
  Placed* before = nullptr;
  Placed* after = nullptr;
};

struct Placed {
  Placed();  // gives it its place in the order
  // To be called when `chunks` changed.
  void CountTiers();

  // What the program or its user says of it from now on. Moves nothing by itself.
  void SetHint(Hint said) {
    hint = said;
    wants_device = said == Hint::kNone || said == Hint::kHot;
  }

  bool awake() const { return asleep == nullptr; }
  bool spilled() const { return host_bytes + peer_bytes > 0; }
  // Whether the driver's answers would show that it is no single piece of HBM.
  bool away() const { return spilled() || !awake() || chunks.size() > 1; }

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
  bool in_pieces = false;    // the program made and mapped it, and does so with all sizes
  bool shared = false;       // a range that several small allocations share: the program knows no such one
  bool data = true;          // rather than a workspace; the index tells (placed_index.h)
  bool wants_device = true;  // goes back to HBM when that has room again
  bool whole = false;        // to lie in one chunk where it can: several cannot be exported
  bool offered = false;      // the program has a handle of it for other processes
  uint32_t pins = 0;         // while not 0 it stays where it is: shared, or mapped as we cannot repeat
  Indexed indexed;
};

}  // namespace gpuroom
