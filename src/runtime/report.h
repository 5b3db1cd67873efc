// The report of one process: bytes by tier, allocations, time in the shim.
#pragma once

#include "runtime/runtime.h"

namespace gpuroom {

// Prints to standard error where options.report asks for it and appends one JSON
// line to options.stats_file. Makes no driver call; never fails loudly.
void WriteReport(const Runtime& rt);

}  // namespace gpuroom
