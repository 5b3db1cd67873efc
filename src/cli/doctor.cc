#include "cli/doctor.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "base/env.h"
#include "cli/doctor_bundle.h"
#include "cli/doctor_container.h"
#include "cli/doctor_gpu.h"
#include "cli/doctor_host.h"
#include "cli/doctor_probe.h"
#include "cli/doctor_report.h"
#include "cli/doctor_text.h"
#include "cli/driver_advice.h"
#include "cli/exit_codes.h"
#include "cli/gpu_preview.h"
#include "cli/hush.h"
#include "cli/link_cache.h"
#include "cli/sim_exec.h"
#include "cli/sim_machine.h"
#include "driver/driver.h"
#include "topology/gpu.h"
#include "topology/host_budget.h"
#include "topology/host_model.h"
#include "topology/link_estimate.h"

namespace gpuroom {
namespace {

// The profile in use, whether this command's option or the environment chose it.
std::string ActiveSim() {
  const char* profile = std::getenv(env::kSim);
  return profile == nullptr ? "" : profile;
}

struct Driven {
  DriverState state = DriverState::kNotAsked;
  Status status;  // kFails: why
  std::vector<Gpu> gpus;

  bool usable() const { return state == DriverState::kWorks; }
};

// Binds and starts the driver, and reads what it says of its GPUs.
Driven AskDriver(const Sysroot& root, Driver* driver) {
  const Result<Driver> bound = BindDriver();
  if (!bound.ok()) return {DriverState::kFails, bound.status(), {}};
  *driver = *bound;
  Result<std::vector<Gpu>> gpus = ReadGpus(*driver, root);
  if (!gpus.ok()) return {DriverState::kFails, gpus.status(), {}};
  return {DriverState::kWorks, Status(), std::move(*gpus)};
}

bool FoundNoGpu(const Driven& driven) {
  return driven.state == DriverState::kFails && driven.status.native() == CUDA_ERROR_NO_DEVICE;
}

// The simulated driver tells of a profile that it does not know in its own words.
Driven AskQuietly(bool simulated, const Sysroot& root, Driver* driver) {
  if (!simulated) return AskDriver(root, driver);
  const Hush hush;
  return AskDriver(root, driver);
}

void AddDriver(const Sysroot& root, const Driven& driven, const Driver& driver, DoctorReport* report) {
  const NvidiaFiles files = ReadNvidiaFiles(root);
  const bool simulated = !ActiveSim().empty();
  const bool asked = driven.state != DriverState::kNotAsked;
  if (asked && simulated) AddSimFact(ActiveSim(), report);
  if (!asked || !simulated || !files.version.empty()) AddKernelDriverFact(files, driven.state, report);
  if (!asked) return;
  const DriverLibrary library = FindDriverLibrary();
  if (!simulated) AddLibraryFact(library, report);
  if (driven.usable()) {
    AddCudaFact(driver, report);
  } else {
    AddCudaFailure(ExplainDriver(driven.status, library, files), report);
  }
}

// Tries the features first: a GPU at work shows its link at full speed. Returns what the trials said.
std::vector<ProbeResult> AddDriven(const Driver& driver, const Sysroot& root, std::vector<Gpu>* gpus,
                                   DoctorReport* report) {
  std::vector<ProbeResult> probes;
  for (Gpu& gpu : *gpus) {
    probes.push_back(ProbeGpu(driver, gpu));
    gpu.link = ReadHostLink(gpu, root);
  }
  const LinkCache cache = ReadLinkCache(LinkCachePath());
  const std::string identity = DriverIdentity(ActiveSim());
  for (size_t i = 0; i < gpus->size(); ++i) {
    const Gpu& gpu = (*gpus)[i];
    AddGpuFacts(gpu, probes[i], !ActiveSim().empty(), report);
    AddSpeedFact(gpu, EstimateFrom(ReadLinkFacts(driver, gpu.device, root)), cache, identity, report);
  }
  for (size_t i = 0; i < gpus->size(); ++i) AddFeatureFacts((*gpus)[i], probes[i], report);
  return probes;
}

// Of a real driver: the simulated one places memory without asking the kernel.
bool HostChunksWorked(const std::vector<ProbeResult>& probes) {
  for (const ProbeResult& probe : probes) {
    for (const Trial& trial : probe.trials) {
      if (trial.name == "host_chunk" && trial.worked) return true;
    }
  }
  return false;
}

void AddContainer(const Sysroot& root, const std::vector<ProbeResult>& probes, DoctorReport* report) {
  ContainerView view;
  view.container = ReadContainer(root);
  view.host_works = ActiveSim().empty() && HostChunksWorked(probes);
  // Of another machine's files only the usual place is known.
  const char* chosen = root.IsMachine() ? std::getenv(env::kLedger) : nullptr;
  view.ledger = chosen != nullptr ? chosen : fmt::format("/dev/shm/gpuroom-{}.ledger", geteuid());
  view.ledger_mount = FindMount(root, view.ledger);
  AddContainerFacts(view, report);
}

// False where no file shows a GPU, and no driver was asked.
bool AddHost(const Sysroot& root, const Driven& driven, DoctorReport* report) {
  const HostModel model = ReadHostModel(root, HintsOf(driven.gpus));
  const bool seen = !model.gpus.empty() || !model.pci_gpus.empty();
  if (!driven.usable()) {
    for (size_t i = 0; i < model.gpus.size(); ++i) {
      AddHintFact(static_cast<int>(i), model.gpus[i], root, report);
    }
  }
  if (driven.state == DriverState::kNotAsked && !seen) AddNoGpuFact(report);
  if (!driven.usable()) AddTableFact(root, report);
  const HostBudget budget = AutoHostBudget(model, {});
  AddHostFacts(model, budget, report);
  AddPool(model, budget, report);
  return seen;
}

// What was measured on these GPUs, if anything.
std::vector<LinkEntry> LinkEntriesOf(const Driven& driven) {
  const LinkCache cache = ReadLinkCache(LinkCachePath());
  std::vector<LinkEntry> entries;
  for (const Gpu& gpu : driven.gpus) {
    const std::optional<LinkEntry> entry = FindLinks(cache, gpu.uuid, DriverIdentity(ActiveSim()));
    if (entry) entries.push_back(*entry);
  }
  return entries;
}

}  // namespace

int RunDoctor(const DoctorOptions& options) {
  const bool files_only = !options.sysroot.empty() && options.sim.empty();
  const Failure no_root = CheckSysroot(options.sysroot);
  if (no_root.failed()) return Report(no_root);
  if (!options.sim.empty()) {
    const Status entered = EnterSim(options.sim);
    if (!entered.ok()) return Report({kExitNoDriver, entered.what()});
  }
  const bool simulated = !files_only && !ActiveSim().empty();
  // A simulated GPU's machine is its profile's, unless a sysroot was named to be it.
  const Sysroot::Files profile = SimulatedMachine();
  const Sysroot root = !options.sysroot.empty() ? Sysroot(options.sysroot)
                       : simulated              ? Sysroot(&profile)
                                                : Sysroot("/");
  Driver driver;
  Driven driven;
  if (!files_only) driven = AskQuietly(simulated, root, &driver);
  DoctorReport report;
  AddDriver(root, driven, driver, &report);
  if (simulated && FoundNoGpu(driven) && ProfileHasNoGpu()) return Report(NoProfile(options.sim));
  std::vector<ProbeResult> probes;
  if (driven.usable()) probes = AddDriven(driver, root, &driven.gpus, &report);
  const bool seen = AddHost(root, driven, &report);
  AddContainer(root, probes, &report);
  const bool usable = driven.usable() || (driven.state == DriverState::kNotAsked && seen);
  const std::string text = DoctorText(report, {options.problems, TerminalWidth()});
  fmt::print("{}", options.json ? report.Json() : text);
  if (!options.bundle.empty()) {
    const Failure failure = WriteBundle(options.bundle, report, root, LinkEntriesOf(driven));
    if (failure.failed()) return Report(failure);
  }
  if (!usable) return kExitNoDriver;
  return report.Count(FactStatus::kFail) == 0 ? kExitOk : kExitFailed;
}

}  // namespace gpuroom
