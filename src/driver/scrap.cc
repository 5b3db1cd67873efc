#include "driver/scrap.h"

#include <atomic>
#include <list>
#include <mutex>

#include "base/log.h"
#include "base/mutex.h"

namespace gpuroom {
namespace {

struct Scrap {
  std::atomic<size_t> count{0};  // of steps, read without the lock
  std::mutex retrying;           // held while steps are tried
  Mutex mutex;
  std::list<std::function<bool()>> steps GPUROOM_GUARDED_BY(mutex);
};

Scrap& All() {
  static Scrap* scrap = new Scrap;  // used until the very end
  return *scrap;
}

}  // namespace

void KeepScrap(std::function<bool()> step) {
  Log(LogLevel::kInfo, "memory could not be given back now; trying again later");
  MutexLock lock(All().mutex);
  All().steps.push_back(std::move(step));
  ++All().count;
}

void LogLostScrap() {
  Log(LogLevel::kError, "memory could not be given back to the driver, and the process has none to note it");
}

void RetryScrap() {
  if (ScrapCount() == 0) return;
  const std::lock_guard alone(All().retrying);
  std::list<std::function<bool()>> steps;
  {
    MutexLock lock(All().mutex);
    steps.swap(All().steps);
  }
  // Unlocked: a step may leave scrap of its own.
  All().count -= std::erase_if(steps, [](const std::function<bool()>& step) { return step(); });
  MutexLock lock(All().mutex);
  All().steps.splice(All().steps.end(), steps);
}

size_t ScrapCount() { return All().count.load(std::memory_order_acquire); }

}  // namespace gpuroom
