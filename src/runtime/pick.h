// What moves: large data that gives way to what is asked for now, and what goes back to HBM.
#pragma once

#include "range/chunk_source.h"
#include "range/mover.h"
#include "range/placed_index.h"

namespace gpuroom {

// Which data without a hint gives way.
enum class Yield : uint8_t {
  kOldest,  // the oldest: what is used most was often asked for last
  kEvenly,  // after the very oldest a part of each, so that where all is read in turn both memories are read
            // at once
};

// The chunks of a device that make up `bytes` of HBM, coldest first, and where they find room: on peers, if
// `with_peers`, or on the host. Looks at no more than it picks, but for kEvenly, which weighs all against
// each other.
std::vector<Part> PickVictims(PlacedIndex& index, const ChunkSource& source, uint64_t bytes, bool with_peers,
                              Yield yield);

// The chunks outside HBM of what belongs there, the youngest first, `bytes` at most, and of these no
// more than the one that makes up `slice`.
std::vector<Part> PickReturns(PlacedIndex& index, uint64_t bytes, uint64_t slice = UINT64_MAX);

}  // namespace gpuroom
