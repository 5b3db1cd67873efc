// What is measured and what it is measured against, as pure functions: the shares
// of a range that lie in a slower tier, the plans that put them there, and the
// best speed that the links together could give.
#pragma once

#include <array>
#include <cstdint>

#include "range/plan.h"

namespace gpuroom::measure {

inline constexpr std::array<double, 9> kShares = {0, 0.005, 0.01, 0.02, 0.05, 0.10, 0.25, 0.50, 1};

// Bytes of a range of `bytes` that lie in the slower tier at `share`: whole
// granules, at least one where the share is not 0.
uint64_t SlowBytes(uint64_t bytes, double share);

// Where the slower part lies.
struct Place {
  Tier tier = Tier::kHost;
  int place = 0;  // as Chunk::place
};

// `bytes` of which `slow_bytes` lie in `slow`, the rest on `device`. Made by hand
// rather than by MakePlan, so that shares are exact and no policy has a say.
//  - Interleaved: evenly, one granule at a time.
//  - Tail: at the end, in one piece.
Plan InterleavedPlan(uint64_t bytes, uint64_t slow_bytes, int device, Place slow);
Plan TailPlan(uint64_t bytes, uint64_t slow_bytes, int device, Place slow);

// The most that `fast` and `link` can give together when `share` of the bytes lie
// behind the link: min(fast / (1 - share), link / share). Same unit as they have.
double IdealSpeed(double fast, double link, double share);

}  // namespace gpuroom::measure
