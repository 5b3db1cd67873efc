#include "topology/host_model.h"

#include <algorithm>
#include <climits>
#include <optional>

#include "base/size.h"

namespace gpuroom {
namespace {

// No Grace machine is sold with less LPDDR, so an OS that has less was not given it all.
constexpr uint64_t kLeastGraceRam = 32 * kGiB;

constexpr char kNodes[] = "/sys/devices/system/node";

std::vector<int> NodeIds(const Sysroot& root) {
  std::vector<int> ids = ParseIdList(root.ReadLine(std::string(kNodes) + "/online").value_or(""));
  if (!ids.empty()) return ids;
  for (const std::string& name : root.List(kNodes)) {  // `online` is missing or garbage
    if (!name.starts_with("node")) continue;
    const std::optional<uint64_t> id = ParseNumber(std::string_view(name).substr(4));
    if (id && *id <= 4095) ids.push_back(static_cast<int>(*id));
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

NumaNode ReadNode(const Sysroot& root, int id) {
  NumaNode node;
  node.id = id;
  const std::string directory = std::string(kNodes) + "/node" + std::to_string(id);
  node.cpus = root.ReadLine(directory + "/cpulist").value_or("");
  const MemInfo info = ParseMemInfo(root.Read(directory + "/meminfo").value_or(""));
  node.total = info.GetOr("MemTotal", 0);
  node.free = std::min(info.GetOr("MemFree", 0), node.total);
  node.reclaimable = std::min(ReclaimableBytes(info), node.total - node.free);
  const std::string text = root.ReadLine(directory + "/distance").value_or("");
  std::string_view rest = text;
  while (!rest.empty()) {
    const size_t space = rest.find(' ');
    const std::optional<uint64_t> distance = ParseNumber(rest.substr(0, space));
    if (!distance || *distance > 255) break;
    node.distances.push_back(static_cast<int>(*distance));
    if (space == std::string_view::npos) break;
    rest.remove_prefix(space + 1);
  }
  return node;
}

// The kernel's own tables take up to 1.6% of onlined memory, the driver keeps a
// little of a GPU's back, and CUDA reports less than nvidia-smi: one GPU's sizes
// match within a few percent, in either direction.
bool Near(uint64_t one, uint64_t other) {
  const uint64_t larger = std::max(one, other);
  const uint64_t smaller = std::min(one, other);
  return smaller > 0 && larger - smaller <= larger / 100 * 4;
}

int MatchingGpu(const HostModel& model, const NumaNode& node) {
  for (size_t i = 0; i < model.gpus.size(); ++i) {
    const GpuHint& gpu = model.gpus[i];
    if (gpu.hbm_node == node.id) return static_cast<int>(i);
    if (gpu.integrated || !IsCoherent(gpu)) continue;  // memory across PCIe is no node
    const bool taken = std::any_of(model.nodes.begin(), model.nodes.end(), [&](const NumaNode& other) {
      return other.kind == NodeKind::kHbm && other.gpu == static_cast<int>(i);
    });
    if (!taken && Near(node.total, gpu.bytes)) return static_cast<int>(i);
  }
  return -1;
}

// One region is one GPU, unless holes split a GPU's memory into several: then
// the nodes without CPUs must add up to the regions.
bool MatchesNvidiaRegion(const HostModel& model, uint64_t bytes) {
  const IoMem& iomem = model.iomem;
  uint64_t without_cpus = 0;
  for (const NumaNode& node : model.nodes) {
    if (node.cpus.empty()) without_cpus += node.total;
  }
  if (Near(without_cpus, iomem.NvidiaBytes())) return true;
  return std::any_of(iomem.nvidia.begin(), iomem.nvidia.end(),
                     [bytes](const MemoryRegion& region) { return Near(bytes, region.bytes); });
}

// Whether the GPUs' sizes are known, and no division of their memory gives `node`: it is something else,
// then.
bool FitsNoGpu(const HostModel& model, int gpu) {
  uint64_t of_gpus = 0;
  uint64_t of_nodes = 0;
  for (const GpuHint& hint : model.gpus) {
    if (hint.bytes == 0) return false;
    of_gpus += hint.bytes;
  }
  for (const NumaNode& node : model.nodes) {
    if (node.cpus.empty()) of_nodes += node.total;
  }
  return gpu < 0 && of_gpus > 0 && !Near(of_nodes, of_gpus);
}

// A memory-only node: HBM, or something else? Empty: something else.
std::string HbmEvidence(const HostModel& model, const NumaNode& node, int gpu) {
  const bool by_driver = gpu >= 0 && model.gpus[static_cast<size_t>(gpu)].hbm_node == node.id;
  if (by_driver) return "the driver says that it is the GPU's memory";
  const std::string size = gpu >= 0 ? " and its size fits the GPU's memory" : "";
  const IoMem& iomem = model.iomem;
  if (iomem.nvidia_named && !iomem.addresses_hidden) {
    if (MatchesNvidiaRegion(model, node.total)) {
      return "/proc/iomem lists it as 'System RAM (NVIDIA)'" + size;
    }
    return gpu >= 0 ? "/proc/iomem has 'System RAM (NVIDIA)'" + size : "";
  }
  // Names are shown to everybody; addresses, and so sizes, to root alone.
  if (iomem.nvidia_named) {
    if (FitsNoGpu(model, gpu)) return "";
    return "/proc/iomem names 'System RAM (NVIDIA)' (its addresses are hidden from this user)" + size;
  }
  if (iomem.readable) return "";  // a full list without that name: no HBM is online
  return gpu >= 0 ? "it has no CPUs" + size : "";
}

void ClassifyNodes(HostModel* model) {
  for (NumaNode& node : model->nodes) {
    if (node.total == 0) continue;
    node.kind = NodeKind::kRam;
    if (!node.cpus.empty()) continue;
    node.kind = NodeKind::kMemoryOnly;
    const int gpu = MatchingGpu(*model, node);
    node.evidence = HbmEvidence(*model, node, gpu);
    if (node.evidence.empty()) continue;
    node.kind = NodeKind::kHbm;
    node.gpu = gpu;
  }
}

void AddUp(HostModel* model) {
  uint64_t in_nodes = 0;
  for (const NumaNode& node : model->nodes) {
    in_nodes += node.total;
    if (node.kind == NodeKind::kHbm) model->hbm_as_ram += node.total;
  }
  model->os_total = model->meminfo.GetOr("MemTotal", in_nodes);
  if (model->hbm_as_ram > 0) {
    model->real_ram = in_nodes - model->hbm_as_ram;
  } else {
    model->real_ram = model->os_total;
  }
}

bool IsGrace(const HostModel& model) {
  if (model.hbm_as_ram > 0) return true;
  return std::any_of(model.gpus.begin(), model.gpus.end(),
                     [](const GpuHint& gpu) { return !gpu.integrated && IsCoherent(gpu); });
}

// The driver's parameter asks for a node, or /proc/iomem has the memory that the driver gave the OS.
bool HasOfflineHbm(const HostModel& model) {
  const CoherentMode asked = model.nvidia.coherent;
  if (!model.grace || model.hbm_as_ram > 0 || asked == CoherentMode::kDriver) return false;
  return asked == CoherentMode::kNuma || model.iomem.nvidia_named;
}

std::vector<HugePages> ReadHugePages(const Sysroot& root, const MemInfo& meminfo) {
  constexpr char kFolder[] = "/sys/kernel/mm/hugepages";
  constexpr std::string_view kPrefix = "hugepages-";
  std::vector<HugePages> sizes;
  for (const std::string& name : root.List(kFolder)) {
    if (!name.starts_with(kPrefix) || !name.ends_with("kB")) continue;
    const std::string digits = name.substr(kPrefix.size(), name.size() - kPrefix.size() - 2);
    const std::string count = root.ReadLine(std::string(kFolder) + "/" + name + "/nr_hugepages").value_or("");
    const uint64_t kib = ParseNumber(digits).value_or(0);
    if (kib <= kMostPlausibleBytes / kKiB) sizes.push_back({kib * kKiB, ParseNumber(count).value_or(0)});
  }
  // meminfo has those of the usual size alone.
  if (sizes.empty()) sizes.push_back({meminfo.GetOr("Hugepagesize", 0), meminfo.GetOr("HugePages_Total", 0)});
  const uint64_t total = meminfo.GetOr("MemTotal", 0);
  std::erase_if(sizes, [total](const HugePages& pages) {
    return pages.count == 0 || pages.page_bytes == 0 || pages.count > total / pages.page_bytes;
  });
  return sizes;
}

// From the line "Mems_allowed_list:" of a process's status; empty where there is none.
std::optional<std::vector<int>> ReadMemsAllowed(const Sysroot& root) {
  constexpr std::string_view kKey = "Mems_allowed_list:";
  const std::string text = root.Read("/proc/self/status").value_or("");
  for (const std::string_view line : SplitLines(text)) {
    if (!line.starts_with(kKey)) continue;
    std::vector<int> nodes = ParseIdList(line.substr(kKey.size()));
    if (!nodes.empty()) return nodes;
  }
  return std::nullopt;
}

EgmEstimate EstimateEgm(const HostModel& model) {
  EgmEstimate egm;
  if (!model.grace) return egm;
  egm.installed = model.installed.bytes;
  egm.installed_source = model.installed.source;
  uint64_t most_for_os = egm.installed / 4 * 3;
  if (egm.installed == 0) {
    for (const GpuHint& gpu : model.gpus) egm.installed += LpddrFromName(gpu.name);
    egm.installed_source = "the product name";
    // A virtual machine carries the product's name and may have a slice of its
    // memory: believe the name only where the OS has next to nothing.
    most_for_os = egm.installed / 8;
  }
  const uint64_t regions = model.iomem.RamBytes();
  egm.os_share = regions > 0 ? regions : model.real_ram;
  egm.os_share_source = regions > 0 ? "/proc/iomem" : "the NUMA nodes";
  egm.present = egm.installed > 0 && egm.os_share > 0 && egm.os_share < most_for_os;
  if (egm.present) egm.bytes = egm.installed - egm.os_share;
  return egm;
}

bool SuspectsEgm(const HostModel& model) {
  return model.grace && !model.egm.present && model.egm.installed == 0 && model.real_ram < kLeastGraceRam;
}

}  // namespace

const NumaNode* HostModel::FindNode(int id) const {
  for (const NumaNode& node : nodes) {
    if (node.id == id) return &node;
  }
  return nullptr;
}

bool HostModel::MayUse(int node) const {
  return !mems_allowed || std::find(mems_allowed->begin(), mems_allowed->end(), node) != mems_allowed->end();
}

uint64_t HostModel::MemoryOf(const GpuHint& gpu) const {
  return gpu.integrated && gpu.bytes == 0 ? real_ram : gpu.bytes;
}

std::vector<int> HostModel::NodesOf(NodeKind kind) const {
  std::vector<int> ids;
  for (const NumaNode& node : nodes) {
    if (node.kind == kind) ids.push_back(node.id);
  }
  return ids;
}

std::vector<int> NearestNodes(const HostModel& model, int node) {
  const NumaNode* from = model.FindNode(node);
  std::vector<int> others = model.NodesOf(NodeKind::kRam);
  std::erase_if(others, [&](int other) { return other == node || !model.MayUse(other); });
  // The kernel lists the distances of the nodes that are online, in their order.
  const auto distance = [&](int other) {
    const auto index = static_cast<size_t>(model.FindNode(other) - model.nodes.data());
    return from != nullptr && index < from->distances.size() ? from->distances[index] : INT_MAX;
  };
  std::stable_sort(others.begin(), others.end(), [&](int a, int b) { return distance(a) < distance(b); });
  return others;
}

std::vector<int> NearestNodes(int node) { return NearestNodes(ReadHostModel(Sysroot("/")), node); }

const char* NodeKindName(NodeKind kind) {
  switch (kind) {
    case NodeKind::kRam: return "RAM";
    case NodeKind::kHbm: return "HBM";
    case NodeKind::kMemoryOnly: return "memory without CPUs";
    case NodeKind::kEmpty: return "empty";
  }
  return "unknown";
}

uint64_t LpddrFromName(std::string_view name) {
  if (name.find("GH200") == std::string_view::npos || name.find("HBM") != std::string_view::npos) return 0;
  const size_t unit = name.rfind("GB");
  if (unit == std::string_view::npos) return 0;
  size_t start = unit;
  while (start > 0 && name[start - 1] >= '0' && name[start - 1] <= '9') --start;
  const std::optional<uint64_t> number = ParseNumber(name.substr(start, unit - start));
  // Under 200 it is the HBM of the part (96, 144), not its LPDDR (480, 624).
  return number && *number >= 200 && *number <= 4096 ? *number * kGiB : 0;
}

HostModel ReadHostModel(const Sysroot& root, std::vector<GpuHint> gpus) {
  HostModel model;
  model.meminfo = ParseMemInfo(root.Read("/proc/meminfo").value_or(""));
  model.iomem = ParseIoMem(root.Read("/proc/iomem").value_or(""));
  model.cgroup = ReadCgroupMemory(root);
  model.nvidia = ReadNvidiaFiles(root);
  model.installed = ReadInstalledMemory(root);
  model.huge_pages = ReadHugePages(root, model.meminfo);
  model.mems_allowed = ReadMemsAllowed(root);
  model.auto_online = root.ReadLine("/sys/devices/system/memory/auto_online_blocks").value_or("");
  model.pci_gpus = ListNvidiaGpus(root);
  model.gpus = gpus.empty() ? ReadGpuHints(root) : std::move(gpus);
  for (const int id : NodeIds(root)) model.nodes.push_back(ReadNode(root, id));
  ClassifyNodes(&model);
  AddUp(&model);
  model.grace = IsGrace(model);
  model.hbm_offline = HasOfflineHbm(model);
  model.egm = EstimateEgm(model);
  model.egm_suspected = SuspectsEgm(model);
  return model;
}

}  // namespace gpuroom
