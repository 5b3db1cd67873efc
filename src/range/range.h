// Range: a reserved span of device addresses with chunks mapped side by side.
// RangeBuilder makes and dismantles ranges of one device; it owns nothing else.
//
// A range is built all or nothing: what was done is undone when a step fails.
// Dismantling goes step by step and remembers how far it came, so that a driver
// call that fails can be tried again without losing memory. Every chunk gets the
// same access, devices only (docs/driver-notes.md: mixed access breaks memset).
//
// One thread works on a Range at a time; builders may be shared by threads.
#pragma once

#include <atomic>
#include <memory>

#include "base/mutex.h"
#include "range/plan.h"
#include "tier/device_tier.h"
#include "tier/host_tier.h"

namespace headroom {

// What pointer queries and reports need to know of a range.
struct RangeInfo {
  CUdeviceptr va = 0;       // first address; 0 when the reservation is gone
  uint64_t bytes = 0;       // reserved, a multiple of kGranularity
  uint64_t requested = 0;   // what the program asked for
  uint64_t host_bytes = 0;  // of `bytes`, those in host chunks
  CUcontext context = nullptr;  // current when it was made, as pointer attributes report
  CUdevice device = 0;
};

struct Range : RangeInfo {
  uint64_t mapped = 0;        // bytes mapped from va on; 0 once unmapped
  std::vector<Chunk> chunks;  // in address order
};

class RangeBuilder {
 public:
  RangeBuilder(const Driver& driver, DeviceTier& device, HostTier& host);

  // A mapped, accessible range for `requested` bytes (more than zero), placed by
  // MakePlan. Does not synchronise. Blocks while host chunks are created (5 GB/s).
  Result<std::unique_ptr<Range>> Build(uint64_t requested, CUcontext context);

  // Takes away the addresses. No work on the GPU may use them any more: the caller
  // has waited. On failure the range is whole and usable as before.
  Status Unmap(Range& range);
  // Gives chunks and addresses of an unmapped range back. On failure call again.
  Status Discard(Range& range);
  // Discards later what could not be discarded now. Called again by every Build.
  void Scrap(std::unique_ptr<Range> range);
  void RetryScrapped();

  // Lets `peer` access this device's ranges, those in `existing` and later ones.
  Status AllowPeer(CUdevice peer, const std::vector<Range*>& existing);

 private:
  Status Fill(Range& range, const Plan& plan);
  Status AddChunk(Range& range, Tier tier, uint64_t bytes);
  Status SetAccess(const Range& range);
  TierStates States() const;

  const Driver& driver_;
  DeviceTier& device_;
  HostTier& host_;
  std::atomic<uint64_t> accessors_;  // bit per CUdevice
  Mutex scrap_mutex_;
  std::vector<std::unique_ptr<Range>> scrap_ HEADROOM_GUARDED_BY(scrap_mutex_);
};

}  // namespace headroom
