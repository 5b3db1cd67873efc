// Intent: what the program, the user and the rules want of one allocation.
#pragma once

#include "runtime/runtime.h"

namespace headroom {

// Hint and tag for what this thread allocates from now on; both may be absent. The
// tag is cut at 63 bytes.
void SetThreadHint(Hint hint, const char* tag);

// The plan request for `bytes` of the calling thread; `displaceable` is left 0.
PlanRequest IntentFor(const Runtime& rt, uint64_t bytes);

// Whether memory so placed goes back to HBM when that has room again.
bool WantsDevice(const PlanRequest& request);

}  // namespace headroom
