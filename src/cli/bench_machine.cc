#include "cli/bench_machine.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <ctime>

#include "base/size.h"
#include "cli/gpu_preview.h"
#include "cli/link_cache.h"
#include "cli/plot.h"
#include "cli/status_text.h"
#include "driver/driver.h"

namespace gpuroom {
namespace {

const char* g_interrupted = "";

// Everything on the GPU ends with the process, so there is nothing to give back.
void OnInterrupt(int) {
  (void)!write(STDERR_FILENO, g_interrupted, std::strlen(g_interrupted));
  _exit(kExitInterrupted);
}

std::string Now() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

}  // namespace

Failure BenchMachine::Open(const std::string& sim, std::optional<uint64_t> host_limit,
                           BenchSubject* subject) {
  const Result<Driver> driver = BindDriver();
  if (!driver.ok()) return MeasuringFailed(driver.status());
  driver_ = *driver;
  const Result<std::vector<Gpu>> gpus = ReadGpus(driver_, Sysroot("/"));
  if (!gpus.ok()) return MeasuringFailed(gpus.status());
  gpus_ = *gpus;
  subject->simulated = measure::IsSimulated(driver_);
  subject->gpu = gpus_.front();
  subject->driver = DriverIdentity(subject->simulated ? sim : "");
  subject->cuda = driver_.version;
  subject->measured = Now();
  Result<std::unique_ptr<measure::Session>> session = measure::Session::Open(driver_, gpus_.front().device);
  if (!session.ok()) return MeasuringFailed(session.status());
  session_ = std::move(*session);
  host_limit_ = host_limit;
  const Failure limited = ResolveHostLimit(subject->simulated);
  if (limited.failed()) return limited;
  machine_ = std::make_unique<measure::Machine>(*session_, gpus_, gpus_.front(),
                                                host_limit_.value_or(budget_.bytes));
  return {};
}

// As `gpuroom run` takes its --host-limit.
Failure BenchMachine::ResolveHostLimit(bool simulated) {
  budget_ = AutoHostBudget({"/", simulated ? -1 : gpus_.front().host_numa_node});
  // A simulated machine's host memory is its profile's, and the simulated driver guards it.
  if (!host_limit_ || simulated) return {};
  const std::string complaint = CheckHostLimit(*host_limit_, budget_);
  if (!complaint.empty()) return {kExitUsage, complaint};
  const std::string warning = WarnOfHostLimit(*host_limit_, budget_);
  if (!warning.empty()) fmt::print(stderr, "gpuroom: {}\n", warning);
  return {};
}

std::string BenchMachine::HostMemory() const {
  return host_limit_ ? fmt::format("host memory (--host-limit {})", FormatSize(*host_limit_))
                     : fmt::format("host memory ({})", budget_.limited_by);
}

std::string BenchMachine::MoreHostMemory() const {
  return host_limit_ ? "raise --host-limit" : "allow more with --host-limit";
}

Failure BenchMachine::TooLarge(uint64_t bytes, uint64_t hbm, uint64_t host) const {
  const std::string start = fmt::format("--size {} is more than can be spared of ", FormatSize(bytes));
  if (hbm <= host)
    return {kExitUsage, fmt::format("{}the GPU's memory; give at most {}MiB", start, hbm / kMiB)};
  return {kExitUsage,
          fmt::format("{}{}; give at most {}MiB, or {}", start, HostMemory(), host / kMiB, MoreHostMemory())};
}

Failure CheckBench(const std::string& plot, const char* script, const std::string& sim) {
  const Failure failure = plot.empty() ? Failure{} : CheckPlot(plot, script);
  if (failure.failed()) return failure;
  return (sim.empty() ? PreviewGpus() : PreviewSimulated(sim)).failure;
}

void EndAtInterrupt(const char* text) {
  struct sigaction action = {};
  sigaction(SIGINT, nullptr, &action);
  if (action.sa_handler != SIG_DFL) return;
  g_interrupted = text;
  action.sa_handler = OnInterrupt;
  sigaction(SIGINT, &action, nullptr);
}

std::function<void(const std::string&)> ProgressTo(bool verbose) {
  if (!verbose && isatty(STDERR_FILENO) == 0) return nullptr;
  return [](const std::string& what) { fmt::print(stderr, "measuring: {}\n", what); };
}

Failure MeasuringFailed(const Status& status) {
  if (status.code() == Code::kOutOfMemory) {
    return {kExitFailed,
            fmt::format("memory ran out while measuring ({}); close other programs, or give a smaller "
                        "--size",
                        status.what())};
  }
  return {kExitFailed,
          fmt::format("measuring failed in {}; 'gpuroom doctor' may tell why", DescribeStatus(status))};
}

std::string CudaVersion(int cuda) { return fmt::format("{}.{}", cuda / 1000, cuda % 1000 / 10); }

std::string Gigabytes(double bytes_per_second) {
  const double value = bytes_per_second / 1e9;
  return fmt::format("{:.{}f}", value, value < 100 ? 1 : 0);
}

}  // namespace gpuroom
