#include "pool/routes.h"

#include <algorithm>

namespace gpuroom {

Arena* Routes::ArenaFor(CUstream stream) {
  if (none()) return &central_.shared();
  const MutexLock lock(mutex_);
  for (auto route = routes_.rbegin(); route != routes_.rend(); ++route) {
    if (route->filter(stream)) return route->arena;
  }
  return &central_.shared();
}

void Routes::Begin(PoolId id, StreamFilter filter) {
  const MutexLock lock(mutex_);
  Private& pool = pools_[id];
  if (pool.arena == nullptr) pool.arena = central_.NewArena();
  ++pool.uses;
  routes_.push_back({id, std::move(filter), pool.arena});
  open_.fetch_add(1, std::memory_order_acq_rel);
}

// By a pool's users, or by a route that outlived them.
bool Routes::InUse(const Arena* arena) const {
  return std::any_of(pools_.begin(), pools_.end(),
                     [arena](const auto& entry) { return entry.second.arena == arena; }) ||
         std::any_of(routes_.begin(), routes_.end(),
                     [arena](const Route& route) { return route.arena == arena; });
}

void Routes::End(PoolId id) {
  const MutexLock lock(mutex_);
  const auto last =
      std::find_if(routes_.rbegin(), routes_.rend(), [id](const Route& route) { return route.id == id; });
  if (last == routes_.rend()) return;
  Arena* arena = last->arena;
  routes_.erase(std::next(last).base());
  open_.fetch_sub(1, std::memory_order_acq_rel);
  if (!InUse(arena)) central_.Release(arena);
}

void Routes::Release(PoolId id) {
  const MutexLock lock(mutex_);
  const auto found = pools_.find(id);
  if (found == pools_.end() || --found->second.uses > 0) return;
  Arena* arena = found->second.arena;
  pools_.erase(found);
  if (!InUse(arena)) central_.Release(arena);
}

}  // namespace gpuroom
