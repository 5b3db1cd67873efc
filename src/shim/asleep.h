// How a hook refuses what memory that is asleep cannot take part in.
#pragma once

#include <cuda.h>

#include "base/log.h"

namespace gpuroom {

inline CUresult RefuseAsleep(const char* call) {
  Log(LogLevel::kWarn, "%s on memory that is asleep fails; wake it first (gpuroom wake)", call);
  return CUDA_ERROR_ILLEGAL_STATE;
}

}  // namespace gpuroom
