// Contexts: the CUDA contexts of this process, as far as the shim knows them: those
// that were current in a memory call and those that the program made. With the primary ones, which
// the driver can be asked for, they are where work may be in flight. Any thread.
#pragma once

#include <cuda.h>

#include <atomic>
#include <functional>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "driver/driver.h"

namespace gpuroom {

class Contexts {
 public:
  explicit Contexts(const Driver& driver) : driver_(driver) {}

  void Add(CUcontext context);
  void Remove(CUcontext context);
  // How many have been removed.
  uint32_t ended() const { return ended_.load(std::memory_order_acquire); }
  // Waits for all work in all of them, each once. Breaks captures: what `given_up` answers before each
  // ends it, with kBusy.
  Status Synchronize(const std::function<bool()>& given_up);

 private:
  // But those of `done`.
  Status SynchronizePrimaries(const std::vector<CUcontext>& done, const std::function<bool()>& given_up);

  const Driver& driver_;
  std::atomic<uint32_t> ended_{0};
  Mutex mutex_;
  std::vector<CUcontext> contexts_ GPUROOM_GUARDED_BY(mutex_);
};

}  // namespace gpuroom
