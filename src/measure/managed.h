// Managed memory, the usual way to have more memory than the GPU has, measured as
// the tiers are: a share of it lies on the host, spread evenly.
//
// Bounded hard: a card whose managed memory exceeds what it has free can hang
// (docs/limits.md), so never more than 2 GiB, nor a quarter of what is free.
#pragma once

#include "measure/machine.h"

namespace gpuroom::measure {

enum class ManagedMode {
  kDirect,  // the share prefers the host, and kernels read it over the link where it lies
  kFault,   // the share begins on the host, written by the CPU, and faults bring it in; put back before every
            // run
};

// The bytes to measure with, at most `bytes`; 0 where too little is free, or this
// GPU or driver has no such memory.
uint64_t ManagedBytes(Machine& machine, uint64_t bytes);

// One allocation of ManagedBytes, of which `slow_bytes` lie on the host.
Result<Speeds> MeasureManaged(Session& session, ManagedMode mode, uint64_t bytes, uint64_t slow_bytes,
                              int rounds);

}  // namespace gpuroom::measure
