// Fronts: the front caches of one pool, one for each thread that has used it.
// A thread finds its own through a few bytes of thread-local storage. A cache is
// owned by its thread and by the pool, so that either may end first.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "pool/front_cache.h"

namespace gpuroom {

struct FrontSlot {
  uint64_t serial;  // of a pool; they count from 1 and are not reused
  FrontCache* cache;
};
inline constexpr uint64_t kFrontSlots = 4;
// __thread: plain zeros, without a check for a constructor. initial-exec: no call
// either, also in a library that is opened at run time.
extern __thread FrontSlot front_slots[kFrontSlots] __attribute__((tls_model("initial-exec")));

class Fronts {
 public:
  explicit Fronts(Central& central);
  ~Fronts();
  Fronts(const Fronts&) = delete;
  Fronts& operator=(const Fronts&) = delete;

  // This thread's. One that is ending shares a cache with others of its kind.
  FrontCache& Local() {
    const FrontSlot& slot = front_slots[serial_ % kFrontSlots];
    return slot.serial == serial_ ? *slot.cache : LocalSlow();
  }

  // All that is cached anywhere, as a chain.
  Block* TakeAll();
  FrontStats Stats() const;

 private:
  FrontCache& LocalSlow();
  void DropLeft() GPUROOM_REQUIRES(mutex_);

  const uint64_t serial_;
  Central& central_;
  mutable FrontCache for_ending_;
  mutable Mutex mutex_;
  std::vector<std::shared_ptr<FrontCache>> caches_ GPUROOM_GUARDED_BY(mutex_);
  FrontStats left_ GPUROOM_GUARDED_BY(mutex_);  // of threads that have ended
};

}  // namespace gpuroom
