// A whole machine: /proc, /sys and nvidia-smi.txt in memory, read as doctor and `run` read them. The input
// is the files after one another, each behind a line "=== its path"; scripts/fuzz.py makes one of each of
// tests/fixtures.
#include <string>

#include "base/size.h"
#include "cli/doctor_bundle.h"
#include "cli/doctor_container.h"
#include "cli/doctor_gpu.h"
#include "cli/doctor_host.h"
#include "cli/doctor_text.h"
#include "fuzz.h"
#include "topology/host_budget.h"
#include "topology/host_model.h"

namespace gpuroom {
namespace {

constexpr size_t kMostFiles = 300;

Sysroot::Files Unpack(fuzz::Input input) {
  constexpr std::string_view kMark = "=== ";
  Sysroot::Files files;
  std::string* file = nullptr;
  while (!input.empty() && files.size() < kMostFiles) {
    const std::string_view line = input.TakeLine();
    if (!line.starts_with(kMark)) {
      if (file != nullptr) file->append(line).append(1, '\n');
      continue;
    }
    const std::string_view path = line.substr(kMark.size());
    file = &files[std::string(path)];
  }
  return files;
}

void CheckBudget(const HostModel& model, const HostBudget& budget) {
  fuzz::Require(budget.bytes % (2 * kMiB) == 0, "a budget is whole chunks");
  fuzz::Require(budget.reserve <= budget.available && budget.bytes <= budget.available - budget.reserve,
                "a budget and its reserve are no more than there is");
  fuzz::Require(!budget.limited_by.empty(), "a budget says what limits it");
  fuzz::Require(budget.node < 0 || model.nodes.empty() || model.FindNode(budget.node) != nullptr,
                "a budget is of a node that is there");
  for (const uint64_t limit : {uint64_t{0}, kGiB, UINT64_MAX}) {
    (void)CheckHostLimit(limit, budget);
    (void)WarnOfHostLimit(limit, budget);
  }
}

void CheckModel(const HostModel& model) {
  uint64_t hbm = 0;
  for (const NumaNode& node : model.nodes) {
    fuzz::Require(node.free + node.reclaimable <= node.total, "no more of a node is free than it has");
    fuzz::Require(node.gpu < static_cast<int>(model.gpus.size()), "a node's GPU is one of the machine's");
    hbm += node.kind == NodeKind::kHbm ? 1 : 0;
  }
  fuzz::Require((hbm == 0) == (model.hbm_as_ram == 0), "HBM that the OS uses lies in nodes");
  fuzz::Require(model.real_ram <= INT64_MAX && model.hbm_as_ram <= INT64_MAX,
                "sizes add up without overflow");
  fuzz::Require(!model.egm.present || model.egm.bytes < model.egm.installed,
                "EGM is a part of what is installed");
}

DoctorReport Diagnose(const HostModel& model, const HostBudget& budget, const Sysroot& root) {
  DoctorReport report;
  AddKernelDriverFact(model.nvidia, DriverState::kNotAsked, &report);
  for (size_t i = 0; i < model.gpus.size(); ++i) {
    AddHintFact(static_cast<int>(i), model.gpus[i], root, &report);
  }
  AddHostFacts(model, budget, &report);
  AddPool(model, budget, &report);
  ContainerView view{ReadContainer(root), false, "/dev/shm/ledger", FindMount(root, "/dev/shm/ledger")};
  AddContainerFacts(view, &report);
  return report;
}

void CheckText(const DoctorReport& report, int width) {
  for (const char c : DoctorText(report, {false, width})) {
    fuzz::Require(static_cast<unsigned char>(c) >= ' ' || c == '\n',
                  "no control character reaches a terminal");
  }
  for (const Fact& fact : report.facts()) (void)WithoutIdentity(fact.value + fact.meaning, {"somebody"});
}

}  // namespace
}  // namespace gpuroom

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const gpuroom::Sysroot::Files files = gpuroom::Unpack(gpuroom::fuzz::Input(data, size));
  const gpuroom::Sysroot root(&files);
  const gpuroom::HostModel model = gpuroom::ReadHostModel(root);
  gpuroom::CheckModel(model);
  const gpuroom::HostBudget budget = gpuroom::AutoHostBudget(model, {});
  gpuroom::CheckBudget(model, budget);
  for (const gpuroom::NumaNode& node : model.nodes) {
    gpuroom::CheckBudget(model, gpuroom::AutoHostBudget(model, {"", node.id}));
  }
  const gpuroom::DoctorReport report = gpuroom::Diagnose(model, budget, root);
  // Each input is written for one width, since the text takes most of the time.
  constexpr int kWidths[] = {0, 40, 80};
  gpuroom::CheckText(report, kWidths[size % std::size(kWidths)]);
  // The library that writes JSON takes longer still, and throws on what is not UTF-8.
  if (size % 16 == 0) (void)report.Json();
  return 0;
}
