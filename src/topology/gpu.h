// The GPUs as the CUDA driver describes them: sizes, nodes, links, peers and
// what their attributes promise (doctor tries the promises). Reads attributes
// only: creates no context and allocates nothing. Immutable facts; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "driver/driver.h"
#include "topology/nvidia_files.h"
#include "topology/pci.h"
#include "topology/sysroot.h"

namespace gpuroom {

enum class HostLinkKind {
  kUnknown,  // neither the bus nor the attributes say
  kPcie,
  kC2c,      // NVLink-C2C: coherent, over the host's page tables
  kUnified,  // no memory of its own: host memory is the GPU's memory
};

struct HostLink {
  HostLinkKind kind = HostLinkKind::kUnknown;
  double gigabytes_per_second = 0;  // host to device by copy; always an estimate; 0: unknown
  PciLink current;                  // kPcie
  PciLink maximum;
};

struct GpuPeer {
  int ordinal = 0;
  bool access = false;
  int performance_rank = -1;  // lower is faster, 0 the best; -1: not told
};

struct Gpu {
  int ordinal = 0;
  CUdevice device = 0;
  std::string name;
  std::string uuid;         // "GPU-xxxxxxxx-..."
  std::string pci_address;  // "0000:17:00.0"
  uint64_t total_bytes = 0;
  int compute_major = 0;
  int compute_minor = 0;
  int host_numa_node = -1;  // -1: the driver does not say
  int hbm_numa_node = -1;   // -1: its memory is no NUMA node
  int compute_mode = -1;    // a CUcomputemode: who may use it; -1: the driver does not say
  bool integrated = false;
  bool pageable_memory_access = false;
  bool uses_host_page_tables = false;  // coherent
  bool concurrent_managed = false;
  bool vmm = false;
  bool host_numa_vmm = false;
  bool memory_pools = false;
  bool posix_handles = false;
  bool fabric_handles = false;
  bool rdma_with_vmm = false;
  HostLink link;
  std::vector<GpuPeer> peers;
};

// Initialises the driver. kNotFound: no GPU; kUnsupported: the driver cannot
// start here; kDriver: a call failed, native() is its CUresult.
Result<std::vector<Gpu>> ReadGpus(const Driver& driver, const Sysroot& root);

// What the NUMA model needs of them.
std::vector<GpuHint> HintsOf(const std::vector<Gpu>& gpus);

HostLink ReadHostLink(const Gpu& gpu, const Sysroot& root);
// The same from a name and an address alone.
HostLink ReadHostLink(const GpuHint& hint, const Sysroot& root);

}  // namespace gpuroom
