// Mover: replaces chunks by chunks of another tier at the addresses where they are
// mapped, contents included. Copies run on streams of its own, several in
// flight, while the CPU maps and unmaps others.
//
// The caller sees to it that nothing uses the memory meanwhile: no kernel or
// copy in flight, none submitted until Run returns, no capture in progress.
//
// Of a host and a device chunk it is always the device chunk that is mapped a second time for the
// copy: mapping host memory costs 10 ms a GiB, device memory 1 (docs/measurements.md).
#pragma once

#include <array>
#include <deque>
#include <vector>

#include "base/status.h"
#include "driver/driver.h"
#include "range/chunk_source.h"
#include "range/placed.h"

namespace headroom {

// One run of adjacent chunks of a Placed, and where it is to go.
struct Relocation {
  // In:
  std::vector<Chunk> from;        // in address order, of one tier
  std::vector<Window> windows;    // the addresses of the first of `from`; at least one
  ChunkSource* source = nullptr;  // gives the new chunks and takes the old ones
  Tier tier = Tier::kHost;        // where to
  int place = 0;                  // as Chunk::place
  // Out:
  std::vector<Chunk> now;  // what is mapped there now: `from` unless `status` is ok
  Status status;           // kOutOfMemory: no room there. Any failure leaves the bytes where they were
};

}  // namespace headroom
