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

#include <memory>

#include "base/mutex.h"
#include "range/chunk_source.h"
#include "range/placed.h"

namespace gpuroom {

// What pointer queries and reports need to know of a range.
struct RangeInfo {
  CUdeviceptr va = 0;           // first address of the program's; 0 when the reservation is gone
  uint64_t bytes = 0;           // reserved, a multiple of kGranularity
  uint64_t requested = 0;       // what the program asked for
  uint64_t host_bytes = 0;      // of `bytes`, those in host chunks
  uint64_t peer_bytes = 0;      // of `bytes`, those on other GPUs
  CUcontext context = nullptr;  // current when it was made, as pointer attributes report
  CUdevice device = 0;
  Hint hint = Hint::kNone;
  bool asleep = false;
};

struct Range : Placed {
  // Where the program's memory begins.
  CUdeviceptr address() const { return va + offset; }
  RangeInfo Info() const {
    return {address(), bytes, requested, host_bytes, peer_bytes, context, device, hint, !awake()};
  }

  CUdeviceptr va = 0;
  uint64_t bytes = 0;
  uint64_t offset = 0;  // of another process's small block, whose whole range is mapped here
  uint64_t requested = 0;
  uint64_t mapped = 0;  // bytes mapped from va on; 0 once unmapped
};

// What a program asks for when it asks for a range.
struct RangeRequest {
  uint64_t bytes = 0;  // more than zero
  CUcontext context = nullptr;
  PlanRequest plan;  // `bytes` is filled in
};

class RangeBuilder {
 public:
  RangeBuilder(const Driver& driver, ChunkSource& source, CUdevice device);

  // A mapped, accessible range, placed by MakePlan. Does not synchronise.
  Result<std::unique_ptr<Range>> Build(const RangeRequest& request);
  // The same, placed as `plan` says, which covers the rounded size.
  Result<std::unique_ptr<Range>> BuildFrom(const RangeRequest& request, const Plan& plan);

  // Takes away the addresses. No work on the GPU may use them any more: the caller
  // has waited. On failure the range is whole and usable as before.
  Status Unmap(Range& range);
  // Gives chunks and addresses of an unmapped range back; what fails is scrap (driver/scrap.h).
  void Discard(std::unique_ptr<Range> range);

  // Lets `peer` access this device's ranges, those in `existing` and later ones. On
  // failure later ones stay out of its reach.
  Status AllowPeer(CUdevice peer, const std::vector<Range*>& existing);

  // For a range that AllowPeer can find by now: gives it what was allowed while it
  // was built.
  Status CatchUp(Range& range);

  // The devices that may access this device's ranges, a bit each.
  uint64_t Accessors();

 private:
  template <typename CreateChunks>
  Result<std::unique_ptr<Range>> Make(const RangeRequest& request, CreateChunks create);
  Status Map(Range& range);
  Status Open(Range& range) GPUROOM_REQUIRES(access_mutex_);
  bool GiveBack(Range& range);

  const Driver& driver_;
  ChunkSource& source_;
  const CUdevice device_;
  Mutex access_mutex_;
  uint64_t accessors_ GPUROOM_GUARDED_BY(access_mutex_);  // bit per CUdevice
};

}  // namespace gpuroom
