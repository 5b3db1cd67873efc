#include "cli/doctor_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/size.h"

namespace gpuroom {
namespace {

constexpr char kHostGroup[] = "memory";

std::string Names(const std::vector<int>& ids) {
  return fmt::format("{} {}", ids.size() == 1 ? "node" : "nodes", fmt::join(ids, ", "));
}

std::string Mebibytes(uint64_t bytes) { return fmt::format("{} MiB", bytes / kMiB); }

// Binding to RAM is no help where EGM leaves the OS next to none.
std::string HbmNodeFix(const HostModel& model) {
  if (model.egm.present) {
    return fmt::format(
        "let the driver keep its memory (CDMM, see cdmm) and keep programs' own host memory within {}",
        FormatSize(model.real_ram));
  }
  return fmt::format(
      "start programs with 'numactl --membind={}', or let the driver keep its memory (CDMM, see cdmm)",
      fmt::join(model.NodesOf(NodeKind::kRam), ","));
}

Fact NodeFact(const HostModel& model, const NumaNode& node) {
  Fact fact{kHostGroup, fmt::format("node{}", node.id), FactStatus::kOk, "", "", "", node.total};
  fact.value = fmt::format("{}, {} ({}), {} free", NodeKindName(node.kind), FormatSize(node.total),
                           Mebibytes(node.total), FormatSize(node.free));
  if (node.kind == NodeKind::kRam) {
    fact.meaning = fmt::format("Host memory with CPUs {}.", node.cpus);
  } else if (node.kind == NodeKind::kHbm) {
    const std::string gpu =
        node.gpu >= 0 ? fmt::format("GPU {} ({})", node.gpu, model.gpus[static_cast<size_t>(node.gpu)].name)
                      : "a GPU";
    fact.status = FactStatus::kWarn;
    fact.meaning = fmt::format(
        "This is the HBM of {} and not RAM: {}. Page cache, pinned buffers and ordinary heaps that the OS "
        "puts "
        "here take GPU memory.",
        gpu, node.evidence);
    fact.fix = HbmNodeFix(model);
  } else {
    fact.meaning = "No CPUs and no GPU that explains it (CXL, for one); not used for the host tier.";
  }
  return fact;
}

// The nodes of GPUs for which `matches` holds, each once.
template <typename Matches>
std::vector<int> NodesOfGpus(const HostModel& model, Matches matches) {
  std::vector<int> nodes;
  for (const PciGpu& gpu : model.pci_gpus) {
    const bool known = std::find(nodes.begin(), nodes.end(), gpu.numa_node) != nodes.end();
    if (!known && gpu.numa_node >= 0 && matches(gpu.numa_node)) nodes.push_back(gpu.numa_node);
  }
  return nodes;
}

Fact EmptyNodesFact(const HostModel& model) {
  Fact fact{kHostGroup, "empty_nodes", FactStatus::kOk, Names(model.NodesOf(NodeKind::kEmpty)), "", "", {}};
  const std::vector<int> beside_gpus = NodesOfGpus(model, [&model](int id) {
    const NumaNode* node = model.FindNode(id);
    return node != nullptr && node->kind == NodeKind::kEmpty;
  });
  if (!beside_gpus.empty()) {
    fact.status = FactStatus::kWarn;
    fact.meaning =
        fmt::format("A GPU is beside {}, which has no memory: its host memory comes from farther away.",
                    Names(beside_gpus));
    fact.fix =
        "fill the memory channels of that part of the processor, or have the BIOS make one node a socket "
        "(NPS1)";
    return fact;
  }
  fact.meaning = model.grace ? "No memory there; Grace machines keep such nodes for MIG instances."
                             : "No memory there, and no GPU beside them.";
  return fact;
}

void AddNodes(const HostModel& model, DoctorReport* report) {
  for (const NumaNode& node : model.nodes) {
    if (node.kind != NodeKind::kEmpty) report->Add(NodeFact(model, node));
  }
  if (!model.NodesOf(NodeKind::kEmpty).empty()) report->Add(EmptyNodesFact(model));
  if (model.nodes.empty()) {
    report->Add({kHostGroup,
                 "nodes",
                 FactStatus::kOk,
                 "none shown",
                 "The kernel has no NUMA nodes to tell apart.",
                 "",
                 {}});
  }
}

Fact IomemFact(const HostModel& model) {
  Fact fact{kHostGroup, "iomem", FactStatus::kOk, "", "", "", {}};
  if (!model.iomem.readable) {
    fact.value = "not readable";
    fact.meaning = "/proc/iomem would say by name which memory is HBM; sizes decide instead.";
  } else if (model.iomem.addresses_hidden) {
    fact.value = "addresses hidden (all zeros)";
    fact.meaning = "Only root sees the addresses in /proc/iomem; names are shown, sizes are not.";
    if (model.grace) {
      fact.status = FactStatus::kWarn;
      fact.fix = "run doctor as root to have the sizes confirmed";
    }
  } else {
    fact.value = fmt::format("System RAM {}, System RAM (NVIDIA) {}", FormatSize(model.iomem.RamBytes()),
                             FormatSize(model.iomem.NvidiaBytes()));
    fact.meaning = "The NVIDIA entries are HBM that the driver brought online.";
    if (!model.iomem.nvidia_named) fact.meaning = "No HBM is online as RAM.";
  }
  return fact;
}

Fact RealRamFact(const HostModel& model) {
  Fact fact{kHostGroup, "real_ram", FactStatus::kOk, FormatSize(model.real_ram), "", "", model.real_ram};
  if (model.real_ram == 0) {
    fact.status = FactStatus::kWarn;
    fact.value = "unknown";
    fact.meaning = "Neither /proc/meminfo nor the NUMA nodes can be read.";
    fact.fix = "mount /proc and /sys";
  } else if (model.hbm_as_ram > 0) {
    fact.status = FactStatus::kWarn;
    fact.value += fmt::format(" ({})", Mebibytes(model.real_ram));
    fact.meaning = fmt::format(
        "This is all the real memory that the OS has. `free` shows {}, but {} of that is HBM onlined as {}.",
        FormatSize(model.os_total), FormatSize(model.hbm_as_ram), Names(model.NodesOf(NodeKind::kHbm)));
    fact.fix = "do not size page cache, pinned buffers or data loaders by what `free` shows";
  } else {
    fact.meaning = "All of what `free` shows is real memory.";
  }
  return fact;
}

std::string EgmMeaning(const HostModel& model) {
  const EgmEstimate& egm = model.egm;
  std::string text = fmt::format(
      "EGM is on: of {} of LPDDR ({}) the firmware gave the OS {} ({}), and the rest is for the GPU. This is "
      "an "
      "estimate: no file or driver call gives EGM's size, the firmware and the driver keep some of it for "
      "themselves, and the installed size is a rounded figure.",
      FormatSize(egm.installed), egm.installed_source, FormatSize(egm.os_share), egm.os_share_source);
  if (model.hbm_as_ram > 0 && egm.installed > model.os_total) {
    text += fmt::format(
        " Taking all that `free` shows ({}) from the installed size gives {} and is wrong: {} is HBM, not "
        "left-over "
        "LPDDR.",
        FormatSize(model.os_total), FormatSize(egm.installed - model.os_total),
        Names(model.NodesOf(NodeKind::kHbm)));
  }
  return text;
}

Fact EgmFact(const HostModel& model) {
  Fact fact{kHostGroup, "egm", FactStatus::kOk, "", "", "", {}};
  if (model.egm.present) {
    fact.value = fmt::format("about {} (estimated)", FormatSize(model.egm.bytes));
    fact.meaning = EgmMeaning(model);
    fact.bytes = model.egm.bytes;
  } else if (!model.grace) {
    fact.value = "not applicable";
    fact.meaning = "Only Grace machines have Extended GPU Memory.";
  } else if (model.egm_suspected) {
    fact.status = FactStatus::kWarn;
    fact.value = "unknown";
    fact.meaning = fmt::format(
        "The OS has only {} of real memory, which suggests that EGM is on, but how much LPDDR is installed "
        "cannot "
        "be read.",
        FormatSize(model.real_ram));
    fact.fix = "run as root, or give --host-limit yourself";
  } else {
    fact.value = "off";
    fact.meaning = "The OS has the LPDDR itself; the host tier is ordinary memory of its NUMA node.";
  }
  return fact;
}

Fact CdmmFact(const HostModel& model) {
  Fact fact{kHostGroup, "cdmm", FactStatus::kOk, "", "", "", {}};
  const CoherentMode asked = model.nvidia.coherent;
  if (!model.grace) {
    fact.value = "not applicable";
    fact.meaning = "Only coherent GPUs (Grace machines) can be NUMA nodes.";
  } else if (model.hbm_offline) {
    fact.status = FactStatus::kWarn;
    fact.value = "off (HBM in NUMA mode is not online)";
    fact.meaning = fmt::format(
        "The driver gives HBM to the OS as a NUMA node, and none is online, so programs on the GPU find no "
        "memory. /sys/devices/system/memory/auto_online_blocks is '{}'.",
        model.auto_online.empty() ? "not known" : model.auto_online);
    fact.fix =
        "boot with memhp_default_state=online_movable, or write online_movable into auto_online_blocks "
        "(auto_online_blocks=online_movable) before the driver loads";
  } else if (model.hbm_as_ram > 0) {
    fact.status = FactStatus::kWarn;
    fact.value = "off (HBM is a NUMA node)";
    fact.meaning = "The OS uses HBM as if it were RAM.";
    fact.fix =
        "with driver 580 or newer set 'options nvidia NVreg_CoherentGPUMemoryMode=driver' in /etc/modprobe.d "
        "and "
        "reload the driver";
    if (asked == CoherentMode::kDriver) {
      fact.meaning += " The module parameter asks for CDMM, but the node is online.";
      fact.fix = "reload the driver or reboot";
    }
  } else {
    fact.value = "on (the driver manages HBM)";
    fact.meaning = asked == CoherentMode::kDriver ? "NVreg_CoherentGPUMemoryMode=driver is set."
                   : model.nvidia.major >= 615    ? "It is the default from driver 615 on."
                                                  : "Inferred: no HBM is online as a NUMA node.";
    fact.meaning += " HBM is no NUMA node, and what the OS shows is real memory.";
  }
  return fact;
}

Fact CgroupFact(const HostModel& model, const HostBudget& budget) {
  Fact fact{kHostGroup, "cgroup", FactStatus::kOk, "no limit", "", "", {}};
  const CgroupMemory& cgroup = model.cgroup;
  if (!cgroup.limited) {
    fact.meaning = "No control group limits this process's memory.";
    return fact;
  }
  fact.bytes = cgroup.limit;
  fact.value = fmt::format("{}, {} in use, {} left", FormatSize(cgroup.limit), FormatSize(cgroup.used),
                           FormatSize(cgroup.remaining));
  fact.meaning = fmt::format("{} (version {}).", cgroup.file, cgroup.version);
  if (budget.limited_by.find("cgroup") != std::string::npos) {
    fact.status = FactStatus::kWarn;
    fact.meaning += " It is what limits the host tier: host chunks count against it.";
    fact.fix = "raise the container's memory limit (docker run --memory, a pod's resources.limits.memory)";
  }
  return fact;
}

Fact HugePagesFact(const HostModel& model) {
  Fact fact{kHostGroup, "hugepages", FactStatus::kOk, "none reserved", "", "", {}};
  fact.meaning = "gpuroom does not need reserved huge pages; the driver's chunks are 2 MiB by themselves.";
  if (model.huge_pages.empty()) return fact;
  std::vector<std::string> sizes;
  uint64_t bytes = 0;
  for (const HugePages& pages : model.huge_pages) {
    const uint64_t size = pages.count * pages.page_bytes;
    sizes.push_back(
        fmt::format("{} of {} ({})", pages.count, FormatSize(pages.page_bytes), FormatSize(size)));
    bytes += size;
  }
  fact.status = FactStatus::kWarn;
  fact.bytes = bytes;
  fact.value = fmt::format("{}", fmt::join(sizes, ", "));
  fact.meaning =
      "Reserved huge pages are set aside for programs that ask for them; the host tier cannot use them.";
  fact.fix =
      "if nothing uses them, lower nr_hugepages below /sys/kernel/mm/hugepages, and what sets it: "
      "vm.nr_hugepages, or hugepages= on the kernel's command line";
  return fact;
}

// Which nodes' memory the cpuset allows; nullopt: all.
std::optional<Fact> CpusetFact(const HostModel& model) {
  if (!model.mems_allowed) return std::nullopt;
  std::vector<int> allowed = model.NodesOf(NodeKind::kRam);
  const size_t all = allowed.size();
  std::erase_if(allowed, [&model](int node) { return !model.MayUse(node); });
  Fact fact{kHostGroup, "cpuset", FactStatus::kOk, "all nodes", "", "", {}};
  if (allowed.size() == all) {
    fact.meaning = "This process may have memory of every NUMA node.";
    return fact;
  }
  fact.value = allowed.empty() ? "no node that has memory" : fmt::format("{} alone", Names(allowed));
  const std::vector<int> kept_out = NodesOfGpus(model, [&model](int node) { return !model.MayUse(node); });
  fact.status = FactStatus::kWarn;
  fact.meaning = "The cpuset of this process has no other node's memory, and the host tier is sized by it.";
  if (!kept_out.empty()) fact.meaning += fmt::format(" A GPU is beside {}.", Names(kept_out));
  fact.fix = "give the process the nodes beside its GPUs (docker run --cpuset-mems, numactl, cpuset.mems)";
  return fact;
}

}  // namespace

void AddHostFacts(const HostModel& model, const HostBudget& budget, DoctorReport* report) {
  AddNodes(model, report);
  report->Add(RealRamFact(model));
  report->Add(IomemFact(model));
  report->Add(EgmFact(model));
  report->Add(CdmmFact(model));
  report->Add(CgroupFact(model, budget));
  if (std::optional<Fact> cpuset = CpusetFact(model)) report->Add(std::move(*cpuset));
  report->Add(HugePagesFact(model));
}

namespace {

Fact HostPoolFact(const HostBudget& budget) {
  Fact fact{"pool", "host", FactStatus::kOk, FormatSize(budget.bytes), "", "", budget.bytes};
  if (budget.available == 0) {
    fact.status = FactStatus::kWarn;
    fact.value = "nothing";
    fact.meaning = fmt::format("No host memory can be offered; the limit is {}.", budget.limited_by);
    fact.fix = "free memory or raise that limit";
    return fact;
  }
  fact.meaning = fmt::format("{} available (limited by {}) less a reserve of {}.",
                             FormatSize(budget.available), budget.limited_by, FormatSize(budget.reserve));
  if (budget.estimated) fact.value = "about " + fact.value;
  if (!budget.egm && budget.node >= 0) fact.meaning += fmt::format(" Sized by NUMA node {}.", budget.node);
  return fact;
}

Fact GpuPoolFact(const GpuPool& pool, bool integrated, bool estimated) {
  const uint64_t total = pool.device_bytes + pool.host_bytes;
  Fact fact{"pool", fmt::format("gpu{}", pool.ordinal), FactStatus::kOk, "", "", "", total};
  fact.value = fmt::format("{}{}", estimated ? "about " : "", FormatSize(total));
  if (integrated) {
    fact.status = FactStatus::kWarn;
    fact.meaning = "This GPU's memory is the host's memory: there is no second tier to add.";
    fact.fix = "nothing to do; free host memory instead";
    return fact;
  }
  fact.meaning = fmt::format("What `gpuroom run` offers: {} of HBM and {} of host memory.",
                             FormatSize(pool.device_bytes), FormatSize(pool.host_bytes));
  return fact;
}

}  // namespace

void AddPool(const HostModel& model, const HostBudget& budget, DoctorReport* report) {
  OfferedPool pool{
      budget.bytes, budget.available, budget.reserve, budget.limited_by, budget.egm, budget.estimated, {}};
  report->Add(HostPoolFact(budget));
  for (size_t i = 0; i < model.gpus.size(); ++i) {
    const GpuHint& gpu = model.gpus[i];
    const uint64_t own = model.MemoryOf(gpu);
    if (own == 0) continue;
    const GpuPool offered{static_cast<int>(i), gpu.name, own, gpu.integrated ? 0 : budget.bytes};
    report->Add(GpuPoolFact(offered, gpu.integrated, budget.estimated));
    pool.gpus.push_back(offered);
  }
  if (pool.gpus.size() > 1) {
    report->Add({"pool", "shared", FactStatus::kOk, FormatSize(budget.bytes),
                 "The GPUs share this host memory: it is there once, not once for each.", "", budget.bytes});
  }
  report->SetPool(std::move(pool));
}

}  // namespace gpuroom
