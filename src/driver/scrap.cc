#include "sleep/scrap.h"

#include <list>

#include "base/log.h"
#include "base/mutex.h"

namespace gpuroom {
namespace {

struct Scrap {
  Mutex mutex;
  std::list<std::function<bool()>> steps GPUROOM_GUARDED_BY(mutex);
};

Scrap& All() {
  static Scrap* scrap = new Scrap;  // used until the very end
  return *scrap;
}

}  // namespace

void KeepScrap(std::function<bool()> step) {
  Log(LogLevel::kInfo, "a driver call failed while memory was given back; trying again later");
  MutexLock lock(All().mutex);
  All().steps.push_back(std::move(step));
}

void LogLostScrap() {
  Log(LogLevel::kError, "memory could not be given back to the driver, and the process has none to note it");
}

void RetryScrap() {
  std::list<std::function<bool()>> steps;
  {
    MutexLock lock(All().mutex);
    steps.swap(All().steps);
  }
  // Unlocked: a step may leave scrap of its own.
  std::erase_if(steps, [](const std::function<bool()>& step) { return step(); });
  MutexLock lock(All().mutex);
  All().steps.splice(All().steps.end(), steps);
}

size_t ScrapCount() {
  MutexLock lock(All().mutex);
  return All().steps.size();
}

}  // namespace gpuroom
