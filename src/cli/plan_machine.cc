#include "cli/plan_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/size.h"
#include "cli/gpu_catalogue.h"
#include "cli/gpu_preview.h"
#include "cli/link_choice.h"
#include "cli/sim_machine.h"
#include "cli/small_file.h"
#include "driver/driver.h"
#include "model/json_text.h"
#include "topology/gpu.h"
#include "topology/host_budget.h"
#include "topology/host_model.h"
#include "topology/link_estimate.h"

namespace gpuroom {
namespace {

// Kernels read a GPU's own memory at 0.93 of what its data sheet says, and over PCIe at 0.95 of what its copy
// engine reaches (docs/measurements.md).
constexpr double kMemoryEfficiency = 0.93;
constexpr double kKernelReads = 0.95;
constexpr double kC2c = 350e9;  // Grace to Hopper and Blackwell: 342 to 375 GB/s, published
constexpr uint64_t kMostHost = uint64_t{1} << 50;

void SetPublished(PlanMachine* machine) {
  const PublishedGpu* published = FindPublished(machine->gpu);
  if (published != nullptr) machine->bf16_flops = published->bf16_flops;
}

// Speeds of a GPU that cannot be asked: by its name and its link.
void SetSpeedsByName(double host_speed, PlanMachine* machine) {
  const PublishedGpu* published = FindPublished(machine->gpu);
  if (published == nullptr) return;
  machine->speeds.device = static_cast<uint64_t>(published->bytes_per_second * kMemoryEfficiency);
  machine->speeds.host = machine->integrated ? machine->speeds.device : static_cast<uint64_t>(host_speed);
  machine->speeds_are = "estimated from data sheets; 'gpuroom bench tiers' measures them there";
}

void SetGpu(const GpuPreview& preview, PlanMachine* machine) {
  const GpuPreview::Gpu& first = preview.gpus.front();
  machine->gpu = first.name;
  machine->gpus = static_cast<int>(preview.gpus.size());
  machine->hbm = first.hbm;
  machine->integrated = first.integrated;
  SetPublished(machine);
}

// Once the driver has been started.
LinkSpeeds EstimateFirst() {
  const Result<Driver> driver = BindDriver();
  CUdevice device = 0;
  if (!driver.ok() || driver->DeviceGet(&device, 0) != CUDA_SUCCESS) return {};
  return EstimateLinkSpeeds(*driver, device);
}

Failure ReadHere(PlanMachine* machine) {
  machine->where = "this machine";
  const LinkChoice links = ChooseLinks("", std::nullopt);
  const GpuPreview preview = PreviewGpus();
  if (preview.failure.failed()) {
    return {preview.failure.exit_code,
            fmt::format("{}; or name a machine, as in --machine h200", preview.failure.text)};
  }
  SetGpu(preview, machine);
  const bool estimated = links.source == LinkChoice::Source::kEstimated;
  machine->speeds = estimated ? EstimateFirst() : links.speeds;
  machine->speeds_are =
      estimated ? "estimated; 'gpuroom bench tiers' measures them" : "measured " + links.measured;
  const HostBudget budget = AutoHostBudget();
  machine->host = machine->integrated ? 0 : budget.bytes;
  machine->host_is = "what this machine can spare now, limited by " + budget.limited_by;
  return {};
}

Failure ReadProfile(const std::string& profile, PlanMachine* machine) {
  machine->where = "profile " + profile;
  const GpuPreview preview = PreviewSimulated(profile);
  if (preview.failure.failed()) {
    if (preview.failure.exit_code != kExitUsage) return preview.failure;
    return {
        kExitUsage,
        fmt::format("--machine '{}' is no file and no profile; write here, a machine's name (h200, gh200, "
                    "gh200-egm, gb200, gb10, rtx4090, 8xh200), sizes such as 2x80GiB,host=256GiB, or a file "
                    "with the machine of 'gpuroom plan --json'",
                    profile)};
  }
  SetGpu(preview, machine);
  const bool pcie = !preview.gpus.front().coherent;
  const LinkSpeeds estimate = EstimateFirst();
  SetSpeedsByName(pcie ? static_cast<double>(estimate.host) : kC2c, machine);
  if (machine->speeds.device == 0) {
    machine->speeds = estimate;
    machine->speeds_are = "estimated for a GPU without a name";
  }
  machine->host = machine->integrated ? 0 : SimulatedHostBytes();
  machine->host_is = "all of the profile's";
  return {};
}

Failure ReadSysroot(const std::string& sysroot, PlanMachine* machine) {
  const Failure failure = CheckSysroot(sysroot);
  if (failure.failed()) return failure;
  machine->where = "the machine of " + sysroot;
  const GpuPreview preview = PreviewFiles(sysroot);
  if (preview.failure.failed()) return preview.failure;
  SetGpu(preview, machine);
  const HostModel model = ReadHostModel(Sysroot(sysroot));
  const HostLink link = ReadHostLink(model.gpus.front(), Sysroot(sysroot));
  const bool coherent = preview.gpus.front().coherent;
  SetSpeedsByName(coherent ? kC2c : link.gigabytes_per_second * 1e9 * kKernelReads, machine);
  if (!ArePlausible(machine->speeds)) {
    return {kExitUsage,
            fmt::format("how fast the GPU '{}' of '{}' reads memory is not known here; describe the machine "
                        "in a file, as 'gpuroom plan --json' prints one, and name it with --machine",
                        machine->gpu, sysroot)};
  }
  HostBudgetRequest request;
  request.sysroot = sysroot;
  const HostBudget budget = AutoHostBudget(model, request);
  machine->host = machine->integrated ? 0 : budget.bytes;
  machine->host_is = "what that machine could spare, limited by " + budget.limited_by;
  return {};
}

Failure ReadFile(const std::string& path, PlanMachine* machine) {
  std::string text;
  const Status status = ReadSmallFile(path, &text);
  if (status.ok()) return ParseMachineFile(path, text, machine);
  return {kExitUsage, fmt::format("--machine '{}' cannot be read: {}; name a readable file", path,
                                  DescribeReadFailure(status))};
}

}  // namespace

Failure ParseMachineFile(const std::string& path, const std::string& text, PlanMachine* machine) {
  const auto refuse = [&path](const std::string& what) {
    return Failure{kExitUsage, fmt::format("--machine '{}' {}", path, what)};
  };
  model::Json json;
  const model::Mistake mistake = model::ParseJson(text, &json);
  if (!mistake.empty())
    return refuse(mistake.substr(0, mistake.find(';')) + "; write what 'gpuroom plan --json' prints");
  const model::Json* within = model::Find(json, "machine");
  const model::Json& of = within != nullptr ? *within : json;
  const auto bytes = [&of](const char* key, uint64_t most) {
    const model::Json* value = model::Find(of, key);
    const bool number = value != nullptr && value->is_number_unsigned();
    return number ? std::min(value->get<uint64_t>(), most) : uint64_t{0};
  };
  machine->where = path;
  machine->gpu = Printable(model::FindText(of, "gpu")).substr(0, 128);
  machine->gpus = static_cast<int>(std::clamp<uint64_t>(bytes("gpus", 64), 1, 64));
  machine->hbm = bytes("hbm_bytes", kMostHost);
  machine->host = bytes("host_bytes", kMostHost);
  machine->host_is = "as the file says";
  machine->integrated = model::FindFlag(of, "integrated");
  machine->speeds.device = bytes("device_bytes_per_second", UINT64_MAX);
  machine->speeds.host = bytes("host_bytes_per_second", UINT64_MAX);
  machine->speeds_are = "given";
  SetPublished(machine);
  const uint64_t flops = bytes("bf16_flops_per_second", UINT64_MAX);
  if (flops > 0) machine->bf16_flops = static_cast<double>(flops);
  if (machine->hbm < kGiB)
    return refuse("gives no \"hbm_bytes\" of 1 GiB or more; write what 'gpuroom plan --json' prints");
  if (!ArePlausible(machine->speeds))
    return refuse(
        "gives no plausible \"device_bytes_per_second\" and \"host_bytes_per_second\"; 'gpuroom bench tiers' "
        "measures them");
  return {};
}

Failure ReadPlanMachine(const MachineChoice& choice, PlanMachine* machine) {
  if (!choice.sysroot.empty()) return ReadSysroot(choice.sysroot, machine);
  if (choice.machine.empty() || choice.machine == "here") return ReadHere(machine);
  std::error_code error;
  if (std::filesystem::is_regular_file(choice.machine, error)) return ReadFile(choice.machine, machine);
  return ReadProfile(choice.machine, machine);
}

}  // namespace gpuroom
