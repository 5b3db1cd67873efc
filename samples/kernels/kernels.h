// The sample kernels (kernels.cu) as PTX text inside the program: pass it to
// cuModuleLoadData and ask for gpuroom_fill, gpuroom_store, gpuroom_sum,
// gpuroom_verify and gpuroom_spin. The simulated driver accepts it as any
// other image and runs its own versions of the same names.
#pragma once

namespace gpuroom::samples {

// Null-terminated; lives as long as the program.
const char* KernelsPtx();

}  // namespace gpuroom::samples
