// Memory that a C function gives out, as cuMemAlloc gives it under gpuroom. Each enters by itself
// (runtime.h), so that its caller has not; any context may be current.
#pragma once

#include "pool/source.h"

namespace gpuroom {

// `bytes`, more than zero, of `device`. kResident: nothing spills for lack of HBM; by policy it lies where
// it belongs. May be called while streams are captured.
Result<CUdeviceptr> AllocateOn(int device, uint64_t bytes, SegmentSource::Where where);

// Gives it back once the context's work is done; where that cannot be waited for now, it goes back
// later. An address that is not from AllocateOn gets the driver's own answer.
Status FreeOn(int device, CUdeviceptr address);

}  // namespace gpuroom
