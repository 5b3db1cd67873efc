#include "sleep/scrap.h"

#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "driver/insist.h"

namespace gpuroom {
namespace {

struct Scrap {
  Mutex mutex;
  std::vector<std::function<bool()>> steps GPUROOM_GUARDED_BY(mutex);
};

Scrap& All() {
  static Scrap* scrap = new Scrap;  // used until the very end
  return *scrap;
}

}  // namespace

void GiveBack(std::function<bool()> step) {
  for (int tries = 0; tries < kInsist; ++tries) {
    if (step()) return;
  }
  Log(LogLevel::kInfo, "a driver call failed while memory was given back; trying again later");
  MutexLock lock(All().mutex);
  All().steps.push_back(std::move(step));
}

void RetryScrap() {
  std::vector<std::function<bool()>> steps;
  {
    MutexLock lock(All().mutex);
    steps.swap(All().steps);
  }
  // Unlocked: a step may leave scrap of its own.
  for (std::function<bool()>& step : steps) {
    if (step()) continue;
    MutexLock lock(All().mutex);
    All().steps.push_back(std::move(step));
  }
}

size_t ScrapCount() {
  MutexLock lock(All().mutex);
  return All().steps.size();
}

}  // namespace gpuroom
