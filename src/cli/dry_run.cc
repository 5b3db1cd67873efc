#include "cli/dry_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/size.h"
#include "cli/gpu_preview.h"
#include "cli/shell_word.h"
#include "topology/host_part.h"
#include "topology/peer_choice.h"

namespace gpuroom {
namespace {

using Json = nlohmann::ordered_json;

uint64_t OfferedHbm(const RunPlan& plan, const GpuPreview::Gpu& gpu) {
  return plan.limits.hbm.value_or(Limit()).Of(gpu.hbm);
}

// Host memory that each GPU may use: its part, or all that there is. The ranks that a launcher will start are
// not known here, unless this is one of them.
uint64_t HostOfEach(const RunPlan& plan, const GpuPreview& preview) {
  const uint64_t host = plan.limits.host.value_or(0);
  const Result<HostPart> part = ParseHostPart(plan.limits.tiers.host_part.value_or("auto"));
  const uint64_t bytes = part.ok() ? part->Of(host, static_cast<int>(preview.gpus.size())) : 0;
  return bytes > 0 ? bytes : host;
}

// `host`: what each GPU may use. An integrated GPU's own memory is the host's: a host tier would count it
// twice.
uint64_t OfferedHost(uint64_t host, const GpuPreview::Gpu& gpu) { return gpu.integrated ? 0 : host; }

// What the preloaded library will allow of managed memory.
ManagedCap CapFor(const RunPlan& plan, uint64_t host, const GpuPreview::Gpu& gpu) {
  return CapOf(plan.limits.tiers.managed.Options(),
               {OfferedHbm(plan, gpu), OfferedHost(host, gpu), gpu.coherent});
}

std::string DescribeCap(const RunPlan& plan, const ManagedCap& cap) {
  const ManagedOptions options = plan.limits.tiers.managed.Options();
  const std::string why = WhyBound(cap.bound, options);
  const bool free_too = cap.only_free && cap.bound != ManagedCap::Bound::kDevice;
  return free_too ? fmt::format("{}, and {}", why, WhyBound(ManagedCap::Bound::kDevice, options)) : why;
}

bool MayBeManaged(const RunPlan& plan) {
  return MayBeManaged(plan.limits.tiers.managed, plan.limits.tiers.rules);
}

uint64_t OfferedBytes(const RunPlan& plan, uint64_t host, const GpuPreview::Gpu& gpu) {
  if (plan.limits.tiers.managed.managed()) return CapFor(plan, host, gpu).bytes;
  return OfferedHbm(plan, gpu) + OfferedHost(host, gpu);
}

void PrintText(const RunPlan& plan, const GpuPreview& preview) {
  const uint64_t host = HostOfEach(plan, preview);
  fmt::print("would offer:\n");
  for (size_t i = 0; i < preview.gpus.size(); ++i) {
    const GpuPreview::Gpu& gpu = preview.gpus[i];
    fmt::print("  GPU {} ({}): {} of {} HBM, with the host {}\n", i, gpu.name,
               FormatSize(OfferedHbm(plan, gpu)), FormatSize(gpu.hbm),
               FormatSize(OfferedBytes(plan, host, gpu)));
    if (!MayBeManaged(plan)) continue;
    const ManagedCap cap = CapFor(plan, host, gpu);
    fmt::print("    managed memory up to {}: {}\n", FormatSize(cap.bytes), DescribeCap(plan, cap));
  }
  if (preview.failure.failed()) fmt::print("  GPU: not known here: {}\n", preview.failure.text);
  fmt::print("  host memory: {}\n", DescribeHost(plan));
  fmt::print("  link speeds: {}\n", plan.links.Sentence());
  fmt::print("would set:\n");
  for (const auto& [name, value] : plan.variables) fmt::print("  {}={}\n", name, ShellWord(value));
  if (!plan.removed.empty()) fmt::print("would unset:\n  {}\n", fmt::join(plan.removed, "\n  "));
  fmt::print("would run:\n  {}", ShellWord(plan.program.path));
  for (size_t i = 1; i < plan.command.size(); ++i) fmt::print(" {}", ShellWord(plan.command[i]));
  fmt::print("\n");
}

Json Bytes(const std::optional<uint64_t>& bytes) { return bytes ? Json(*bytes) : Json(nullptr); }

// A part has no bytes of its own: each GPU's offer says what it comes to.
Json HbmBytes(const std::optional<Limit>& limit) {
  return limit && limit->percent == 0 ? Json(limit->bytes) : Json(nullptr);
}

Json HbmPercent(const std::optional<Limit>& limit) {
  return limit && limit->percent != 0 ? Json(limit->percent) : Json(nullptr);
}

Json Words(const std::optional<std::string>& words) { return words ? Json(*words) : Json(nullptr); }

// Null: the shim's default.
Json Tiers(const TierOptions& tiers) {
  return {{"policy", Words(tiers.policy)},
          {"expect_bytes", Bytes(tiers.expect)},
          {"resident_below_bytes", Bytes(tiers.resident_below)},
          {"peers", Words(tiers.peers)},
          {"host_part", Words(tiers.host_part)},
          {"rules", Words(tiers.rules)},
          {"host_ahead_bytes", Bytes(tiers.host_ahead)},
          {"backend", Words(tiers.managed.backend)},
          {"prefetch_below_bytes", Bytes(tiers.managed.prefetch_below)},
          {"oversubscription_ratio", Words(tiers.managed.ratio)},
          {"allow_oversubscription", tiers.managed.allow ? Json(true) : Json(nullptr)}};
}

// Estimates are the shim's: it alone asks for them, once it has a GPU.
Json Links(const LinkChoice& links) {
  Json out = {{"source", links.SourceName()}};
  if (links.source == LinkChoice::Source::kEstimated) {
    out["advice"] = "run 'gpuroom bench tiers' to measure them";
    return out;
  }
  out["device_bytes_per_second"] = links.speeds.device;
  out["peer_bytes_per_second"] = links.speeds.peer;
  out["host_bytes_per_second"] = links.speeds.host;
  if (!links.measured.empty()) out["measured"] = links.measured;
  return out;
}

void PrintJson(const RunPlan& plan, const GpuPreview& preview) {
  const uint64_t host = HostOfEach(plan, preview);
  Json gpus = Json::array();
  for (const GpuPreview::Gpu& gpu : preview.gpus) {
    const ManagedCap cap = CapFor(plan, host, gpu);
    const bool managed = MayBeManaged(plan);
    gpus.push_back(Json{{"device", gpus.size()},
                        {"name", gpu.name},
                        {"hbm_bytes", gpu.hbm},
                        {"offered_hbm_bytes", OfferedHbm(plan, gpu)},
                        {"offered_bytes", OfferedBytes(plan, host, gpu)},
                        {"managed_cap_bytes", managed ? Json(cap.bytes) : Json(nullptr)},
                        {"managed_cap_reason", managed ? Json(DescribeCap(plan, cap)) : Json(nullptr)}});
  }
  Json out;
  out["simulated"] = !plan.limits.sim.empty();
  out["driver_version"] = preview.version != 0 ? Json(preview.version) : Json(nullptr);
  out["driver_problem"] = preview.failure.failed() ? Json(preview.failure.text) : Json(nullptr);
  out["devices"] = gpus;
  out["limits"] = {{"hbm_bytes", HbmBytes(plan.limits.hbm)},
                   {"hbm_percent", HbmPercent(plan.limits.hbm)},
                   {"host_bytes", Bytes(plan.limits.host)},
                   {"host_auto", plan.host_auto},
                   {"reserve_bytes", Bytes(plan.limits.reserve)}};
  if (plan.host_auto) {
    out["host"] = {{"available_bytes", plan.budget.available},
                   {"reserve_bytes", plan.budget.reserve},
                   {"node", plan.budget.node},
                   {"estimated", plan.budget.estimated},
                   {"limited_by", plan.budget.limited_by}};
  }
  out["tiers"] = Tiers(plan.limits.tiers);
  out["link_speeds"] = Links(plan.links);
  out["environment"] = plan.variables;
  out["environment_removed"] = plan.removed;
  out["program"] = plan.program.path;
  out["command"] = plan.command;
  // File names and arguments need not be UTF-8; JSON must be.
  fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
}

// The library says the same once CMD uses a GPU.
void WarnOfAbsentPeers(const RunPlan& plan, const GpuPreview& preview) {
  if (!plan.limits.tiers.peers || preview.gpus.empty()) return;
  const Result<PeerChoice> choice = ParsePeerChoice(*plan.limits.tiers.peers);
  if (!choice.ok()) return;
  for (const PeerLoan& loan : choice->list) {
    if (static_cast<size_t>(loan.ordinal) < preview.gpus.size()) continue;
    fmt::print(stderr, "gpuroom: --peers names GPU {}, and the last one here is GPU {}; leave it out\n",
               loan.ordinal, preview.gpus.size() - 1);
  }
}

// A profile beside a sysroot is its machine, as in doctor.
GpuPreview PreviewFor(const RunPlan& plan) {
  if (!plan.limits.sim.empty()) return PreviewSimulated(plan.limits.sim);
  return plan.sysroot.empty() ? PreviewGpus() : PreviewFiles(plan.sysroot);
}

}  // namespace

int DryRun(const RunPlan& plan, bool json) {
  const bool simulate = !plan.limits.sim.empty();
  const GpuPreview preview = PreviewFor(plan);
  // A machine without a GPU is an answer; a profile that does not exist is a mistake.
  if (simulate && preview.failure.failed()) return Report(preview.failure);
  WarnOfProgram(plan);
  WarnOfAbsentPeers(plan, preview);
  json ? PrintJson(plan, preview) : PrintText(plan, preview);
  return kExitOk;
}

}  // namespace gpuroom
