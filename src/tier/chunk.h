// Tier and Chunk: a kind of memory, and one physical allocation in it.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "base/size.h"

namespace gpuroom {

enum class Tier : uint8_t {
  kDevice,  // the GPU's own memory (HBM)
  kPeer,    // another GPU's memory, over NVLink or PCIe
  kHost,    // a host NUMA node: RAM over PCIe, LPDDR over NVLink-C2C, EGM
};

// Device and host chunks are multiples of this on every GPU seen
// (docs/driver-notes.md); the tiers check it against the driver's answer.
inline constexpr uint64_t kGranularity = 2 * kMiB;

struct Chunk {
  CUmemGenericAllocationHandle handle = 0;
  uint64_t bytes = 0;
  Tier tier = Tier::kDevice;
  int place = 0;          // whose: of kDevice and kPeer the CUDA ordinal, of kHost the NUMA node
  bool exported = false;  // another process may hold it when it is released: never reused
};

}  // namespace gpuroom
