// The pools behind headroom_torch_malloc, one a device, made on first use and never destroyed.
// Any thread.
#pragma once

#include "pool/pool.h"

namespace headroom {

// kUnsupported where headroom has no part in this process, kNotFound for a device that the driver does not
// have.
Result<Pool*> PoolOf(int device);
// The same without making it.
Pool* ExistingPool(int device);

}  // namespace headroom
