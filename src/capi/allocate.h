// Memory that a C function gives out, as cuMemAlloc gives it under headroom.
#pragma once

#include "runtime/runtime.h"

namespace headroom {

enum class Where {
  kHbm,  // or, by policy, wherever it belongs; nothing spills for lack of HBM
  kAny,
};

// `bytes`, more than zero, of the current device. May be called while other streams are captured.
Result<CUdeviceptr> AllocateDirect(Runtime& rt, uint64_t bytes, Where where);

// Gives it back once the context's work is done; where that cannot be waited for now, it goes back later.
// An address that is not from
// AllocateDirect gets the driver's own answer.
Status FreeDirect(Runtime& rt, CUdeviceptr address);

}  // namespace headroom
