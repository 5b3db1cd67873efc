// Which of the machine's GPUs CUDA_VISIBLE_DEVICES leaves a process, read as the CUDA driver reads it, for
// what has to be known of them before the driver is initialised. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gpuroom {

// Indices into `uuids`, which are NVML's of all GPUs ("GPU-8a4f..."), in the order in which the driver counts
// the GPUs. `value` is null where the variable is not set: all. It lists numbers, or UUIDs that may be cut
// short. The list ends before the first entry that names no GPU, and with an entry twice it leaves none.
std::vector<size_t> VisibleDevices(const char* value, const std::vector<std::string>& uuids);

}  // namespace gpuroom
