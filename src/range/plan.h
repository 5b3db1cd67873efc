// The plan of a range: which tier each of its pieces comes from. Planning is a
// pure function of sizes, tier states, policy and hints; it makes no driver
// call, so tests can try millions of plans.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "tier/chunk.h"

namespace gpuroom {

enum class Policy : uint8_t {
  kGpuFirst,  // HBM while it has room, the fastest of the others for the rest
  kBalanced,  // every tier in proportion to its speed, so that all links run at once
  kCpuFirst,  // the host while it has room, then peers; HBM stays free for small data
};

// What the program, or a rule, said of one allocation. It outweighs policy and size.
enum class Hint : uint8_t {
  kNone,
  kHot,     // HBM at any size, and the last to give way
  kCold,    // placed as kCpuFirst does (peers are left to what is read more), and the first to give way
  kStream,  // read front to back once a pass: spread as kBalanced does
};

// Which memory serves an allocation.
enum class Backend : uint8_t {
  kTiers,    // chunks in tiers, by plan
  kManaged,  // the driver's managed memory (range/managed.h), which moves by itself
};

// What one tier can give, as the device sees it that will use the memory.
struct TierState {
  Tier tier = Tier::kDevice;
  int place = 0;                  // as Chunk::place
  uint64_t free = 0;              // bytes that chunks may still take
  uint64_t bytes_per_second = 0;  // at which the device's kernels read it; 0: not known, an H200's is assumed
};

struct PlanRequest {
  uint64_t bytes = 0;  // a multiple of kGranularity
  Policy policy = Policy::kGpuFirst;
  Hint hint = Hint::kNone;
  bool resident = false;      // small enough to belong in HBM under every policy, unless hinted otherwise
  uint64_t displaceable = 0;  // HBM bytes of large data that could give way to this request
  uint64_t ahead = 0;  // bytes to be asked for later: what is spread leaves them their part of each tier
  Backend backend = Backend::kTiers;  // for who allocates; plans are of tiers alone
};

// Consecutive bytes of a range in one tier.
struct Piece {
  Tier tier = Tier::kDevice;
  int place = 0;
  uint64_t bytes = 0;  // multiple of kGranularity
};

struct Plan {
  std::vector<Piece> pieces;           // in address order
  uint64_t displace = 0;               // HBM bytes that must give way first; the pieces count on them
  uint64_t device_chunk = UINT64_MAX;  // bytes of a chunk of HBM at most
};

// Places `request.bytes` in `tiers`, of which the first is the device's own; 80 at most.
//  - No tier gives more than its `free` in whole granules (the device: `free` +
//    `displace`), and what gives way finds room in the others beside this
//    request's own pieces.
//  - kHot, and `resident` without a hint: HBM, `displace` with it; what then is
//    too much, and what kGpuFirst has no HBM for, goes to the fastest of the others:
//    peers behind NVLink before the host, else by speed. Only kHot and `resident` displace.
//  - kBalanced and kStream: each tier's bytes are within one granule of the exact share. With
//    `ahead` it is the share that `bytes` and `ahead` together would have, as far as all tiers have
//    room for them, and two granules.
//  - Of a range in several tiers the pieces alternate: at every multiple of
//    kGranularity each tier's share so far is less than one granule away from
//    its share of the whole (docs/measurements.md: the links then run at once).
//    Neighbours in one tier are one piece.
//  - Under kBalanced, data that belongs in HBM comes in some 32 chunks there, so that a part of it can give
//  way.
//  - The same input gives the same plan.
// kOutOfMemory when all together are too small; nothing that gives way could help
// then. kInvalidArgument for `bytes` that are no multiple of kGranularity. Takes some
// nanoseconds a granule in several tiers; a plan in one tier allocates its piece and no more.
Result<Plan> MakePlan(const PlanRequest& request, const std::vector<TierState>& tiers);

// Size of the next chunk of a piece with `left` bytes to go: few large chunks,
// since creating and mapping cost per chunk, but small enough that little is
// moved in vain where a chunk gives way (`device_chunk`), and that kept host
// chunks fit requests of many sizes.
uint64_t ChunkBytes(Tier tier, uint64_t left, uint64_t device_chunk);

// Of fewer bytes memory is rather a library's workspace than data.
inline constexpr uint64_t kDataBytes = 64 * kMiB;
// One byte of data in so many is the oldest, which is first to lie outside HBM, and whole: it is often read
// in part, as embeddings are.
inline constexpr uint64_t kOldestPart = 16;
inline constexpr uint64_t kHostChunkBytes = 512 * kMiB;
// For a device whose HBM budget is `budget` bytes.
uint64_t DeviceChunkBytes(uint64_t budget);

}  // namespace gpuroom
