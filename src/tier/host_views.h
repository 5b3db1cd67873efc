// HostViews: addresses of their own at which a device's copy engines reach host chunks, whatever else the
// chunks are mapped for. Mapping host memory takes 8-20 ms a GiB and slows the copies that run meanwhile
// (docs/measurements.md), so a chunk that was shown once stays so until it goes back to the driver.
// Any thread.
#pragma once

#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "tier/chunk.h"
#include "tier/scratch.h"

namespace gpuroom {

class HostViews {
 public:
  explicit HostViews(const Driver& driver) : driver_(driver) {}

  // Where `device` reaches the chunk; 0: nowhere.
  CUdeviceptr Find(const Chunk& chunk, CUdevice device) const;
  // Shows to `device` those of `chunks` that it does not see yet, side by side: one call opens all of
  // them. A chunk that another device saw is no longer shown to that one. On failure none is added.
  Status Show(const std::vector<Chunk>& chunks, CUdevice device);
  // Takes the chunk's view away, if it has one. On failure nothing changed; try again.
  Status Drop(const Chunk& chunk);

 private:
  struct View {
    CUdevice device;
    CUdeviceptr va;  // 0: not mapped
    std::shared_ptr<Scratch> scratch;
  };
  using Views = std::unordered_map<CUmemGenericAllocationHandle, View>;

  Status ShowAt(const std::shared_ptr<Scratch>& scratch, const std::vector<Chunk>& chunks, CUdevice device)
      GPUROOM_REQUIRES(mutex_);
  Status DropLocked(const Chunk& chunk) GPUROOM_REQUIRES(mutex_);
  // The same, if it is in any way possible.
  void TakeBack(const Chunk& chunk) GPUROOM_REQUIRES(mutex_);

  const Driver& driver_;
  mutable Mutex mutex_;
  Views views_ GPUROOM_GUARDED_BY(mutex_);
};

}  // namespace gpuroom
