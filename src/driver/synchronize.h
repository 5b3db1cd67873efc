// Waiting for the GPU: for all that runs in one context, whichever is current.
#pragma once

#include "driver/driver.h"

namespace gpuroom {

// Waits for everything that runs in `context`. kOk also where the context is gone, since
// nothing runs in it then; *gone (may be null) tells.
Status SynchronizeContext(const Driver& driver, CUcontext context, bool* gone = nullptr);

}  // namespace gpuroom
