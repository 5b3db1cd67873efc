// Scrap: what could not be given back yet, all of this process in one list. Nothing is lost for a driver call
// that fails: it is tried again with every later range, handle, move, sleep and wake. Any thread.
#pragma once

#include <cstddef>
#include <functional>

#include "base/no_memory.h"
#include "driver/insist.h"

namespace gpuroom {

// Tries `step` again from RetryScrap on, until it says that it is done. It may keep scrap of its own.
void KeepScrap(std::function<bool()> step);
void LogLostScrap();
// Cheap where there is none. Waits for another thread that is at it.
void RetryScrap();
size_t ScrapCount();

// Calls `step` until it says that it is done, 16 times, and from RetryScrap later on. Throws nothing:
// destructors call it. Where the process has no memory to note a step that fails, a line in the log says so.
template <typename Step>
void GiveBack(Step step) {
  for (int tries = 0; tries < kInsist; ++tries) {
    if (step()) return;
  }
  const Status kept = OrNoMemory([&] {
    KeepScrap(std::move(step));
    return Status();
  });
  if (!kept.ok()) LogLostScrap();
}

}  // namespace gpuroom
