// How the core meets a host that has no memory for its own records. Its containers throw std::bad_alloc; a
// step that has to be taken back in that case, or that a thread of ours makes, is called by OrNoMemory, which
// turns the exception into a Status.
#pragma once

#include <new>

#include "base/status.h"

namespace gpuroom {

inline Status NoMemory() { return {Code::kOutOfMemory, "no memory for gpuroom's own records"}; }

// What `step`, which returns a Status, returns; NoMemory() if it ends by std::bad_alloc.
template <typename Step>
Status OrNoMemory(Step step) {
  try {
    return step();
  } catch (const std::bad_alloc&) {
    return NoMemory();
  }
}

}  // namespace gpuroom
