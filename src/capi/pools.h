// The pools behind headroom_torch_malloc, one a device, made on first use and never destroyed.
// Any thread.
#pragma once

#include "pool/pool.h"

namespace headroom {

// Null where headroom has no part in this process, or for a device that the driver does not have.
Pool* PoolOf(int device);
// The same without making it.
Pool* ExistingPool(int device);

}  // namespace headroom
