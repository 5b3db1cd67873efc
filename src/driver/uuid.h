// A GPU's UUID as text. A pure function; any thread.
#pragma once

#include <cuda.h>

#include <string>

namespace gpuroom {

// As nvidia-smi and NVML write it: "GPU-" and 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12. NVML
// writes "MIG-" before the UUID of a MIG instance, which the driver does not tell from that of a whole GPU.
std::string FormatUuid(const CUuuid& uuid);

}  // namespace gpuroom
