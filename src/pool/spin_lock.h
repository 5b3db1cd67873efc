// A lock for what one thread uses all the time and others hardly ever: one
// exchange when nobody else is there. Whoever holds it does a few loads and
// stores, so that waiting is spinning, with the processor given up now and then.
#pragma once

#include <sched.h>

#include <atomic>

#include "base/mutex.h"

namespace gpuroom {

class GPUROOM_CAPABILITY SpinLock {
 public:
  void Lock() GPUROOM_ACQUIRE() {
    while (__builtin_expect(held_.exchange(true, std::memory_order_acquire), false)) Wait();
  }
  void Unlock() GPUROOM_RELEASE() { held_.store(false, std::memory_order_release); }

 private:
  __attribute__((noinline, cold)) void Wait() const {
    for (int spins = 0; held_.load(std::memory_order_relaxed); ++spins) {
      if (spins % 64 == 63) sched_yield();
    }
  }

  std::atomic<bool> held_{false};
};

class GPUROOM_SCOPED SpinGuard {
 public:
  explicit SpinGuard(SpinLock& lock) GPUROOM_ACQUIRE(lock) : lock_(lock) { lock_.Lock(); }
  ~SpinGuard() GPUROOM_RELEASE() { lock_.Unlock(); }
  SpinGuard(const SpinGuard&) = delete;
  SpinGuard& operator=(const SpinGuard&) = delete;

 private:
  SpinLock& lock_;
};

}  // namespace gpuroom
