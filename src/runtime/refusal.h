// What happens where a request for memory is refused: it is counted (activity.h), and the first of each kind
// says in one line of the log what was asked for, what there was, which limit refused it, and what to change.
// Programs that try and then give something back, as PyTorch's allocator does, are refused often: no kind has
// a second line, and all kinds together have one a second. Nothing here allocates.
#pragma once

#include "runtime/runtime.h"

namespace gpuroom {

// Whose rule a request broke.
enum class RefusedBy {
  kTiers,       // HBM, peers and the host together had no room, or a call failed
  kHbm,         // the memory cannot lie elsewhere
  kMargin,      // the program wants more left free (gpuroom_set_memory_margin)
  kManagedCap,  // ManagedMemory, which says so itself
};

// `why` is of the last try to serve these `bytes`. Inside an Entry; any thread.
void NoteRefusal(Runtime& rt, const DeviceState& device, RefusedBy by, const Status& why, uint64_t bytes);

}  // namespace gpuroom
