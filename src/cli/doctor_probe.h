// Trying each driver feature that gpuroom rests on: small real allocations in
// a GPU's primary context, written, read back, compared and given back whatever
// happens. Attributes promise; these trials know. Needs cuInit done; makes the
// device's primary context current for its duration. One thread; blocks for
// some milliseconds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "driver/driver.h"
#include "topology/gpu.h"

namespace gpuroom {

struct Trial {
  std::string name;       // "device_chunk": the last part of the fact's name
  bool required = false;  // without it `gpuroom run` does not work
  bool worked = false;
  std::string detail;   // what failed: "cuMemCreate: CUDA_ERROR_NOT_SUPPORTED"
  std::string fix;      // what to do about just that; "": nothing is known but what helps in general
  std::string purpose;  // what gpuroom needs it for, as a sentence
};

struct ProbeResult {
  std::vector<Trial> trials;
  uint64_t free_bytes = 0;  // of the GPU, as cuMemGetInfo says; 0: not known
};

ProbeResult ProbeGpu(const Driver& driver, const Gpu& gpu);

}  // namespace gpuroom
