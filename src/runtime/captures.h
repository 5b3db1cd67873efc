// Captures: which streams are being captured into CUDA graphs. While any is,
// the shim neither synchronises nor unmaps anything, since that would invalidate
// the capture. Any thread; one relaxed load when there is none.
#pragma once

#include <cuda.h>

#include <atomic>
#include <shared_mutex>
#include <vector>

#include "base/mutex.h"
#include "driver/driver.h"

namespace gpuroom {

// What a stream argument means in the _ptsz forms: there the default stream is the
// thread's own, and has a handle of its own.
inline CUstream PerThread(CUstream stream) { return stream == nullptr ? CU_STREAM_PER_THREAD : stream; }

class Captures {
 public:
  explicit Captures(const Driver& driver) : driver_(driver) {}

  // Call Begin before the driver begins the capture, so that no free of another
  // thread synchronises in between.
  void Begin(CUstream stream);
  void End(CUstream stream);  // also when the stream is destroyed
  // The end of a context ends all in it.
  void ForgetContext(CUcontext context);
  // Streams that joined by an event count through the one that began it.
  bool Any() const { return count_.load(std::memory_order_acquire) != 0; }
  // While one that holds lives, nothing is captured and no capture begins: a synchronise would
  // break it. A capture waits for a second at most, since what its thread has yet to submit may be
  // what the holder waits for.
  class Quiet {
   public:
    explicit Quiet(Captures& captures);
    explicit operator bool() const { return lock_.owns_lock(); }

   private:
    std::shared_lock<std::shared_timed_mutex> lock_;
  };

  // Whether this very stream is captured, by joining, too. Where the driver fails to say,
  // its result, and false.
  CUresult Ask(CUstream stream, bool* capturing) const;

 private:
  struct Capture {
    CUstream stream;
    CUcontext context;  // the stream's; null: not known
  };
  void Count() GPUROOM_REQUIRES(mutex_);

  const Driver& driver_;
  std::atomic<int> count_{0};
  std::shared_timed_mutex quiet_;
  Mutex mutex_;
  std::vector<Capture> captures_ GPUROOM_GUARDED_BY(mutex_);
};

}  // namespace gpuroom
