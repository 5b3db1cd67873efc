// What the machine's GPUs are called, and which of them a process sees. A number here counts all of the
// machine's GPUs, as NVML does; the driver counts those that CUDA_VISIBLE_DEVICES leaves. No state; any
// thread.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gpuroom::sim {

std::array<unsigned char, 16> UuidOf(int number);
// "GPU-" and the UUID in hexadecimal.
std::string UuidText(int number);
// The PCI bus that the GPU is alone on, and back; -1: no GPU is there.
unsigned PciBusOf(int number);
int NumberOnBus(unsigned domain, unsigned bus);

// The GPUs that CUDA_VISIBLE_DEVICES=`value` leaves of `devices`, in the order in which the driver counts
// them: a list of numbers, or of UUIDs that may be cut short. It ends before the first entry that names no
// GPU. Nothing: it names a GPU twice.
std::optional<std::vector<int>> VisibleDevices(std::string_view value, int devices);

}  // namespace gpuroom::sim
