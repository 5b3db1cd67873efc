// `gpuroom run --dry-run`: prints what a run would offer, set and start, and
// does none of it.
#pragma once

#include "cli/run.h"

namespace gpuroom {

// Asks the driver for its GPUs; their absence is a sentence in the output, not
// a failure. Returns the exit status.
int DryRun(const RunPlan& plan, bool json);

}  // namespace gpuroom
