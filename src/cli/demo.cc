#include "cli/demo.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/size.h"
#include "cli/gpu_preview.h"
#include "cli/help.h"
#include "cli/options.h"
#include "cli/run.h"

namespace gpuroom {
namespace {

constexpr char kDefaultProfile[] = "1GiB,host=4GiB";
constexpr uint64_t kDefaultHbm = 4 * kGiB;    // on a real GPU: seconds, not minutes
constexpr uint64_t kSmallestHbm = 64 * kMiB;  // below, no buffer is large enough to be spilled
constexpr uint64_t kSlack = 768 * kMiB;       // HBM that contexts and the reserve keep from the buffers

constexpr char kIntegrated[] = "this GPU has no memory but the host's, so there is no other to add to it";

// What the demo runs on.
struct Stage {
  GpuPreview::Gpu gpu;
  std::string sim;     // profile; empty: a real GPU
  std::string reason;  // why the simulated driver, in words
};

Failure ChooseStage(const DemoOptions& options, Stage* stage) {
  stage->sim = options.sim;
  stage->reason = "--sim or GPUROOM_SIM asked for it";
  if (options.sim.empty()) {
    const GpuPreview real = PreviewGpusApart();
    if (!real.failure.failed() && !real.gpus[0].integrated) {
      stage->gpu = real.gpus[0];
      return {};
    }
    stage->sim = kDefaultProfile;
    stage->reason = real.failure.failed() ? real.failure.text : kIntegrated;
  }
  const GpuPreview simulated = PreviewSimulated(stage->sim);
  if (simulated.failure.failed()) return simulated.failure;
  stage->gpu = simulated.gpus[0];
  if (stage->gpu.integrated)
    return {kExitUsage, fmt::format("{}; give another profile, such as --sim h200", kIntegrated)};
  return {};
}

// The most HBM for which the host can hold the other 0.75 times.
uint64_t MostHbm(const HostBudget& budget) {
  return budget.bytes > kSlack ? RoundDown((budget.bytes - kSlack) / 3 * 4, kMiB) : 0;
}

Failure CheckHostMemory(uint64_t hbm, const HostBudget& budget) {
  const uint64_t needed = hbm / 4 * 3 + kSlack;
  if (budget.bytes >= needed) return {};
  const uint64_t possible = MostHbm(budget);
  const std::string fix = possible >= kSmallestHbm ? fmt::format("give --hbm-limit {}MiB", possible / kMiB)
                                                   : std::string("free some host memory");
  return {kExitUsage, fmt::format("the demo needs {} of host memory and {} can be spared (limited by {}); {}",
                                  FormatSize(needed), FormatSize(budget.bytes), budget.limited_by, fix)};
}

void PrintHeading(const Stage& stage, uint64_t hbm, uint64_t bytes) {
  if (stage.sim.empty()) {
    fmt::print("gpuroom demo on a real GPU: {}, {} of its {} HBM\n", stage.gpu.name, FormatSize(hbm),
               FormatSize(stage.gpu.hbm));
  } else {
    fmt::print("gpuroom demo on the simulated driver, profile {}: {} HBM\n", stage.sim, FormatSize(hbm));
    fmt::print("  why: {}\n", stage.reason);
    fmt::print("  its speeds are this machine's, not a GPU's\n");
  }
  fmt::print("One program allocates {}, 1.75 times that HBM, and reads all of it:\n\n", FormatSize(bytes));
}

// The HBM to use, and whether this machine can hold 1.75 times as much.
Failure ChooseHbm(const DemoOptions& options, const Stage& stage, const HostBudget& budget, uint64_t* hbm) {
  const uint64_t wanted = options.hbm_limit.value_or(stage.sim.empty() ? kDefaultHbm : stage.gpu.hbm);
  *hbm = std::min(wanted, stage.gpu.hbm);
  // A size that nobody asked for gives way to what the host can spare.
  if (!options.hbm_limit && stage.sim.empty()) *hbm = std::clamp(MostHbm(budget), kSmallestHbm, *hbm);
  if (*hbm >= kSmallestHbm) return CheckHostMemory(*hbm, budget);
  return {kExitUsage, fmt::format("the demo needs {} of HBM or more, not {}; raise --hbm-limit",
                                  FormatSize(kSmallestHbm), FormatSize(*hbm))};
}

Failure RunDemo(const DemoOptions& options) {
  RunPlan plan;
  Stage stage;
  plan.installation = FindInstallation();
  Failure failure = CheckInstallation(plan.installation, !options.sim.empty());
  if (failure.failed()) return failure;
  plan.program.path = plan.installation.demo;
  if (access(plan.program.path.c_str(), X_OK) != 0) {
    return {kExitCannotRun,
            fmt::format("'{}' is missing; install gpuroom again, or build it", plan.program.path)};
  }
  failure = ChooseStage(options, &stage);
  if (failure.failed()) return failure;
  uint64_t hbm = 0;
  plan.budget = AutoHostBudget();
  failure = ChooseHbm(options, stage, plan.budget, &hbm);
  if (failure.failed()) return failure;

  const uint64_t bytes = RoundDown(hbm / 4 * 7, 2 * kMiB);
  plan.limits.hbm = Limit{hbm, 0};
  plan.limits.host = plan.budget.bytes;
  plan.limits.sim = stage.sim;
  plan.variables = RunVariables(plan.limits, plan.installation, {});
  plan.command = {"gpuroom-demo", "--bytes", std::to_string(bytes)};
  if (options.json) plan.command.push_back("--json");
  if (!options.json) PrintHeading(stage, hbm, bytes);
  return Execute(plan);
}

}  // namespace

int DemoCommand(const std::vector<std::string>& arguments) {
  DemoOptions options;
  const Failure failure = ParseDemo(arguments, &options);
  if (failure.failed()) return Report(failure);
  if (options.help) {
    fmt::print("{}", kDemoHelp);
    return kExitOk;
  }
  return Report(RunDemo(options));
}

}  // namespace gpuroom
