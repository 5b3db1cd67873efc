#include "runtime/retired.h"

#include <utility>

#include "driver/insist.h"
#include "driver/synchronize.h"

namespace gpuroom {

bool RetiredMemory::GiveBack() {
  if (range == nullptr) {
    SmallBlocks::GiveBack(block);
    return true;
  }
  if (!builder->Unmap(*range).ok()) return false;
  builder->Discard(std::move(range));
  return true;
}

void Retired::Add(RetiredMemory retired) {
  MutexLock lock(mutex_);
  queues_[retired.stream].push_back(std::move(retired));
  count_.fetch_add(1, std::memory_order_release);
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
  for (auto& [stream, queue] : queues_) {
    for (RetiredMemory& retired : queue) {
      if (retired.event_context == context) retired.event = nullptr;
    }
  }
}

// The queues are taken out while driver calls run, so that a thread that waits does
// not hold up others that free. Behind an event that has not come nothing of its stream is done.
void Retired::Sweep(bool wait) {
  Queues queues;
  {
    MutexLock lock(mutex_);
    queues.swap(queues_);
  }
  Contexts idle;
  for (auto& [stream, queue] : queues) {
    for (auto next = queue.begin(); next != queue.end();) {
      const auto retired = next++;
      const bool done = Done(*retired, wait, &idle);
      if (!done && retired->event != nullptr) break;
      if (!done || !retired->GiveBack()) continue;
      queue.erase(retired);
      count_.fetch_sub(1, std::memory_order_release);
    }
  }
  MutexLock lock(mutex_);
  PutBack(&queues);
}

// Before what was added meanwhile.
void Retired::PutBack(Queues* queues) {
  std::erase_if(*queues, [](const auto& entry) { return entry.second.empty(); });
  for (auto& [stream, queue] : *queues) {
    const auto added = queues_.find(stream);
    if (added != queues_.end()) added->second.splice(added->second.begin(), queue);
  }
  std::erase_if(*queues, [](const auto& entry) { return entry.second.empty(); });
  queues_.merge(*queues);
}

bool Retired::Done(RetiredMemory& retired, bool wait, Contexts* idle) {
  if (retired.event == nullptr) {
    // Kept over a capture, or the event is gone: it takes a synchronise, also where waiting is not asked for.
    // All that the sweep took out was freed before.
    const auto [context, fresh] = idle->try_emplace(retired.context(), false);
    if (fresh) context->second = SynchronizeContext(driver_, context->first).ok();
    return context->second;
  }
  const CUresult result = wait ? driver_.EventSynchronize(retired.event) : driver_.EventQuery(retired.event);
  if (result != CUDA_SUCCESS) return false;
  Insist([&] { return driver_.EventDestroy(retired.event); });
  retired.event = nullptr;
  return true;
}

}  // namespace gpuroom
