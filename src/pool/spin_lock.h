// A lock for what one thread uses all the time and others hardly ever: one
// exchange when nobody else is there. Whoever holds it does a few loads and
// stores, so that waiting is spinning, with the processor given up now and then.
#pragma once

#include <sched.h>

#include <atomic>

#include "base/mutex.h"

namespace headroom {

class HEADROOM_CAPABILITY SpinLock {
 public:
  void Lock() HEADROOM_ACQUIRE() {
    while (__builtin_expect(held_.exchange(true, std::memory_order_acquire), false)) Wait();
  }
  void Unlock() HEADROOM_RELEASE() { held_.store(false, std::memory_order_release); }

 private:
  __attribute__((noinline, cold)) void Wait() const {
    for (int spins = 0; held_.load(std::memory_order_relaxed); ++spins) {
      if (spins % 64 == 63) sched_yield();
    }
  }

  std::atomic<bool> held_{false};
};

class HEADROOM_SCOPED SpinGuard {
 public:
  explicit SpinGuard(SpinLock& lock) HEADROOM_ACQUIRE(lock) : lock_(lock) { lock_.Lock(); }
  ~SpinGuard() HEADROOM_RELEASE() { lock_.Unlock(); }
  SpinGuard(const SpinGuard&) = delete;
  SpinGuard& operator=(const SpinGuard&) = delete;

 private:
  SpinLock& lock_;
};

}  // namespace headroom
