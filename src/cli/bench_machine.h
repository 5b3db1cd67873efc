// What every benchmark needs before it measures: a driver, a GPU with its tiers, and what Ctrl-C does.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cli/exit_codes.h"
#include "measure/machine.h"
#include "topology/host_budget.h"

namespace gpuroom {

// Where and when something was measured.
struct BenchSubject {
  bool simulated = false;  // the figures are then this machine's, not a GPU's
  Gpu gpu;
  std::string driver;    // as DriverIdentity gives it
  int cuda = 0;          // 13000 = 13.0
  std::string measured;  // UTC
};

// The first GPU, ready to be measured.
class BenchMachine {
 public:
  // `sim`: profile of the simulated driver, or "". `host_limit`: bytes of host memory that may be used;
  // empty: what the machine can spare. On failure nothing else may be called.
  Failure Open(const std::string& sim, std::optional<uint64_t> host_limit, BenchSubject* subject);

  measure::Machine& machine() { return *machine_; }

  // Host memory and what bounds it, in words.
  std::string HostMemory() const;
  // What lets more of it be used, as the end of a sentence.
  std::string MoreHostMemory() const;
  // The sentence for a --size of `bytes`, where `hbm` and `host` bytes can be spared.
  Failure TooLarge(uint64_t bytes, uint64_t hbm, uint64_t host) const;

 private:
  Failure ResolveHostLimit(bool simulated);

  Driver driver_;
  std::vector<Gpu> gpus_;
  std::optional<uint64_t> host_limit_;
  HostBudget budget_;
  std::unique_ptr<measure::Session> session_;
  std::unique_ptr<measure::Machine> machine_;
};

// Before anything takes long: what is wrong with the file to plot into ("": none), by that script, or with
// the driver.
Failure CheckBench(const std::string& plot, const char* script, const std::string& sim);

// Ctrl-C says `text` and ends the process, unless somebody else handles it.
void EndAtInterrupt(const char* text);

// Prints what is being measured where somebody looks, or asked for it.
std::function<void(const std::string&)> ProgressTo(bool verbose);

// A failure of the core as a sentence.
Failure MeasuringFailed(const Status& status);

// "13.0"
std::string CudaVersion(int cuda);
// GB/s, where 1 GB is 10^9 bytes.
std::string Gigabytes(double bytes_per_second);

}  // namespace gpuroom
