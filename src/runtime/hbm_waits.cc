#include "runtime/hbm_waits.h"

#include <algorithm>

#include "runtime/gate.h"

namespace gpuroom {

// More than the limit is never granted: the rest is spilled.
bool HbmWaits::Waiting::HasEnough() const {
  const Budget& budget = tier.budget();
  return budget.grant() >= std::min(budget.used() + bytes + keep, budget.limit());
}

void HbmWaits::TurnOff() {
  const std::lock_guard lock(mutex_);
  on_.store(false, std::memory_order_release);
  changed_.notify_all();
}

void HbmWaits::Await(const DeviceTier& tier, uint64_t bytes, uint64_t keep) {
  Waiting waiting{tier, bytes, keep};
  if (!on() || waiting.HasEnough() || Gate::NeverWaits()) return;
  Gate::Leave();
  {
    std::unique_lock lock(mutex_);
    waiting.next = first_;
    first_ = &waiting;
    lock.unlock();
    if (void (*const listener)() = listener_.load(std::memory_order_acquire)) listener();
    lock.lock();
    changed_.wait(lock, [&] { return waiting.refused || !on() || waiting.HasEnough(); });
    Waiting** link = &first_;
    while (*link != &waiting) link = &(*link)->next;
    *link = waiting.next;
  }
  Gate::Enter();
}

uint64_t HbmWaits::Wanted(const DeviceTier& tier) {
  const std::lock_guard lock(mutex_);
  uint64_t bytes = 0;
  uint64_t keep = 0;
  for (const Waiting* waiting = first_; waiting != nullptr; waiting = waiting->next) {
    if (&waiting->tier != &tier || waiting->refused) continue;
    bytes += waiting->bytes;
    keep = std::max(keep, waiting->keep);
  }
  return bytes + keep;
}

void HbmWaits::Refuse() {
  const std::lock_guard lock(mutex_);
  for (Waiting* waiting = first_; waiting != nullptr; waiting = waiting->next) waiting->refused = true;
  changed_.notify_all();
}

}  // namespace gpuroom
