#include "topology/host_budget.h"

#include <algorithm>
#include <optional>

#include "base/size.h"
#include "topology/host_model.h"

namespace gpuroom {
namespace {

constexpr uint64_t kGranularity = 2 * kMiB;
constexpr uint64_t kLeastReserve = 2 * kGiB;

// One of the things that bound the host tier.
struct Bound {
  uint64_t available = 0;  // bytes
  uint64_t capacity = 0;   // of what the bytes are free of, such as a node: a tenth stays with the host
  std::string words;       // "free memory of NUMA node 0"

  uint64_t Reserve() const { return std::min(std::max(kLeastReserve, capacity / 10), available / 2); }
  uint64_t Spare() const { return available - Reserve(); }
};

// The bound that leaves least, the first of several.
class Tightest {
 public:
  void Consider(Bound bound) {
    if (known_ && bound.Spare() >= bound_.Spare()) return;
    known_ = true;
    bound_ = std::move(bound);
  }
  bool known() const { return known_; }
  const Bound& bound() const { return bound_; }

 private:
  bool known_ = false;
  Bound bound_;
};

uint64_t Obtainable(const NumaNode& node) { return node.free + node.reclaimable; }

uint64_t ObtainableIn(const HostModel& model, NodeKind kind) {
  uint64_t bytes = 0;
  for (const NumaNode& node : model.nodes) {
    if (node.kind == kind) bytes += Obtainable(node);
  }
  return bytes;
}

bool IsUsableRam(const HostModel& model, int id) {
  const NumaNode* node = model.FindNode(id);
  return node != nullptr && node->kind == NodeKind::kRam && model.MayUse(id);
}

// Where the runtime places host memory of a GPU beside node `wanted`: there, or on the nearest node that has
// memory. -1: on none.
int NodeServing(const HostModel& model, int wanted) {
  if (IsUsableRam(model, wanted)) return wanted;
  const std::vector<int> nearest = NearestNodes(model, wanted);
  return nearest.empty() ? -1 : nearest[0];
}

// The RAM node that every GPU can be served from: the GPUs' own, of several the
// one with least free, since one budget serves them all. A GPU that the bus gives no node
// is served from node 0. -1: nothing says.
int ChooseNode(const HostModel& model) {
  int chosen = -1;
  for (const PciGpu& gpu : model.pci_gpus) {
    const int node = NodeServing(model, std::max(gpu.numa_node, 0));
    if (node < 0) continue;
    if (chosen < 0 || Obtainable(*model.FindNode(node)) < Obtainable(*model.FindNode(chosen))) chosen = node;
  }
  if (chosen >= 0) return chosen;
  const std::vector<int> ram = NearestNodes(model, -1);
  return ram.size() == 1 || (!ram.empty() && !model.gpus.empty()) ? ram[0] : -1;
}

// MemAvailable counts HBM nodes in; take out what lies there.
void ConsiderMachine(const HostModel& model, Tightest* tightest) {
  const std::optional<uint64_t> available =
      model.meminfo.Get("MemAvailable") ? model.meminfo.Get("MemAvailable") : model.meminfo.Get("MemFree");
  if (!available) return;
  const uint64_t hbm = std::min(*available, ObtainableIn(model, NodeKind::kHbm));
  tightest->Consider(
      {*available - hbm, model.real_ram, hbm > 0 ? "MemAvailable without the HBM nodes" : "MemAvailable"});
}

// Of a machine without a GPU's node: all the nodes that may be used.
Bound BoundOfNodes(const HostModel& model) {
  Bound bound;
  for (const int id : NearestNodes(model, -1)) {
    bound.available += Obtainable(*model.FindNode(id));
    bound.capacity += model.FindNode(id)->total;
  }
  bound.words = "free memory of the NUMA nodes that are RAM";
  if (model.mems_allowed) bound.words += " and in the cpuset";
  return bound;
}

void ConsiderNodes(const HostModel& model, int node_id, Tightest* tightest) {
  if (node_id >= 0) {
    const NumaNode& node = *model.FindNode(node_id);
    tightest->Consider({Obtainable(node), node.total, "free memory of NUMA node " + std::to_string(node_id)});
    return;
  }
  const std::vector<int> ram = model.NodesOf(NodeKind::kRam);
  const bool kept_out = std::any_of(ram.begin(), ram.end(), [&](int id) { return !model.MayUse(id); });
  if (model.hbm_as_ram > 0 || kept_out) tightest->Consider(BoundOfNodes(model));
}

void Finish(const Bound& bound, HostBudget* budget) {
  budget->limited_by = bound.words;
  budget->available = bound.available;
  budget->ceiling = bound.available;
  budget->reserve = bound.Reserve();
  budget->bytes = RoundDown(bound.Spare(), kGranularity);
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
  // The OS's own share is what is kept for the host.
  Finish({model.egm.bytes, model.real_ram, "EGM, estimated from " + model.egm.installed_source}, budget);
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
    tightest.Consider({model.cgroup.remaining, model.cgroup.limit, "the cgroup limit " + model.cgroup.file});
  }
  Finish(tightest.bound(), &budget);
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
