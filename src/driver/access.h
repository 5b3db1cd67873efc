// Access: which devices may read and write what is mapped at an address.
#pragma once

#include "base/status.h"
#include "driver/driver.h"

namespace gpuroom {

// Gives the devices of both masks (bit i: CUDA ordinal i) access to what is mapped in [va, va + bytes).
Status SetAccess(const Driver& driver, CUdeviceptr va, uint64_t bytes, uint64_t writers,
                 uint64_t readers = 0);

}  // namespace gpuroom
