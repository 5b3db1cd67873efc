#include "runtime/standstill.h"

#include <pthread.h>

#include <chrono>

#include "base/blocked_signals.h"
#include "runtime/runtime.h"

namespace headroom {

Status Waiter::WaitForGpus(Runtime& rt, uint64_t timeout) {
  std::unique_lock lock(mutex_);
  if (!started_ && !Start()) return Status(Code::kSystem, "starting a thread");
  if (rt_ != nullptr) return Status(Code::kBusy, "the GPU has been busy for long");
  rt_ = &rt;
  changed_.notify_all();
  const bool done =
      changed_.wait_for(lock, std::chrono::nanoseconds(timeout), [&] { return rt_ == nullptr; });
  return done ? result_ : Status(Code::kBusy, "the GPU did not come to rest");
}

bool Waiter::Start() {
  const BlockedSignals blocked;
  pthread_t thread;
  const auto serve = [](void* waiter) -> void* {
    ++t_depth;  // its calls are the shim's own
    static_cast<Waiter*>(waiter)->Serve();
    return nullptr;
  };
  started_ = pthread_create(&thread, nullptr, serve, this) == 0;
  if (started_) pthread_detach(thread);
  return started_;
}

void Waiter::Serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return rt_ != nullptr; });
    Runtime& rt = *rt_;
    lock.unlock();
    const Status result = rt.contexts.Synchronize();
    lock.lock();
    result_ = result;
    rt_ = nullptr;
    changed_.notify_all();
  }
}

Standstill::Standstill(Runtime& rt, uint64_t timeout) : status_(Reach(rt, timeout)) {}

Status Standstill::Reach(Runtime& rt, uint64_t timeout) {
  const Status capturing(Code::kBusy, "a CUDA graph is being captured");
  if (rt.captures.Any()) return capturing;
  closed_ = Gate::Close(timeout);
  if (!closed_) return Status(Code::kBusy, "other threads stay in driver calls");
  if (rt.captures.Any()) return capturing;  // none can begin any more
  return rt.waiter.WaitForGpus(rt, timeout);
}

Standstill::~Standstill() {
  if (closed_) Gate::Open();
}

}  // namespace headroom
