// Scrap: what could not be given back yet. Nothing that a sleep holds is lost for a
// driver call that fails: it is tried again with every later sleep and wake. Any thread.
#pragma once

#include <cstddef>
#include <functional>

#include "base/no_memory.h"
#include "driver/insist.h"

namespace gpuroom {

// Tries `step` again from RetryScrap on.
void KeepScrap(std::function<bool()> step);
void LogLostScrap();
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
