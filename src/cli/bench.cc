#include "cli/bench.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <ctime>

#include "cli/bench_report.h"
#include "cli/gpu_preview.h"
#include "cli/help.h"
#include "cli/link_cache.h"
#include "cli/options.h"
#include "cli/plot.h"
#include "cli/suggest.h"
#include "measure/tiers.h"
#include "topology/host_budget.h"

namespace headroom {
namespace {

constexpr uint64_t kDefaultBytes = 4 * kGiB;
constexpr uint64_t kDefaultSimBytes = 64 * kMiB;  // its figures mean nothing, so none of them has to be good
constexpr uint64_t kLeastBytes = 32 * kMiB;       // below, the shares are too coarse in granules of 2 MiB

// Everything on the GPU ends with the process, so there is nothing to give back.
void OnInterrupt(int) {
  constexpr char kText[] = "headroom: interrupted; nothing was stored\n";
  (void)!write(STDERR_FILENO, kText, sizeof kText - 1);
  _exit(kExitInterrupted);
}

void EndAtInterrupt() {
  struct sigaction action = {};
  sigaction(SIGINT, nullptr, &action);
  if (action.sa_handler != SIG_DFL) return;
  action.sa_handler = OnInterrupt;
  sigaction(SIGINT, &action, nullptr);
}

std::string Now() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

// A failure of the core as a sentence.
Failure MeasuringFailed(const Status& status) {
  if (status.code() == Code::kOutOfMemory) {
    return {kExitFailed,
            fmt::format("memory ran out while measuring ({}); close other programs, or give a smaller "
                        "--size",
                        status.what())};
  }
  const std::string error =
      status.native() == 0 ? "" : fmt::format(": {}", ErrorName(static_cast<CUresult>(status.native())));
  return {kExitFailed,
          fmt::format("measuring failed in {}{}; 'headroom doctor' may tell why", status.what(), error)};
}

Failure ChooseBytes(const BenchTiersOptions& options, bool simulated, measure::Machine& machine,
                    const HostBudget& budget, uint64_t* bytes) {
  const uint64_t hbm = machine.DeviceFree();
  const uint64_t host = machine.gpu().integrated ? hbm : machine.HostFree();
  const uint64_t most = std::min(hbm, host);
  const std::string tight =
      hbm <= host ? "the GPU's memory" : fmt::format("host memory ({})", budget.limited_by);
  if (most < kLeastBytes) {
    return {kExitUsage,
            fmt::format("measuring needs {}, and only {} of {} can be spared; close other programs",
                        FormatSize(kLeastBytes), FormatSize(most), tight)};
  }
  const uint64_t wanted = simulated ? kDefaultSimBytes : kDefaultBytes;
  *bytes = RoundDown(options.size.value_or(std::min(wanted, most)), kGranularity);
  if (*bytes < kLeastBytes) {
    return {kExitUsage, fmt::format("--size {} is too small to lay shares of it in 2 MiB; give at least {}",
                                    FormatSize(*options.size), FormatSize(kLeastBytes))};
  }
  if (*bytes <= most) return {};
  return {kExitUsage, fmt::format("--size {} is more than can be spared of {}; give at most {}MiB",
                                  FormatSize(*bytes), tight, most / kMiB)};
}

// Runs before anything is measured, so that a long run is not for nothing.
Failure OpenDriver(const BenchTiersOptions& options) {
  const Failure failure = options.plot.empty() ? Failure{} : CheckPlot(options.plot);
  if (failure.failed()) return failure;
  return (options.sim.empty() ? PreviewGpus() : PreviewSimulated(options.sim)).failure;
}

// Keeps the speeds for `headroom run`; why not, in report->not_stored.
void Store(TiersReport* report) {
  if (report->simulated) {
    report->not_stored = "the driver is simulated";
    return;
  }
  const auto speed = [](double value) { return static_cast<uint64_t>(value); };
  LinkEntry entry;
  entry.gpu_name = report->gpu.name;
  entry.gpu_uuid = report->gpu.uuid;
  entry.driver = report->driver;
  entry.measured = report->measured;
  entry.speeds.device = speed(report->result.links.front().speeds.read);
  entry.speeds.host = speed(report->result.host.Alone().read);
  entry.speeds.peer = speed(report->result.peer.Alone().read);
  const std::string path = LinkCachePath();
  const Failure failure = WriteLinkCache(path, entry);
  if (failure.failed()) {
    report->not_stored = failure.text;
    Report({kExitOk, failure.text});
  } else {
    report->stored = path;
  }
}

Failure Measure(const BenchTiersOptions& options, TiersReport* report) {
  const Result<Driver> driver = BindDriver();
  if (!driver.ok()) return MeasuringFailed(driver.status());
  const Result<std::vector<Gpu>> gpus = ReadGpus(*driver, Sysroot("/"));
  if (!gpus.ok()) return MeasuringFailed(gpus.status());
  report->simulated = measure::IsSimulated(*driver);
  report->gpu = gpus->front();
  report->driver = DriverIdentity(report->simulated ? options.sim : "");
  report->cuda = driver->version;
  report->measured = Now();
  Result<std::unique_ptr<measure::Session>> session = measure::Session::Open(*driver, report->gpu.device);
  if (!session.ok()) return MeasuringFailed(session.status());
  const HostBudget budget = AutoHostBudget({"/", report->simulated ? -1 : report->gpu.host_numa_node});
  measure::Machine machine(**session, *gpus, report->gpu, budget.bytes);
  measure::TiersRequest request;
  const Failure failure = ChooseBytes(options, report->simulated, machine, budget, &request.bytes);
  if (failure.failed()) return failure;
  request.rounds = options.rounds;
  if (options.verbose || isatty(STDERR_FILENO) != 0) {
    request.progress = [](const std::string& what) { fmt::print(stderr, "measuring: {}\n", what); };
  }
  const Status status = measure::MeasureTiers(machine, request, &report->result);
  return status.ok() ? Failure{} : MeasuringFailed(status);
}

Failure RunTiers(const BenchTiersOptions& options) {
  EndAtInterrupt();
  Failure failure = OpenDriver(options);
  if (failure.failed()) return failure;
  TiersReport report;
  failure = Measure(options, &report);
  if (failure.failed()) return failure;
  Store(&report);
  const std::string json = TiersJson(report);
  fmt::print("{}", options.json ? json : TiersText(report));
  std::fflush(stdout);
  return options.plot.empty() ? Failure{} : Plot(json, options.plot);
}

int TiersCommand(const std::vector<std::string>& arguments) {
  BenchTiersOptions options;
  const Failure failure = ParseBenchTiers(arguments, &options);
  if (failure.failed()) return Report(failure);
  if (options.help) {
    fmt::print("{}", kBenchTiersHelp);
    return kExitOk;
  }
  const Failure result = RunTiers(options);
  return result.failed() ? Report(result) : kExitOk;
}

}  // namespace

int BenchCommand(const std::vector<std::string>& arguments) {
  const std::string what = arguments.empty() ? "" : arguments[0];
  if (what == "tiers") return TiersCommand({arguments.begin() + 1, arguments.end()});
  if (what == "--help" || what == "-h") {
    fmt::print("{}", kBenchHelp);
    return kExitOk;
  }
  if (what.empty()) return Report({kExitUsage, "name what to measure: headroom bench tiers"});
  return Report({kExitUsage, fmt::format("'{}' is not something that bench measures{}", what,
                                         DidYouMean(what, {"tiers"}, "; it measures tiers"))});
}

}  // namespace headroom
