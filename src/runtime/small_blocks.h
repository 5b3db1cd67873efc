// SmallBlocks: small allocations for which HBM has no room. The driver cannot place its own on the host, and
// a range takes 2 MiB at least, so they share ranges of 2 MiB, which a Pool cuts into blocks. Each device and
// context has a pool of its own, since the end of a context frees what was made in it. To the program each
// block is an allocation like any other: it has an address range, is freed, queried and passed to other
// processes by itself. Moving, sleeping and waking concern the shared range (Placed::shared) as a whole.
//
// Any thread. No lock is held while memory is created or given back.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <utility>

#include "base/mutex.h"
#include "pool/size_class.h"
#include "range/range.h"

namespace gpuroom {

class Runtime;
struct DeviceState;
class SharedRanges;

struct SmallBlock {
  CUcontext context() const;
  DeviceState& device() const;

  CUdeviceptr va = 0;
  uint64_t bytes = 0;                    // that the program asked for
  std::shared_ptr<SharedRanges> ranges;  // that it was cut from
};

class SmallBlocks {
 public:
  // Larger requests get a range of their own, of which at most half is lost.
  static constexpr uint64_t kMost = kSmallMost;

  explicit SmallBlocks(Runtime& rt) : rt_(rt) {}

  // A block of 1 to kMost bytes, in whichever tier has room. kOutOfMemory: none has.
  Result<CUdeviceptr> Allocate(DeviceState& device, CUcontext context, uint64_t bytes);

  // Takes the block that begins at `va` from the program. False: none does. The caller then waits for the GPU
  // and calls GiveBack, or Restore where that fails.
  bool Take(CUdeviceptr va, SmallBlock* out);
  void Restore(const SmallBlock& block);
  // Nothing uses the block any more. Ranges that hold no block go back to their tiers, if many do. Not during
  // a capture.
  static void GiveBack(const SmallBlock& block);
  // Gives all ranges back that hold no block; false: there are none. Not during a capture.
  bool Trim();

  // Narrows what is known of a shared range to the block that holds `address`. False: none does.
  bool Narrow(CUdeviceptr address, RangeInfo* range) const;

  // A context, or all of a device's, has ended, and the runtime has given the ranges back.
  void Forget(CUcontext context);
  void Forget(CUdevice device);

 private:
  using Place = std::pair<CUdevice, CUcontext>;
  using Blocks = std::map<CUdeviceptr, SmallBlock>;

  std::shared_ptr<SharedRanges> RangesOf(DeviceState& device, CUcontext context);
  template <typename Which>
  void ForgetIf(Which which);

  Runtime& rt_;
  std::atomic<size_t> count_{0};  // of blocks_, read without the lock
  mutable Mutex mutex_;
  Blocks blocks_ GPUROOM_GUARDED_BY(mutex_);  // the program's
  std::map<Place, std::shared_ptr<SharedRanges>> ranges_ GPUROOM_GUARDED_BY(mutex_);
};

}  // namespace gpuroom
