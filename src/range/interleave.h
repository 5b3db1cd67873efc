// Interleaving: the order in which the granules of a range take turns among its
// tiers, so that whatever stretch of it a kernel reads, all links carry their
// share. Pure; integers alone, so that every machine gives the same order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "range/plan.h"

namespace gpuroom {

// What one tier gives to a range.
struct Share {
  const TierState* tier = nullptr;
  uint64_t granules = 0;  // of kGranularity; not 0 for Interleave
};

// Appends the pieces of `count` shares (at least one; at most 2^42 granules
// together), neighbours in one tier merged. After any number of granules each
// share's part is less than one granule away from its exact part: R. Tijdeman,
// "The chairman assignment problem", Discrete Mathematics 32 (1980) 323-330.
void Interleave(const Share* shares, size_t count, std::vector<Piece>* pieces);

}  // namespace gpuroom
