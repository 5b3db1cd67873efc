// Reading what memory holds that is asleep, without waking it.
#pragma once

#include "runtime/runtime.h"

namespace gpuroom {

// Copies [address, address + bytes), which lies in one allocation of this process that sleeps with its
// contents, to `out`, ordinary memory. kNotFound: nothing sleeps there, or its contents are gone.
Status ReadBackup(Runtime& rt, CUdeviceptr address, uint64_t bytes, void* out);

}  // namespace gpuroom
