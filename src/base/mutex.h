// A mutex that clang's thread-safety analysis understands (`make lint` makes
// its findings errors). Plain std::mutex underneath.
#pragma once

#include <mutex>

#if defined(__clang__)
#define HEADROOM_TSA(x) __attribute__((x))
#else
#define HEADROOM_TSA(x)
#endif
#define HEADROOM_CAPABILITY HEADROOM_TSA(capability("mutex"))
#define HEADROOM_SCOPED HEADROOM_TSA(scoped_lockable)
#define HEADROOM_GUARDED_BY(m) HEADROOM_TSA(guarded_by(m))
#define HEADROOM_REQUIRES(m) HEADROOM_TSA(requires_capability(m))
#define HEADROOM_EXCLUDES(m) HEADROOM_TSA(locks_excluded(m))
#define HEADROOM_ACQUIRE(...) HEADROOM_TSA(acquire_capability(__VA_ARGS__))
#define HEADROOM_RELEASE(...) HEADROOM_TSA(release_capability(__VA_ARGS__))

namespace headroom {

class HEADROOM_CAPABILITY Mutex {
 public:
  void Lock() HEADROOM_ACQUIRE() { mutex_.lock(); }
  bool TryLock() HEADROOM_TSA(try_acquire_capability(true)) { return mutex_.try_lock(); }
  void Unlock() HEADROOM_RELEASE() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class HEADROOM_SCOPED MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) HEADROOM_ACQUIRE(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() HEADROOM_RELEASE() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace headroom
