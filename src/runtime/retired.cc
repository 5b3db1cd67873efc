#include "runtime/retired.h"

#include <utility>

#include "driver/synchronize.h"

namespace gpuroom {

void Retired::Add(RetiredRange retired) {
  MutexLock lock(mutex_);
  ranges_.push_back(std::move(retired));
  count_.store(ranges_.size(), std::memory_order_release);
}

void Retired::Reclaim() {
  if (empty()) return;
  const std::unique_lock lock(sweeping_, std::try_to_lock);
  if (lock.owns_lock()) Sweep(false);
}

void Retired::Drain() {
  const std::lock_guard lock(sweeping_);
  Sweep(true);
}

void Retired::ForgetContext(CUcontext context) {
  if (empty()) return;
  const std::lock_guard sweeping(sweeping_);
  MutexLock lock(mutex_);
  for (RetiredRange& retired : ranges_) {
    if (retired.event_context == context) retired.event = nullptr;
  }
}

// The list is taken out while driver calls run, so that a thread that waits does
// not hold up others that free.
void Retired::Sweep(bool wait) {
  std::vector<RetiredRange> ranges;
  {
    MutexLock lock(mutex_);
    ranges.swap(ranges_);
  }
  std::vector<RetiredRange> kept;
  for (RetiredRange& retired : ranges) {
    if (!Done(retired, wait) || !retired.builder->Unmap(*retired.range).ok()) {
      kept.push_back(std::move(retired));
    } else {
      retired.builder->Discard(std::move(retired.range));
    }
  }
  MutexLock lock(mutex_);
  for (RetiredRange& retired : kept) ranges_.push_back(std::move(retired));
  count_.store(ranges_.size(), std::memory_order_release);
}

bool Retired::Done(RetiredRange& retired, bool wait) {
  if (retired.event == nullptr) {
    // Kept over a capture, or the event is gone: it takes one synchronise, also where waiting is not
    // asked for.
    return SynchronizeContext(driver_, retired.range->context).ok();
  }
  const CUresult result = wait ? driver_.EventSynchronize(retired.event) : driver_.EventQuery(retired.event);
  if (result != CUDA_SUCCESS) return false;
  driver_.EventDestroy(retired.event);
  retired.event = nullptr;
  return true;
}

}  // namespace gpuroom
