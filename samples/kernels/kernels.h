// The sample kernels (kernels.cu) as PTX text inside the program: pass it to
// cuModuleLoadData and ask for headroom_fill, headroom_store, headroom_sum,
// headroom_verify and headroom_spin. The simulated driver accepts it as any
// other image and runs its own versions of the same names.
#pragma once

namespace headroom::samples {

// Null-terminated; lives as long as the program.
const char* KernelsPtx();

}  // namespace headroom::samples
