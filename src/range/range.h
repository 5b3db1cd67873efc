// Range: a reserved span of device addresses with chunks mapped side by side.
// RangeBuilder makes and dismantles the ranges of one device.
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
#include "range/chunk_source.h"

namespace headroom {

// What pointer queries and reports need to know of a range.
struct RangeInfo {
  CUdeviceptr va = 0;           // first address; 0 when the reservation is gone
  uint64_t bytes = 0;           // reserved, a multiple of kGranularity
  uint64_t requested = 0;       // what the program asked for
  uint64_t host_bytes = 0;      // of `bytes`, those in host chunks
  CUcontext context = nullptr;  // current when it was made, as pointer attributes report
  CUdevice device = 0;
};

struct Range : RangeInfo {
  uint64_t mapped = 0;                 // bytes mapped from va on; 0 once unmapped
  std::atomic<uint64_t> accessors{0};  // devices that have access, a bit each
  std::vector<Chunk> chunks;           // in address order
};

class RangeBuilder {
 public:
  RangeBuilder(const Driver& driver, ChunkSource& source, CUdevice device);

  // A mapped, accessible range for `requested` bytes (more than zero), placed by
  // MakePlan. Does not synchronise.
  Result<std::unique_ptr<Range>> Build(uint64_t requested, CUcontext context);

  // Takes away the addresses. No work on the GPU may use them any more: the caller
  // has waited. On failure the range is whole and usable as before.
  Status Unmap(Range& range);
  // Gives chunks and addresses of an unmapped range back; what fails is kept and
  // tried again by every later Build.
  void Discard(std::unique_ptr<Range> range);

  // Lets `peer` access this device's ranges, those in `existing` and later ones. On
  // failure later ones stay out of its reach.
  Status AllowPeer(CUdevice peer, const std::vector<Range*>& existing);

  // For a range that AllowPeer can find by now: gives it what was allowed while it
  // was built.
  Status CatchUp(Range& range);

  // Tries again what Discard could not give back.
  void RetryScrapped();

 private:
  Status Fill(Range& range);
  Status SetAccess(Range& range);
  bool GiveBack(Range& range);

  const Driver& driver_;
  ChunkSource& source_;
  const CUdevice device_;
  std::atomic<uint64_t> accessors_;  // bit per CUdevice
  Mutex scrap_mutex_;
  std::vector<std::unique_ptr<Range>> scrap_ HEADROOM_GUARDED_BY(scrap_mutex_);
};

}  // namespace headroom
