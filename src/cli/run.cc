#include "cli/run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/size.h"
#include "cli/dry_run.h"
#include "cli/gpu_preview.h"
#include "cli/help.h"
#include "cli/output.h"
#include "cli/rules_file.h"
#include "cli/sim_exec.h"
#include "cli/sim_machine.h"
#include "topology/host_model.h"

namespace gpuroom {
namespace {

// A simulated machine's host memory is its profile's; a profile that does not exist is told later.
HostBudget SimulatedBudget(const std::string& profile) {
  std::vector<GpuHint> gpus;
  // Apart, since other children of this process ask the driver as well, and it has to be new to them.
  for (const GpuPreview::Gpu& gpu : PreviewGpusApart(profile).gpus) {
    GpuHint hint;
    hint.name = gpu.name;
    hint.bytes = gpu.hbm;
    hint.coherence_known = true;
    hint.coherent = gpu.coherent;
    hint.integrated = gpu.integrated;
    gpus.push_back(hint);
  }
  const Sysroot::Files machine = EnterSim(profile).ok() ? SimulatedMachine() : Sysroot::Files();
  return AutoHostBudget(ReadHostModel(Sysroot(&machine), gpus), {});
}

HostBudget BudgetFor(const RunOptions& options) {
  if (!options.sysroot.empty()) return AutoHostBudget(HostBudgetRequest{options.sysroot, -1});
  return options.sim.empty() ? AutoHostBudget() : SimulatedBudget(options.sim);
}

Failure ResolveHostLimit(const RunOptions& options, RunPlan* plan) {
  plan->host_auto = !options.host_limit.has_value();
  plan->limits.host = options.host_limit;
  if (options.host_limit_inherited) return {};
  plan->budget = BudgetFor(options);
  if (plan->host_auto) {
    plan->limits.host = plan->budget.bytes;
    return {};
  }
  // The simulated driver guards its profile's host memory.
  if (!options.sim.empty()) return {};
  const std::string complaint = CheckHostLimit(*options.host_limit, plan->budget);
  if (!complaint.empty() && !options.elsewhere) return {kExitUsage, complaint};
  const std::string warning = complaint.empty() ? WarnOfHostLimit(*options.host_limit, plan->budget)
                                                : fmt::format("for this machine, {}", complaint);
  if (!warning.empty()) fmt::print(stderr, "gpuroom: {}\n", warning);
  return {};
}

// Opens the stats file as the shim will. A dry run leaves no file behind.
Failure CheckStatsFile(const std::string& path, bool dry_run) {
  struct stat info = {};
  const bool present = stat(path.c_str(), &info) == 0;
  int result = 0;
  if (dry_run && !present) {
    const std::string folder = std::filesystem::path(path).parent_path().string();
    result = access(folder.c_str(), W_OK | X_OK);
  } else {
    // Not blocking, or a FIFO without a reader would hold us here.
    result = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0666);
    if (result >= 0) close(result);
  }
  if (result >= 0) return {};
  return {kExitUsage, fmt::format("--stats-file '{}' cannot be written: {}; name a file in a writable folder",
                                  path, std::strerror(errno))};
}

// Absolute, since CMD may change its directory. `option` is what named it.
Failure MakeAbsolute(const char* option, const std::string& name, std::string* path) {
  std::error_code error;
  *path = std::filesystem::absolute(name, error).string();
  if (!error) return {};
  return {kExitUsage, fmt::format("{} '{}': {}; write an absolute path", option, name, error.message())};
}

Failure ResolveStatsFile(const RunOptions& options, RunPlan* plan) {
  if (options.stats_file.empty()) return {};
  const Failure failure = MakeAbsolute("--stats-file", options.stats_file, &plan->limits.stats_file);
  if (failure.failed() || options.elsewhere) return failure;
  return CheckStatsFile(plan->limits.stats_file, options.dry_run);
}

// Each process makes a file of its own in that folder.
Failure ResolveTrace(const RunOptions& options, RunPlan* plan) {
  if (options.trace.empty()) return {};
  const Failure failure = MakeAbsolute("--trace", options.trace, &plan->limits.trace);
  if (failure.failed() || options.elsewhere) return failure;
  const std::filesystem::path path(plan->limits.trace);
  if (path.has_filename() && access(path.parent_path().c_str(), W_OK | X_OK) == 0) return {};
  return {kExitUsage,
          fmt::format("--trace '{}' cannot be written: {}; name a file in a writable folder", path.string(),
                      path.has_filename() ? std::strerror(errno) : "it is a folder")};
}

// `gpuroom env` has no CMD.
Failure ResolveProgram(const RunOptions& options, RunPlan* plan) {
  if (options.command.empty()) return CheckInstallation(plan->installation, !options.sim.empty());
  plan->program = CheckProgram(options.command);
  if (plan->program.failure.failed()) return plan->program.failure;
  const Failure failure = CheckInstallation(plan->installation, !options.sim.empty());
  return failure.failed() ? failure : CheckLibc(plan->program, plan->installation.shim);
}

Failure ResolveTiers(const RunOptions& options, RunPlan* plan) {
  TierOptions& tiers = plan->limits.tiers;
  tiers = options.tiers;
  if (!tiers.rules_file.empty()) {
    Rules rules;
    const Failure failure = ReadRulesFile(tiers.rules_file, &rules);
    if (failure.failed()) return failure;
    tiers.rules = rules.Text();
  }
  const Failure unused = CheckManagedOptions(tiers.managed, tiers.rules);
  if (unused.failed()) return unused;
  for (const std::string& warning : tiers.managed.warnings) fmt::print(stderr, "gpuroom: {}\n", warning);
  // What was measured here says nothing of another machine.
  if (options.sysroot.empty()) plan->links = ChooseLinks(options.sim, tiers.link_speeds);
  if (plan->links.source == LinkChoice::Source::kMeasured)
    tiers.link_speeds = FormatLinkSpeeds(plan->links.speeds);
  if (!plan->links.warning.empty()) fmt::print(stderr, "gpuroom: {}\n", Printable(plan->links.warning));
  return {};
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

Failure MakeRunPlan(const RunOptions& options, RunPlan* plan) {
  plan->installation = FindInstallation();
  plan->limits.hbm = options.hbm_limit;
  plan->limits.reserve = options.reserve;
  plan->limits.control = options.control;
  plan->limits.share = options.share;
  plan->limits.plugins = options.plugins;
  plan->limits.report = options.report;
  plan->limits.stats_interval = options.stats_interval;
  plan->limits.sim = options.sim;
  plan->sysroot = options.sysroot;
  plan->command = options.command;
  Failure failure = CheckSysroot(options.sysroot);
  if (failure.failed()) return failure;
  failure = ResolveHostLimit(options, plan);
  if (failure.failed()) return failure;
  failure = ResolveProgram(options, plan);
  if (failure.failed()) return failure;
  failure = ResolveStatsFile(options, plan);
  if (failure.failed()) return failure;
  failure = ResolveTrace(options, plan);
  if (failure.failed()) return failure;
  failure = ResolveTiers(options, plan);
  if (failure.failed()) return failure;
  plan->variables = RunVariables(plan->limits, plan->installation, plan->program.libraries);
  plan->removed = RemovedVariables(plan->limits, plan->installation);
  return {};
}

void WarnOfProgram(const RunPlan& plan) {
  for (const std::string& warning : plan.program.warnings)
    fmt::print(stderr, "gpuroom: {}\n", Printable(warning));
}

void WarnOfNothingToSpare(const RunPlan& plan) {
  if (!plan.host_auto || *plan.limits.host > 0) return;
  fmt::print(stderr,
             "gpuroom: no host memory can be spared now (limited by {}), so the program gets HBM alone; free "
             "some, or "
             "give --host-limit\n",
             plan.budget.limited_by);
}

std::string DescribeHost(const RunPlan& plan) {
  const std::string amount = FormatSize(plan.limits.host.value_or(0));
  if (!plan.host_auto) return fmt::format("{} in all", amount);
  return fmt::format("{} in all (auto: {} there{}, {} kept for the host; limited by {})", amount,
                     FormatSize(plan.budget.available), plan.budget.estimated ? ", an estimate" : "",
                     FormatSize(plan.budget.reserve), plan.budget.limited_by);
}

void SayWhatIsOffered(const RunPlan& plan) {
  const std::string hbm = !plan.limits.hbm                ? "all"
                          : plan.limits.hbm->percent != 0 ? FormatLimit(*plan.limits.hbm)
                                                          : FormatSize(plan.limits.hbm->bytes);
  fmt::print(
      stderr,
      "gpuroom: offers {} of each GPU's HBM, and host memory: {}; --hbm-limit and --host-limit change that, "
      "--quiet leaves this line out\n",
      hbm, DescribeHost(plan));
}

Failure CheckRunDriver(const RunPlan& plan) {
  int version = 0;
  if (plan.limits.sim.empty()) return CheckDriver(&version);
  return PreviewSimulated(plan.limits.sim).failure;
}

Failure Execute(const RunPlan& plan) {
  std::vector<std::string> command = plan.command;
  std::string path = plan.program.path;
  if (plan.program.through_shell) {
    command[0] = path;
    path = "/bin/sh";
    command.insert(command.begin(), "sh");
  }
  std::vector<std::string> environment = MergedEnvironment(plan.variables, plan.removed);
  const Failure unwritten = FlushOutput();  // CMD does not print what is left in the buffer
  if (unwritten.failed()) return unwritten;
  execve(path.c_str(), Pointers(command).data(), Pointers(environment).data());
  const int error = errno;
  return {error == ENOENT ? kExitNotFound : kExitCannotRun,
          fmt::format("'{}' cannot be run: {}; check the file", plan.program.path, std::strerror(error))};
}

int RunCommand(const std::vector<std::string>& arguments) {
  RunOptions options;
  RunPlan plan;
  Failure failure = ParseRun(arguments, &options);
  if (failure.failed()) return Report(failure);
  if (options.help) {
    fmt::print("{}", kRunHelp);
    return kExitOk;
  }
  failure = MakeRunPlan(options, &plan);
  if (failure.failed()) return Report(failure);
  if (options.dry_run) return DryRun(plan, options.json);
  failure = CheckRunDriver(plan);
  if (failure.failed()) return Report(failure);
  WarnOfProgram(plan);
  WarnOfNothingToSpare(plan);
  if (!options.quiet) SayWhatIsOffered(plan);
  return Report(Execute(plan));
}

}  // namespace gpuroom
