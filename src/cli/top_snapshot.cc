#include "cli/top_snapshot.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/size.h"

namespace gpuroom {
namespace {

TopGpu& FindOrAdd(const std::string& uuid, std::vector<TopGpu>* gpus) {
  const auto same = [&](const TopGpu& gpu) { return gpu.uuid == uuid; };
  const auto found = std::find_if(gpus->begin(), gpus->end(), same);
  if (found != gpus->end()) return *found;
  gpus->emplace_back().uuid = uuid;
  return gpus->back();
}

std::vector<TopGpu> KnownGpus(const TopMachine& machine) {
  std::vector<TopGpu> gpus;
  for (const GpuPreview::Gpu& known : machine.gpus) {
    TopGpu& gpu = gpus.emplace_back();
    gpu.uuid = known.uuid;
    gpu.name = known.name;
    gpu.hbm_total = known.hbm;
    const std::optional<LinkEntry> link = FindLinks(machine.links, known.uuid, machine.driver);
    if (link) gpu.link_speed = link->speeds.host;
  }
  return gpus;
}

void AddGpu(const GpuStats& stats, TopSnapshot* out) {
  TopGpu& gpu = FindOrAdd(stats.uuid, &out->gpus);
  if (gpu.name.empty()) gpu.hbm_total = std::max(gpu.hbm_total, stats.hbm_limit);
  gpu.hbm_used += stats.hbm_used;
  gpu.peer_used += stats.peer_used;
  gpu.host_used += stats.host_used;
  gpu.managed_used += stats.managed_used;
  gpu.processes += 1;
  out->host_used += stats.host_used;
  out->host_limit = std::max(out->host_limit, stats.host_limit);
}

}  // namespace

TopMachine ReadTopMachine() {
  return {PreviewGpusApart().gpus, ReadLinkCache(LinkCachePath()), DriverIdentity("")};
}

TopSnapshot MakeTopSnapshot(const TopMachine& machine, std::vector<ProcessRow> rows, double seconds) {
  TopSnapshot snapshot;
  snapshot.seconds = seconds;
  snapshot.gpus = KnownGpus(machine);
  for (const ProcessRow& row : rows) {
    if (!row.reply.stats) continue;
    for (const GpuStats& gpu : row.reply.stats->gpus) AddGpu(gpu, &snapshot);
    snapshot.host_unclaimed = std::max(snapshot.host_unclaimed, row.reply.stats->host_unclaimed);
  }
  snapshot.processes = std::move(rows);
  return snapshot;
}

uint64_t AsleepBytes(const ProcessRow& row) { return row.sum.kept + row.sum.on_disk + row.sum.dropped; }

std::vector<std::string> MisplacedSentences(const ProcessRow& row) {
  std::vector<std::string> sentences;
  if (!row.reply.stats) return sentences;
  for (const GpuStats& gpu : row.reply.stats->gpus) {
    if (gpu.host_node == gpu.home_node || gpu.host_used + gpu.host_kept == 0) continue;
    sentences.push_back(
        fmt::format("process {}: its host memory is on NUMA node {}, and its GPU {} is next to node {}; "
                    "every access takes "
                    "a longer way (gpuroom doctor says more)",
                    row.pid, gpu.host_node, gpu.device, gpu.home_node));
  }
  return sentences;
}

std::string RefusalSentence(const ProcessRow& row) {
  if (!row.reply.stats || row.reply.stats->refused_code.empty()) return "";
  const ProcessStats& stats = *row.reply.stats;
  return fmt::format("process {}: refused {} on GPU {} ({}): {}", row.pid, FormatSize(stats.refused_bytes),
                     stats.refused_device, stats.refused_code, Printable(stats.refused_text));
}

}  // namespace gpuroom
