// The plan of a range: which tier each of its pieces comes from, and in chunks
// of what size. Planning is a pure function of sizes and tier states; it makes
// no driver call, so tests can try millions of plans. Policies and interleaving
// join here.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "tier/chunk.h"

namespace headroom {

// Few large chunks where a piece is in one tier: creating and mapping cost per
// chunk (docs/measurements.md). Host chunks are smaller, so that kept ones fit
// requests of many sizes.
inline constexpr uint64_t kDeviceChunkBytes = 256 * kMiB;
inline constexpr uint64_t kHostChunkBytes = 64 * kMiB;

// Consecutive bytes of a range in one tier.
struct Piece {
  Tier tier;
  uint64_t bytes;  // multiple of kGranularity
};

using Plan = std::vector<Piece>;

struct TierStates {
  uint64_t device_free = 0;  // bytes that chunks may still take
  uint64_t host_free = 0;
};

// Places `bytes` (a multiple of kGranularity): whole in the device if it fits
// there, else whole on the host, else the device's rest first and the host after
// it. kOutOfMemory when both together are too small.
Result<Plan> MakePlan(uint64_t bytes, const TierStates& states);

// Size of the next chunk of a piece with `left` bytes to go.
uint64_t ChunkBytes(Tier tier, uint64_t left);

}  // namespace headroom
