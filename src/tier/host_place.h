// HostPlace: where the driver is asked for a tier's host memory. The node next to the GPU is best, but a
// driver may refuse it: in a container without the right to bind memory (SYS_NICE), or where the node has no
// memory.
#pragma once

#include <functional>
#include <vector>

#include "driver/driver.h"

namespace gpuroom {

struct HostPlace {
  CUmemLocationType type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
  int node = 0;  // of HOST_NUMA, and the one to report otherwise
  CUmemAllocationHandleType shareable = CU_MEM_HANDLE_TYPE_NONE;  // what its chunks can be exported as
  bool refused = false;                                           // the driver gives none here or elsewhere
};

// Host memory on `node`.
HostPlace NodePlace(const Driver& driver, int node);

// The first place where the driver creates host memory: `node`, the nodes that `others` names, then HOST,
// which is wherever the driver likes and whose chunks cannot be exported. `others` is asked only when `node`
// is refused. Where all refuse, the place says so and one warning says why. Creates and releases one chunk of
// kGranularity for each place that it tries, some 1 ms where the first is right. Needs cuInit, no context.
HostPlace FindHostPlace(const Driver& driver, int node, const std::function<std::vector<int>()>& others);

// Creates `bytes` of host memory there.
CUresult CreateAt(const Driver& driver, const HostPlace& place, uint64_t bytes,
                  CUmemGenericAllocationHandle* handle);

}  // namespace gpuroom
