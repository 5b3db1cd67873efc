// What the NVIDIA kernel driver and nvidia-smi say in files: version, module
// parameters, GPU names and sizes. For machines (and fixtures) where CUDA
// cannot be asked. Stateless; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "topology/sysroot.h"

namespace gpuroom {

// Who manages the memory of a coherent GPU: the OS (a NUMA node) or the driver.
enum class CoherentMode { kUnknown, kNuma, kDriver };

struct NvidiaFiles {
  std::string version;                             // "580.159.04"; empty: no kernel driver
  int major = 0;                                   // 580
  bool params_read = false;                        // /proc/driver/nvidia/params could be read
  CoherentMode coherent = CoherentMode::kUnknown;  // as NVreg_CoherentGPUMemoryMode asks
};

NvidiaFiles ReadNvidiaFiles(const Sysroot& root);
std::string ParseNvidiaVersion(std::string_view text);
CoherentMode ParseCoherentMode(std::string_view params);

// A GPU as some source knows it, for telling HBM nodes from RAM. Fields that
// the source does not give stay at their defaults.
struct GpuHint {
  std::string name;
  uint64_t bytes = 0;       // total memory; 0: not known
  std::string pci_address;  // as written there
  int hbm_node = -1;        // the NUMA node that its HBM is, by the driver's word
  bool coherence_known = false;
  bool coherent = false;    // shares the host's page tables, over C2C
  bool integrated = false;  // has no memory but the host's (GB10, Thor, Orin)
};

// GH200, GB200, GB300: an HBM GPU beside a Grace CPU, linked by NVLink-C2C.
bool IsGraceProduct(std::string_view name);

// Whether the GPU shares the host's page tables: as its source says, or by its name.
bool IsCoherent(const GpuHint& gpu);

// From nvidia-smi.txt in a fixture, else names alone from /proc/driver/nvidia/gpus.
std::vector<GpuHint> ReadGpuHints(const Sysroot& root);
// The table that plain `nvidia-smi` prints.
std::vector<GpuHint> ParseNvidiaSmi(std::string_view text);

}  // namespace gpuroom
