#include "cli/stats_json.h"

#include "sleep/stats_lines.h"

namespace gpuroom {
namespace {

using Json = nlohmann::ordered_json;

Json GpuJson(const GpuStats& gpu) {
  return {{"device", gpu.device},
          {"uuid", gpu.uuid},
          {"hbm_bytes", {{"current", gpu.hbm_used}, {"peak", gpu.hbm_peak}, {"limit", gpu.hbm_limit}}},
          {"peer_bytes", {{"current", gpu.peer_used}, {"limit", gpu.peer_limit}}},
          {"host_bytes",
           {{"current", gpu.host_used},
            {"peak", gpu.host_peak},
            {"kept", gpu.host_kept},
            {"limit", gpu.host_limit},
            {"numa_node", gpu.host_node},
            {"numa_node_of_gpu", gpu.home_node}}},
          {"managed_bytes", {{"current", gpu.managed_used}, {"peak", gpu.managed_peak}}},
          {"allocations", gpu.allocations},
          {"spilled", gpu.spilled},
          {"displaced_bytes", gpu.displaced},
          {"moved_bytes",
           {{"to_hbm", gpu.moved_to_hbm}, {"to_peer", gpu.moved_to_peer}, {"to_host", gpu.moved_to_host}}}};
}

Json TimesJson(const TimeCounts& times) {
  Json buckets = Json::array();
  for (size_t i = 0; i < times.counts.size(); ++i) {
    const bool bounded = i < TimeCounts::kBounds.size();
    const Json bound = bounded ? Json(static_cast<double>(TimeCounts::kBounds[i]) / 1e9) : Json(nullptr);
    buckets.push_back({{"at_most_seconds", bound}, {"count", times.counts[i]}});
  }
  return {{"seconds", static_cast<double>(times.nanoseconds) / 1e9}, {"buckets", buckets}};
}

Json RefusalsJson(const ProcessStats& stats) {
  Json by_reason = Json::object();
  for (size_t i = 0; i < stats.refusals.size(); ++i) {
    if (stats.refusals[i] != 0) by_reason[CodeName(static_cast<Code>(i))] = stats.refusals[i];
  }
  Json last = nullptr;
  if (!stats.refused_code.empty()) {
    last = {{"reason", stats.refused_code},
            {"text", stats.refused_text},
            {"device", stats.refused_device},
            {"bytes", stats.refused_bytes}};
  }
  return {{"by_reason", by_reason}, {"last", last}};
}

}  // namespace

Json StatsJson(const ProcessStats& stats) {
  Json out = {{"version", kStatsVersion}, {"gpus", Json::array()}};
  for (const GpuStats& gpu : stats.gpus) out["gpus"].push_back(GpuJson(gpu));
  for (const NamedTimes& named : kNamedTimes) out[named.name] = TimesJson(stats.*named.member);
  out["standstills_in_vain"] = stats.standstills_in_vain;
  out["backed_up_bytes"] = stats.backed_up;
  out["restored_bytes"] = stats.restored;
  out["host_unclaimed_bytes"] = stats.host_unclaimed;
  out["refusals"] = RefusalsJson(stats);
  return out;
}

}  // namespace gpuroom
