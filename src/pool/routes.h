// Routes: which requests go to which private pool, as CUDA graphs need it: what a
// capture uses must be nobody else's while its graph lives.
//
// A pool is there from its first Begin until as many Releases as Begins. While a
// route is open the pool counts as being captured for: no events, no waiting.
// Several may be open; the one opened last is asked first.
//
// Any thread. Filters are called under the lock, so that none runs after its
// End; a filter must not call the pool.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "pool/central.h"

namespace gpuroom {

using PoolId = std::pair<uint64_t, uint64_t>;
using StreamFilter = std::function<bool(CUstream)>;

class Routes {
 public:
  explicit Routes(Central& central) : central_(central) {}

  bool none() const { return open_.load(std::memory_order_acquire) == 0; }
  // Where a request on `stream` belongs; the shared arena where no filter takes it.
  Arena* ArenaFor(CUstream stream);

  void Begin(PoolId id, StreamFilter filter);
  void End(PoolId id);
  void Release(PoolId id);

 private:
  struct Private {
    Arena* arena = nullptr;
    uint64_t uses = 0;
  };
  struct Route {
    PoolId id;
    StreamFilter filter;
    Arena* arena = nullptr;
  };

  bool InUse(const Arena* arena) const GPUROOM_REQUIRES(mutex_);

  Central& central_;
  // Read at every allocation: not beside what others write.
  alignas(64) std::atomic<int> open_{0};
  alignas(64) Mutex mutex_;
  std::map<PoolId, Private> pools_ GPUROOM_GUARDED_BY(mutex_);
  std::vector<Route> routes_ GPUROOM_GUARDED_BY(mutex_);
};

}  // namespace gpuroom
