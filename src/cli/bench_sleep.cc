// `gpuroom bench sleep`: how fast GPU memory is given back and had again.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "cli/bench.h"
#include "cli/help.h"
#include "cli/options.h"
#include "cli/plot.h"
#include "cli/sleep_report.h"
#include "cli/status_text.h"

namespace gpuroom {
namespace {

constexpr char kScript[] = "plot_sleep.py";
constexpr uint64_t kDefaultSizes[] = {1 * kGiB, 8 * kGiB, 40 * kGiB};
constexpr uint64_t kDefaultSimSizes[] = {32 * kMiB};  // its figures mean nothing

Failure ChooseSizes(const BenchSleepOptions& options, const BenchSubject& subject, BenchMachine& bench,
                    std::vector<uint64_t>* sizes) {
  if (subject.gpu.integrated)
    return {kExitUsage, "this GPU has no memory but the host's, so a sleep would free nothing"};
  if (options.sizes.empty() && subject.simulated) {
    sizes->assign(std::begin(kDefaultSimSizes), std::end(kDefaultSimSizes));
  } else if (options.sizes.empty()) {
    sizes->assign(std::begin(kDefaultSizes), std::end(kDefaultSizes));
  } else {
    *sizes = options.sizes;
  }
  const uint64_t hbm = bench.machine().DeviceFree();
  const uint64_t host = bench.machine().HostFree();
  const uint64_t most = std::min(hbm, host);
  const uint64_t least = *std::min_element(sizes->begin(), sizes->end());
  return least <= most ? Failure{} : bench.TooLarge(least, hbm, host);
}

// The core knows no options.
void NameHostLimit(const BenchMachine& bench, std::vector<measure::SleepCase>* cases) {
  for (measure::SleepCase& one : *cases) {
    if (one.beyond_host) one.skipped += fmt::format("; {}", bench.MoreHostMemory());
  }
}

Failure CheckDirectory(const std::string& directory) {
  if (directory.empty() || access(directory.c_str(), W_OK | X_OK) == 0) return {};
  return {kExitUsage, fmt::format("--disk '{}' cannot be written to: {}; name a folder on a disk", directory,
                                  std::strerror(errno))};
}

Failure Measure(const BenchSleepOptions& options, SleepReport* report) {
  BenchMachine bench;
  Failure failure = bench.Open(options.sim, options.host_limit, &report->subject);
  if (failure.failed()) return failure;
  measure::SleepRequest request;
  failure = ChooseSizes(options, report->subject, bench, &request.sizes);
  if (failure.failed()) return failure;
  request.allocations = options.allocations;
  request.rounds = options.rounds;
  request.directory = options.directory;
  request.progress = ProgressTo(options.verbose);
  const Status status = measure::MeasureSleep(bench.machine(), request, &report->result);
  NameHostLimit(bench, &report->result.cases);
  // Not every folder that may be written to can hold a file: those of /proc cannot.
  if (status.code() == Code::kInvalidArgument && !options.directory.empty())
    return {kExitUsage, fmt::format("--disk '{}': {}", options.directory, DescribeStatus(status))};
  return status.ok() ? Failure{} : MeasuringFailed(status);
}

Failure Run(const BenchSleepOptions& options) {
  EndAtInterrupt("gpuroom: interrupted\n");
  Failure failure = CheckBench(options.plot, kScript, options.sim);
  if (!failure.failed()) failure = CheckDirectory(options.directory);
  if (failure.failed()) return failure;
  SleepReport report;
  failure = Measure(options, &report);
  if (failure.failed()) return failure;
  const std::string json = SleepJson(report);
  fmt::print("{}", options.json ? json : SleepText(report));
  std::fflush(stdout);
  return options.plot.empty() ? Failure{} : Plot(json, kScript, options.plot);
}

}  // namespace

int BenchSleepCommand(const std::vector<std::string>& arguments) {
  BenchSleepOptions options;
  const Failure failure = ParseBenchSleep(arguments, &options);
  if (failure.failed()) return Report(failure);
  if (options.help) {
    fmt::print("{}", kBenchSleepHelp);
    return kExitOk;
  }
  const Failure result = Run(options);
  return result.failed() ? Report(result) : kExitOk;
}

}  // namespace gpuroom
