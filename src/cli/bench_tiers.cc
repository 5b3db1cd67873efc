// `gpuroom bench tiers`: every link between the first GPU and the memory that it can use; the
// result is kept for `gpuroom run` (link_cache.h).
#include <fmt/format.h>

#include <algorithm>

#include "cli/bench.h"
#include "cli/bench_links.h"
#include "cli/bench_report.h"
#include "cli/help.h"
#include "cli/link_cache.h"
#include "cli/options.h"
#include "cli/plot.h"

namespace gpuroom {
namespace {

constexpr char kTiersScript[] = "plot_tiers.py";
constexpr uint64_t kDefaultBytes = 4 * kGiB;
constexpr uint64_t kDefaultSimBytes = 64 * kMiB;  // its figures mean nothing, so none of them has to be good
constexpr uint64_t kLeastBytes = 32 * kMiB;       // below, the shares are too coarse in granules of 2 MiB

Failure ChooseBytes(const BenchTiersOptions& options, bool simulated, BenchMachine& bench, uint64_t* bytes) {
  measure::Machine& machine = bench.machine();
  const uint64_t hbm = machine.DeviceFree();
  const uint64_t host = machine.gpu().integrated ? hbm : machine.HostFree();
  const uint64_t most = std::min(hbm, host);
  if (most < kLeastBytes) {
    const bool gpu = hbm <= host;
    return {
        kExitUsage,
        fmt::format("measuring needs {}, and only {} of {} can be spared; close other programs{}",
                    FormatSize(kLeastBytes), FormatSize(most), gpu ? "the GPU's memory" : bench.HostMemory(),
                    gpu ? "" : ", or " + bench.MoreHostMemory())};
  }
  const uint64_t wanted = simulated ? kDefaultSimBytes : kDefaultBytes;
  *bytes = RoundDown(options.size.value_or(std::min(wanted, most)), kGranularity);
  if (*bytes < kLeastBytes) {
    return {kExitUsage, fmt::format("--size {} is too small to lay shares of it in 2 MiB; give at least {}",
                                    FormatSize(*options.size), FormatSize(kLeastBytes))};
  }
  return *bytes <= most ? Failure{} : bench.TooLarge(*bytes, hbm, host);
}

// Keeps the speeds for `gpuroom run`; why not, in report->not_stored.
void Store(TiersReport* report) {
  LinkEntry entry;
  report->not_stored = LinkEntryOf(report->subject, report->result, &entry);
  const std::string path = LinkCachePath();
  if (report->not_stored.empty()) report->not_stored = WriteLinkCache(path, entry).text;
  if (report->not_stored.empty()) {
    report->stored = path;
  } else if (!report->subject.simulated) {
    Report({kExitOk, fmt::format("nothing is kept for 'gpuroom run': {}", report->not_stored)});
  }
}

Failure Measure(const BenchTiersOptions& options, TiersReport* report) {
  BenchMachine bench;
  Failure failure = bench.Open(options.sim, options.host_limit, &report->subject);
  if (failure.failed()) return failure;
  measure::TiersRequest request;
  failure = ChooseBytes(options, report->subject.simulated, bench, &request.bytes);
  if (failure.failed()) return failure;
  request.rounds = options.rounds;
  request.progress = ProgressTo(options.verbose);
  const Status status = measure::MeasureTiers(bench.machine(), request, &report->result);
  return status.ok() ? Failure{} : MeasuringFailed(status);
}

Failure Run(const BenchTiersOptions& options) {
  EndAtInterrupt("gpuroom: interrupted; nothing was stored\n");
  Failure failure = CheckBench(options.plot, kTiersScript, options.sim);
  if (failure.failed()) return failure;
  TiersReport report;
  failure = Measure(options, &report);
  if (failure.failed()) return failure;
  Store(&report);
  const std::string json = TiersJson(report);
  fmt::print("{}", options.json ? json : TiersText(report));
  std::fflush(stdout);
  return options.plot.empty() ? Failure{} : Plot(json, kTiersScript, options.plot);
}

}  // namespace

int BenchTiersCommand(const std::vector<std::string>& arguments) {
  BenchTiersOptions options;
  const Failure failure = ParseBenchTiers(arguments, &options);
  if (failure.failed()) return Report(failure);
  if (options.help) {
    fmt::print("{}", kBenchTiersHelp);
    return kExitOk;
  }
  const Failure result = Run(options);
  return result.failed() ? Report(result) : kExitOk;
}

}  // namespace gpuroom
