#include "cli/doctor.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "base/env.h"
#include "cli/doctor_container.h"
#include "cli/doctor_gpu.h"
#include "cli/doctor_host.h"
#include "cli/doctor_probe.h"
#include "cli/doctor_report.h"
#include "cli/exit_codes.h"
#include "cli/gpu_preview.h"
#include "cli/hush.h"
#include "cli/link_cache.h"
#include "cli/sim_exec.h"
#include "cli/status_text.h"
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

std::string FixFor(const Status& status) {
  if (!ActiveSim().empty()) return fmt::format("check the profile '{}' of the simulated driver", ActiveSim());
  if (status.code() == Code::kUnsupported) return "install driver 580 or newer";
  return "install the NVIDIA driver 580 or newer, give the container its GPUs (--gpus all), or try --sim "
         "h200";
}

struct Driven {
  bool usable = false;
  bool no_device = false;  // the driver is there and finds no GPU
  std::vector<Gpu> gpus;
};

// Binds and starts the driver; what prevents that becomes a fact.
Driven AskDriver(const Sysroot& root, Driver* driver, DoctorReport* report) {
  const auto refuse = [report](const Status& status) {
    report->Add({"driver",
                 "cuda",
                 FactStatus::kFail,
                 "not usable",
                 DescribeStatus(status) + ".",
                 FixFor(status),
                 {}});
    return Driven{false, status.native() == CUDA_ERROR_NO_DEVICE, {}};
  };
  const Result<Driver> bound = BindDriver();
  if (!bound.ok()) return refuse(bound.status());
  *driver = *bound;
  AddCudaFact(*driver, report);
  Result<std::vector<Gpu>> gpus = ReadGpus(*driver, root);
  if (!gpus.ok()) return refuse(gpus.status());
  return {true, false, std::move(*gpus)};
}

// The simulated driver tells of a profile that it does not know in its own words.
Driven AskQuietly(bool simulated, const Sysroot& root, Driver* driver, DoctorReport* report) {
  if (!simulated) return AskDriver(root, driver, report);
  const Hush hush;
  return AskDriver(root, driver, report);
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

// A simulated GPU says nothing of the memory of the machine that it runs on;
// only a sysroot that was named beside it is meant to be its machine.
HostModel ModelFor(const Sysroot& root, const Driven& driven) {
  const bool apart = !ActiveSim().empty() && root.IsMachine();
  HostModel model = ReadHostModel(root, apart ? std::vector<GpuHint>() : HintsOf(driven.gpus));
  if (apart && driven.usable) model.gpus = HintsOf(driven.gpus);
  return model;
}

void AddHost(const Sysroot& root, const std::string& path, const Driven& driven, DoctorReport* report) {
  const HostModel model = ModelFor(root, driven);
  if (!driven.usable) {
    for (size_t i = 0; i < model.gpus.size(); ++i) {
      AddHintFact(static_cast<int>(i), model.gpus[i], root, report);
    }
  }
  HostBudgetRequest request;
  request.sysroot = path;
  const HostBudget budget = AutoHostBudget(model, request);
  AddHostFacts(model, budget, report);
  AddPool(model, budget, report);
}

}  // namespace

int RunDoctor(const DoctorOptions& options) {
  const bool files_only = !options.sysroot.empty() && options.sim.empty();
  const std::string path = options.sysroot.empty() ? "/" : options.sysroot;
  const Sysroot root(path);
  const Failure no_root = CheckSysroot(options.sysroot);
  if (no_root.failed()) return Report(no_root);
  if (!options.sim.empty()) {
    const Status entered = EnterSim(options.sim);
    if (!entered.ok()) return Report({kExitNoDriver, entered.what()});
  }
  DoctorReport report;
  const bool simulated = !files_only && !ActiveSim().empty();
  if (simulated) AddSimFact(ActiveSim(), &report);
  const NvidiaFiles files = ReadNvidiaFiles(root);
  if (!simulated || !files.version.empty()) AddKernelDriverFact(files, files_only, &report);
  Driver driver;
  Driven driven;
  if (!files_only) driven = AskQuietly(simulated, root, &driver, &report);
  if (driven.no_device && simulated) return Report(NoProfile(options.sim));
  std::vector<ProbeResult> probes;
  if (driven.usable) probes = AddDriven(driver, root, &driven.gpus, &report);
  AddHost(root, path, driven, &report);
  AddContainer(root, probes, &report);
  fmt::print("{}", options.json ? report.Json() : report.Text());
  if (!files_only && !driven.usable) return kExitNoDriver;
  return report.Count(FactStatus::kFail) == 0 ? kExitOk : kExitFailed;
}

}  // namespace gpuroom
