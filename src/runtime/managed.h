// Managed memory for one request (range/managed.h), where its backend is that.
#pragma once

#include <optional>

#include "runtime/runtime.h"

namespace gpuroom {

// Managed memory of `bytes`, if the calling thread's request is for that backend and nothing
// is being captured; else *served is false and nothing was done: during a capture, which
// managed memory would break, tiers stand in. The prefetch goes to `stream`.
CUresult AllocateManaged(Runtime& rt, DeviceState& device, size_t bytes, CUstream stream, CUdeviceptr* out,
                         bool* served);

// Frees a block that was taken from rt.managed, once the work is done of `stream`, which lives,
// or without one of the block's context. During a capture it is set aside instead. Where
// freeing fails the block is back in the table.
CUresult FreeManaged(Runtime& rt, const ManagedBlock& block, std::optional<CUstream> stream = std::nullopt);

// Frees what was set aside; waits for the GPU. Not during a capture.
void ReclaimManaged(Runtime& rt);

}  // namespace gpuroom
