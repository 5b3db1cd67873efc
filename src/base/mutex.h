// A mutex that clang's thread-safety analysis understands (`make lint` makes
// its findings errors). Plain std::mutex underneath.
#pragma once

#include <mutex>

#if defined(__clang__)
#define GPUROOM_TSA(x) __attribute__((x))
#else
#define GPUROOM_TSA(x)
#endif
#define GPUROOM_CAPABILITY GPUROOM_TSA(capability("mutex"))
#define GPUROOM_SCOPED GPUROOM_TSA(scoped_lockable)
#define GPUROOM_GUARDED_BY(m) GPUROOM_TSA(guarded_by(m))
#define GPUROOM_REQUIRES(m) GPUROOM_TSA(requires_capability(m))
#define GPUROOM_EXCLUDES(m) GPUROOM_TSA(locks_excluded(m))
#define GPUROOM_ACQUIRE(...) GPUROOM_TSA(acquire_capability(__VA_ARGS__))
#define GPUROOM_RELEASE(...) GPUROOM_TSA(release_capability(__VA_ARGS__))

namespace gpuroom {

class GPUROOM_CAPABILITY Mutex {
 public:
  void Lock() GPUROOM_ACQUIRE() { mutex_.lock(); }
  bool TryLock() GPUROOM_TSA(try_acquire_capability(true)) { return mutex_.try_lock(); }
  void Unlock() GPUROOM_RELEASE() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class GPUROOM_SCOPED MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) GPUROOM_ACQUIRE(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() GPUROOM_RELEASE() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace gpuroom
