#include "topology/host_budget.h"

#include <algorithm>
#include <optional>

#include "base/size.h"
#include "topology/host_model.h"

namespace gpuroom {
namespace {

constexpr uint64_t kGranularity = 2 * kMiB;
constexpr uint64_t kLeastReserve = 2 * kGiB;

// The smallest of several answers, and which one it was.
class Tightest {
 public:
  void Consider(uint64_t bytes, std::string words) {
    if (known_ && bytes >= bytes_) return;
    known_ = true;
    bytes_ = bytes;
    words_ = std::move(words);
  }
  bool known() const { return known_; }
  uint64_t bytes() const { return bytes_; }
  const std::string& words() const { return words_; }

 private:
  bool known_ = false;
  uint64_t bytes_ = 0;
  std::string words_;
};

uint64_t Obtainable(const NumaNode& node) { return node.free + node.reclaimable; }

uint64_t ObtainableIn(const HostModel& model, NodeKind kind) {
  uint64_t bytes = 0;
  for (const NumaNode& node : model.nodes) {
    if (node.kind == kind) bytes += Obtainable(node);
  }
  return bytes;
}

// The RAM node that every GPU can be served from: the GPUs' own, of several the
// one with least free, since one budget serves them all. -1: nothing says.
int ChooseNode(const HostModel& model) {
  int chosen = -1;
  for (const PciGpu& gpu : model.pci_gpus) {
    const NumaNode* node = model.FindNode(gpu.numa_node);
    if (node == nullptr || node->kind != NodeKind::kRam) continue;
    if (chosen < 0 || Obtainable(*node) < Obtainable(*model.FindNode(chosen))) chosen = node->id;
  }
  const std::vector<int> ram = model.NodesOf(NodeKind::kRam);
  return chosen < 0 && ram.size() == 1 ? ram[0] : chosen;
}

// MemAvailable counts HBM nodes in; take out what lies there.
void ConsiderMachine(const HostModel& model, Tightest* tightest) {
  const std::optional<uint64_t> available =
      model.meminfo.Get("MemAvailable") ? model.meminfo.Get("MemAvailable") : model.meminfo.Get("MemFree");
  if (!available) return;
  const uint64_t hbm = std::min(*available, ObtainableIn(model, NodeKind::kHbm));
  tightest->Consider(*available - hbm, hbm > 0 ? "MemAvailable without the HBM nodes" : "MemAvailable");
}

void ConsiderNodes(const HostModel& model, int node_id, Tightest* tightest) {
  if (node_id >= 0) {
    tightest->Consider(Obtainable(*model.FindNode(node_id)),
                       "free memory of NUMA node " + std::to_string(node_id));
  } else if (model.hbm_as_ram > 0) {
    tightest->Consider(ObtainableIn(model, NodeKind::kRam), "free memory of the NUMA nodes that are RAM");
  }
}

void Finish(const HostModel& model, uint64_t available, HostBudget* budget) {
  budget->available = available;
  budget->ceiling = available;
  budget->reserve = std::min(std::max(kLeastReserve, model.real_ram / 10), available / 2);
  budget->bytes = RoundDown(available - budget->reserve, kGranularity);
}

// What is in use now may be free later: an explicit limit may count on it.
void RaiseCeiling(const HostModel& model, HostBudget* budget) {
  if (model.real_ram > budget->ceiling) {
    budget->ceiling = model.real_ram;
    budget->ceiling_is = "all the real RAM of this machine";
  }
  if (model.cgroup.limited && model.cgroup.remaining < budget->ceiling) {
    budget->ceiling = model.cgroup.remaining;
    budget->ceiling_is = "the cgroup limit " + model.cgroup.file;
  }
  // The host tier would be EGM, which neither the OS's memory nor the cgroup bounds.
  if (model.egm_suspected) budget->ceiling = kNoCeiling;
}

// EGM is not the OS's: its free memory and the cgroup's limit say nothing of it.
void FinishEgm(const HostModel& model, HostBudget* budget) {
  const std::vector<int> ram = model.NodesOf(NodeKind::kRam);
  if (budget->node < 0 && !ram.empty()) budget->node = ram[0];
  budget->egm = true;
  budget->estimated = true;
  budget->limited_by = "EGM, estimated from " + model.egm.installed_source;
  Finish(model, model.egm.bytes, budget);
}

}  // namespace

HostBudget AutoHostBudget(const HostModel& model, const HostBudgetRequest& request) {
  HostBudget budget;
  budget.real_ram = model.real_ram;
  budget.node = request.node;
  if (request.node >= 0) {
    const NumaNode* node = model.FindNode(request.node);
    const std::string name = "NUMA node " + std::to_string(request.node);
    if (node == nullptr || node->kind == NodeKind::kEmpty) {
      budget.limited_by = name + ", which has no memory";
      return budget;
    }
    if (node->kind == NodeKind::kHbm) {
      budget.limited_by = name + ", which is HBM and not host memory";
      return budget;
    }
  } else {
    budget.node = ChooseNode(model);
  }
  if (model.egm.present) {
    FinishEgm(model, &budget);
    return budget;
  }
  Tightest tightest;
  ConsiderMachine(model, &tightest);
  ConsiderNodes(model, budget.node, &tightest);
  if (!tightest.known()) {
    budget.limited_by = "/proc/meminfo, which cannot be read";
    return budget;
  }
  if (model.cgroup.limited) {
    tightest.Consider(model.cgroup.remaining, "the cgroup limit " + model.cgroup.file);
  }
  budget.limited_by = tightest.words();
  Finish(model, tightest.bytes(), &budget);
  RaiseCeiling(model, &budget);
  return budget;
}

HostBudget AutoHostBudget(const HostBudgetRequest& request) {
  return AutoHostBudget(ReadHostModel(Sysroot(request.sysroot)), request);
}

std::string CheckHostLimit(uint64_t requested, const HostBudget& budget) {
  if (requested <= budget.ceiling) return "";
  std::string text = "a host limit of " + FormatSize(requested) + " is more than the " +
                     FormatSize(budget.ceiling) + " that is there (" +
                     (budget.ceiling_is.empty() ? budget.limited_by : budget.ceiling_is) + "); ";
  if (budget.bytes == 0) return text + "free memory on the host or raise that limit";
  return text + "use at most " + FormatSize(budget.ceiling) + ", or --host-limit auto for " +
         FormatSize(budget.bytes);
}

std::string WarnOfHostLimit(uint64_t requested, const HostBudget& budget) {
  if (requested <= budget.available) return "";
  return "of the host limit of " + FormatSize(requested) + ", " + FormatSize(budget.available) +
         " is free now (" + budget.limited_by + "); what is beyond that may be refused";
}

}  // namespace gpuroom
