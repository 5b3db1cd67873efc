// What the files say this machine's memory is: which NUMA nodes are real RAM
// and which are HBM that the NVIDIA driver brought online, how much the OS
// really has, and how large EGM (Extended GPU Memory: LPDDR that the firmware
// keeps from the OS for the GPU) must be. A snapshot; immutable after reading;
// any thread. Calls no CUDA: what the driver knows comes in as GpuHints.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "topology/cgroup.h"
#include "topology/dmi.h"
#include "topology/memory_files.h"
#include "topology/nvidia_files.h"
#include "topology/pci.h"
#include "topology/sysroot.h"

namespace gpuroom {

enum class NodeKind {
  kRam,         // has CPUs and memory: ordinary host memory
  kHbm,         // a GPU's memory, onlined as a NUMA node
  kMemoryOnly,  // memory without CPUs that no GPU explains, such as CXL
  kEmpty,       // no memory (Grace keeps such nodes for MIG instances)
};

struct NumaNode {
  int id = 0;
  NodeKind kind = NodeKind::kEmpty;
  std::string cpus;  // "0-71"; empty: none
  uint64_t total = 0;
  uint64_t free = 0;
  uint64_t reclaimable = 0;  // file pages that can be dropped
  std::vector<int> distances;
  int gpu = -1;          // kHbm: index into HostModel::gpus; -1: not known which
  std::string evidence;  // kHbm: why it is taken for HBM
};

struct HugePages {
  uint64_t page_bytes = 0;
  uint64_t count = 0;
};

struct EgmEstimate {
  bool present = false;
  uint64_t bytes = 0;      // installed - os_share; an estimate always
  uint64_t installed = 0;  // LPDDR in the machine
  uint64_t os_share = 0;   // RAM that the firmware gave the OS
  std::string installed_source;
  std::string os_share_source;
};

struct HostModel {
  MemInfo meminfo;
  IoMem iomem;
  std::vector<NumaNode> nodes;  // by id; empty: the kernel shows no NUMA nodes
  std::vector<GpuHint> gpus;
  std::vector<PciGpu> pci_gpus;
  CgroupMemory cgroup;
  NvidiaFiles nvidia;
  InstalledMemory installed;
  EgmEstimate egm;
  uint64_t os_total = 0;                         // what `free` shows, HBM nodes included
  uint64_t real_ram = 0;                         // without HBM nodes
  uint64_t hbm_as_ram = 0;                       // HBM that the OS takes for its own
  std::vector<HugePages> huge_pages;             // those reserved, by size
  std::optional<std::vector<int>> mems_allowed;  // the nodes that the cpuset lets this process have memory of
  std::string
      auto_online;  // what the kernel does with memory that a driver adds: "offline", "online_movable"

  const NumaNode* FindNode(int id) const;
  // False where the cpuset keeps this process from the node's memory.
  bool MayUse(int node) const;
  std::vector<int> NodesOf(NodeKind kind) const;
  // Bytes of the GPU's own memory, which is the host's for an integrated one; 0: not known.
  uint64_t MemoryOf(const GpuHint& gpu) const;
  // A Grace machine (GH200, GB200, ...), whose GPU reaches LPDDR over C2C.
  bool grace = false;
  // The driver gives HBM to the OS as a NUMA node, and nobody brought that online: its memory is nobody's.
  bool hbm_offline = false;
  // The OS has so little real memory that EGM must be on, and nothing tells how much LPDDR there is
  // (the DMI tables are root's, and few product names give it).
  bool egm_suspected = false;
};

// The nodes with CPUs and memory of their own that this process may use, `node` left out, by their distance
// from it.
std::vector<int> NearestNodes(const HostModel& model, int node);
// The same of this machine, read now.
std::vector<int> NearestNodes(int node);

// `gpus` as the driver knows them; empty: what files say (ReadGpuHints).
HostModel ReadHostModel(const Sysroot& root, std::vector<GpuHint> gpus = {});

const char* NodeKindName(NodeKind kind);

// "NVIDIA GH200 480GB" as 480 GiB: the LPDDR that the product name gives; 0
// when the name gives none or gives the HBM ("GH200 144G HBM3e").
uint64_t LpddrFromName(std::string_view name);

}  // namespace gpuroom
