// SegmentSource: where a pool's memory comes from and goes back to. A front
// implements it over ranges and the driver's own allocations.
//
// Calls are slow and rare, may come from any thread that calls the pool, and
// several at once. During Destroy the pool holds the lock that keeps captures from
// beginning, and else none but in its destructor, which nobody may be racing with
// anyway; so the source must not call the pool.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "base/status.h"

namespace gpuroom {

class SegmentSource {
 public:
  enum class Where {
    kResident,  // in HBM, or not at all
    kAny,       // other tiers are welcome
  };

  virtual ~SegmentSource() = default;

  // `bytes`, a multiple of 2 MiB, at an address that is one too. The memory is
  // first used on `stream`, or after all work that `stream` has now: what the
  // source itself submits (a prefetch) goes there. May be called while
  // streams are being captured. kOutOfMemory: there is none of that kind.
  virtual Result<CUdeviceptr> Create(uint64_t bytes, CUstream stream, Where where) = 0;

  // Gives a segment back; may wait for the device. Nothing uses it any more; the pool made sure. On
  // failure the segment is as it was, and the pool goes on using it.
  virtual Status Destroy(CUdeviceptr va) = 0;
};

}  // namespace gpuroom
