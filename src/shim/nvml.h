// NVML's memory queries, so that nvidia-smi-like tools and vLLM's preflight see
// the same device as the CUDA driver shows. No CUDA is initialised for it: a
// process that only asks NVML may fork afterwards.
#pragma once

namespace gpuroom {

// The shim's function for an NVML symbol, null for those left alone.
void* NvmlHook(const char* symbol);

}  // namespace gpuroom
