// The pools behind gpuroom_torch_malloc, one a device, made on first use and never destroyed.
// Any thread.
#pragma once

#include "pool/pool.h"

namespace gpuroom {

// kUnsupported where gpuroom has no part in this process, kNotFound for a device that the driver does not
// have.
Result<Pool*> PoolOf(int device);
// The same without making it.
Pool* ExistingPool(int device);

}  // namespace gpuroom
