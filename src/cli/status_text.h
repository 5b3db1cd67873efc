// A Status of the core in words, with what the driver or the system said. Pure.
#pragma once

#include <string>

#include "base/status.h"

namespace gpuroom {

// "opening a file for backups: Too many open files", "cuMemCreate: CUDA_ERROR_UNKNOWN".
std::string DescribeStatus(const Status& status);

}  // namespace gpuroom
