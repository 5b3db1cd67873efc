// Retired: ranges that the program has freed and that the GPU may still use. A
// stream-ordered free leaves an event to wait for; a free during a capture, when
// nothing may be synchronised, leaves none and waits for the capture's end.
// Any thread.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "range/range.h"

namespace gpuroom {

struct RetiredRange {
  std::unique_ptr<Range> range;
  RangeBuilder* builder = nullptr;
  CUevent event = nullptr;  // null: synchronise the range's context
  CUcontext event_context = nullptr;
};

class Retired {
 public:
  explicit Retired(const Driver& driver) : driver_(driver) {}

  void Add(RetiredRange retired);
  bool empty() const { return count_.load(std::memory_order_acquire) == 0; }
  // Gives back what the GPU is done with. Does not wait. Not during a capture.
  void Reclaim();
  // Waits for all of it, and for another thread that is at it. Not during a capture.
  void Drain();
  // A context has ended, and with it its events and the work that they stood for.
  void ForgetContext(CUcontext context);

 private:
  void Sweep(bool wait);
  bool Done(RetiredRange& retired, bool wait);

  const Driver& driver_;
  std::atomic<size_t> count_{0};
  std::mutex sweeping_;  // held while a thread works on what it took out
  Mutex mutex_;
  std::vector<RetiredRange> ranges_ GPUROOM_GUARDED_BY(mutex_);
};

}  // namespace gpuroom
