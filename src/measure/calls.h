// Calls: the driver functions that only measuring needs (calls.def), so that the
// preloaded library does not bind them in every process. Immutable; any thread.
#pragma once

#include <cuda.h>

#include "base/status.h"
#include "driver/driver.h"

namespace gpuroom::measure {

struct Calls {
#define GPUROOM_MEASURE_FUNCTION(member, name, symbol, version) decltype(&::symbol) member = nullptr;
#include "measure/calls.def"
};

// kDriver: a function is missing; what() names it.
Result<Calls> BindCalls(const Driver& driver);

// The driver is gpuroom's simulated one: its speeds are no GPU's.
bool IsSimulated(const Driver& driver);

}  // namespace gpuroom::measure
