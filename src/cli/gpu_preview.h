// What the driver says of this machine's GPUs before any program runs: version,
// names, memory sizes. Initialises the driver in this process and creates no
// context, so it takes no GPU memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/exit_codes.h"

namespace gpuroom {

struct GpuPreview {
  struct Gpu {
    std::string name;
    uint64_t hbm = 0;         // bytes
    std::string uuid;         // "GPU-..."; empty where the driver does not say
    bool coherent = false;    // uses the host's page tables
    bool integrated = false;  // has no memory but the host's
  };
  Failure failure;  // kExitNoDriver where there is no driver, an old one, or no GPU
  int version = 0;  // 13000 = 13.0; set even where it is too old
  std::vector<Gpu> gpus;
};

// Opens libcuda.so.1 and binds it, no more: what a real run checks, in
// milliseconds. Does not look for GPUs.
Failure CheckDriver(int* version);

// CheckDriver, then cuInit and every GPU.
GpuPreview PreviewGpus();

// Enters the simulated driver (sim_exec.h) and asks it. kExitUsage where it does
// not know the profile.
GpuPreview PreviewSimulated(const std::string& profile);

// What the files below `sysroot` say of another machine's GPUs. Asks no driver, so `version` stays 0.
GpuPreview PreviewFiles(const std::string& sysroot);

// Whether an option's folder can be another machine's; empty, for this machine, can.
Failure CheckSysroot(const std::string& sysroot);

// Whether the simulated driver, which this process has entered and which found no GPU, finds none either
// without CUDA_VISIBLE_DEVICES: then it does not know its profile, or that has none. Takes the variable out
// of this process's environment.
bool ProfileHasNoGpu();

// The sentence for a profile that the simulated driver does not know.
Failure NoProfile(const std::string& profile);

// PreviewGpus, or PreviewSimulated where there is a profile, in a child process,
// for a command that goes on to exec: no state of the driver is left behind here.
GpuPreview PreviewGpusApart(const std::string& sim_profile = "");

}  // namespace gpuroom
