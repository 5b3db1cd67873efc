// The hooks of submit.def, which only pass the gate.
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>

namespace gpuroom {

enum SubmitIndex : int {
#define GPUROOM_SUBMIT(name, symbol, type, since, stream) kSubmit_##symbol,
#include "shim/submit.def"
  kSubmitCount
};

// By SubmitIndex: the hooks, filled by the linker (LinkedTest sees to that). submit_*.S jumps through
// it, so that the library also exports them by name.
extern "C" __attribute__((visibility("hidden"))) void* const gpuroom_submit_hooks[kSubmitCount];

}  // namespace gpuroom
