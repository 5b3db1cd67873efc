// Scrap: what could not be given back yet. Nothing that a sleep holds is lost for a
// driver call that fails: it is tried again with every later sleep and wake. Any thread.
#pragma once

#include <cstddef>
#include <functional>

namespace gpuroom {

// Calls `step` until it says that it is done, 16 times, and from RetryScrap later on.
void GiveBack(std::function<bool()> step);
void RetryScrap();
size_t ScrapCount();

}  // namespace gpuroom
