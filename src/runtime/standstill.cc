#include "runtime/standstill.h"

#include "base/clock.h"
#include "base/detached_thread.h"
#include "base/no_memory.h"
#include "base/trace.h"
#include "runtime/runtime.h"

namespace gpuroom {

Status Waiter::WaitForGpus(Runtime& rt, uint64_t timeout) {
  const std::chrono::nanoseconds patience(timeout);
  const auto idle = [this] { return rt_ == nullptr; };
  std::unique_lock lock(mutex_);
  if (!started_) {
    const Status started = StartDetached("gpuroom-wait", [this] { Serve(); });
    if (!started.ok()) return started;
    started_ = true;
  }
  if (!changed_.wait_until(lock, since_ + patience, idle))
    return Status(Code::kBusy, "the GPU has been busy for long");
  rt_ = &rt;
  since_ = std::chrono::steady_clock::now();
  given_up_ = false;
  changed_.notify_all();
  if (changed_.wait_until(lock, since_ + patience, idle)) return result_;
  given_up_ = true;
  return Status(Code::kBusy, "the GPU did not come to rest");
}

bool Waiter::GivenUp() {
  const std::lock_guard lock(mutex_);
  return given_up_;
}

void Waiter::Serve() {
  ++t_depth;  // its calls are the shim's own
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return rt_ != nullptr; });
    Runtime& rt = *rt_;
    lock.unlock();
    const Status result = OrNoMemory([&] { return rt.contexts.Synchronize([this] { return GivenUp(); }); });
    lock.lock();
    result_ = result;
    rt_ = nullptr;
    changed_.notify_all();
  }
}

Standstill::Standstill(Runtime& rt, uint64_t timeout) : closing_(rt.activity), status_(Reach(rt, timeout)) {
  closing_.reached = status_.ok();
  if (!status_.ok()) rt.activity.not_reached.fetch_add(1, std::memory_order_relaxed);
}

Status Standstill::Reach(Runtime& rt, uint64_t timeout) {
  const Status capturing(Code::kBusy, "a CUDA graph is being captured");
  if (rt.captures.Any()) return capturing;
  closing_.since = NowNanoseconds();
  closing_.closed = Gate::Close(timeout);
  if (!closing_.closed) return Status(Code::kBusy, "other threads stay in driver calls");
  if (rt.captures.Any()) return capturing;  // none can begin any more
  return rt.waiter.WaitForGpus(rt, timeout);
}

Standstill::Closing::~Closing() {
  if (closed) Gate::Open();
  if (since == 0) return;
  activity.standstills.Add(NowNanoseconds() - since);
  Trace::Add(TraceKind::kStandstill, -1, since, {reached ? uint64_t{1} : 0});
}

}  // namespace gpuroom
