// Retired: memory that the program has freed and that the GPU may still use. A
// stream-ordered free leaves an event to wait for; a free during a capture, when
// nothing may be synchronised, leaves none and waits for the capture's end.
// Any thread.
#pragma once

#include <atomic>
#include <list>
#include <map>
#include <memory>

#include "base/mutex.h"
#include "range/range.h"
#include "runtime/small_blocks.h"

namespace gpuroom {

// A range or a small block.
struct RetiredMemory {
  CUcontext context() const { return range != nullptr ? range->context : block.context(); }
  // Once the GPU is done with it. False: it could not be unmapped; try again.
  bool GiveBack();

  std::unique_ptr<Range> range;
  RangeBuilder* builder = nullptr;
  SmallBlock block;
  CUevent event = nullptr;  // null: synchronise the memory's context
  CUcontext event_context = nullptr;
  CUstream stream = nullptr;  // on which the event was recorded
};

class Retired {
 public:
  explicit Retired(const Driver& driver) : driver_(driver) {}

  void Add(RetiredMemory retired);
  bool empty() const { return count_.load(std::memory_order_acquire) == 0; }
  // Gives back what the GPU is done with. Does not wait. Not during a capture. Asks the driver once a stream,
  // however much waits there, and synchronises each context once.
  void Reclaim();
  // Waits for all of it, and for another thread that is at it. Not during a capture.
  void Drain();
  // A context has ended, and with it its events and the work that they stood for.
  void ForgetContext(CUcontext context);

 private:
  // What was freed on one stream, in the order in which the GPU comes to it; of null what has no event.
  using Queues = std::map<CUstream, std::list<RetiredMemory>>;

  void Sweep(bool wait);
  // Contexts that were synchronised in a sweep, and whether that succeeded.
  using Contexts = std::map<CUcontext, bool>;

  bool Done(RetiredMemory& retired, bool wait, Contexts* idle);
  void PutBack(Queues* queues) GPUROOM_REQUIRES(mutex_);

  const Driver& driver_;
  std::atomic<size_t> count_{0};
  std::mutex sweeping_;  // held while a thread works on what it took out
  Mutex mutex_;
  Queues queues_ GPUROOM_GUARDED_BY(mutex_);
};

}  // namespace gpuroom
