#include "cli/top_report.h"

#include <fmt/format.h>

#include <iterator>

#include "base/size.h"
#include "cli/process_json.h"

namespace gpuroom {
namespace {

using Json = nlohmann::ordered_json;

std::string Link(uint64_t bytes_per_second) {
  return bytes_per_second == 0 ? "not measured"
                               : fmt::format("{:.0f} GB/s", static_cast<double>(bytes_per_second) / 1e9);
}

std::string GpusText(const TopSnapshot& snapshot) {
  std::string text = fmt::format("{:>3}  {:<24} {:>9} {:>9} {:>9} {:>9} {:>9}  {}\n", "GPU", "NAME", "HBM",
                                 "OF", "PEER", "HOST", "PROCESSES", "HOST LINK");
  for (size_t i = 0; i < snapshot.gpus.size(); ++i) {
    const TopGpu& gpu = snapshot.gpus[i];
    text += fmt::format("{:>3}  {:<24} {:>9} {:>9} {:>9} {:>9} {:>9}  {}\n", i,
                        Printable(gpu.name.empty() ? gpu.uuid.substr(0, 24) : gpu.name),
                        FormatSize(gpu.hbm_used), FormatSize(gpu.hbm_total), FormatSize(gpu.peer_used),
                        FormatSize(gpu.host_used + gpu.managed_used), gpu.processes, Link(gpu.link_speed));
  }
  return text;
}

std::string HostText(const TopSnapshot& snapshot) {
  if (snapshot.host_limit == 0) return "";
  return fmt::format("host memory: {} of the node's {} are in use, {} are unclaimed\n",
                     FormatSize(snapshot.host_used), FormatSize(snapshot.host_limit),
                     FormatSize(snapshot.host_unclaimed));
}

uint64_t SumOf(const ProcessStats& stats, uint64_t GpuStats::*member) {
  uint64_t sum = 0;
  for (const GpuStats& gpu : stats.gpus) sum += gpu.*member;
  return sum;
}

uint64_t CountOf(const TimeCounts& times) {
  uint64_t sum = 0;
  for (const uint64_t count : times.counts) sum += count;
  return sum;
}

std::string ProcessText(const ProcessRow& row) {
  const ProcessStats stats = row.reply.stats.value_or(ProcessStats());
  const std::string user = row.info.uid ? UserName(*row.info.uid) : "?";
  const uint64_t host = SumOf(stats, &GpuStats::host_used) + SumOf(stats, &GpuStats::managed_used);
  uint64_t refused = 0;
  for (const uint64_t count : stats.refusals) refused += count;
  return fmt::format("{:>7}  {:<8}  {:<14} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6} {:>7}  {}\n", row.pid,
                     Printable(user), StateOf(row), FormatSize(SumOf(stats, &GpuStats::hbm_used)),
                     FormatSize(SumOf(stats, &GpuStats::peer_used)), FormatSize(host),
                     FormatSize(AsleepBytes(row)), FormatSize(SumOf(stats, &GpuStats::displaced)),
                     CountOf(stats.standstills), refused, Printable(row.info.command));
}

std::string ProcessesText(const TopSnapshot& snapshot) {
  if (snapshot.processes.empty()) return "no process is under gpuroom and uses a GPU\n";
  std::string text =
      fmt::format("{:>7}  {:<8}  {:<14} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6} {:>7}  {}\n", "PID", "USER",
                  "STATE", "HBM", "PEER", "HOST", "ASLEEP", "GAVE WAY", "STILLS", "REFUSED", "COMMAND");
  for (const ProcessRow& row : snapshot.processes) text += ProcessText(row);
  return text;
}

std::string NotesText(const TopSnapshot& snapshot) {
  std::string text;
  for (const ProcessRow& row : snapshot.processes) {
    for (const std::string& sentence : MisplacedSentences(row)) text += sentence + '\n';
    const std::string refusal = RefusalSentence(row);
    if (!refusal.empty()) text += refusal + '\n';
  }
  return text;
}

Json GpuJson(const TopGpu& gpu) {
  return {{"uuid", gpu.uuid},
          {"name", gpu.name.empty() ? Json(nullptr) : Json(gpu.name)},
          {"hbm_bytes", {{"used", gpu.hbm_used}, {"total", gpu.hbm_total}}},
          {"peer_bytes", gpu.peer_used},
          {"host_bytes", gpu.host_used},
          {"managed_bytes", gpu.managed_used},
          {"link_bytes_per_second", gpu.link_speed == 0 ? Json(nullptr) : Json(gpu.link_speed)},
          {"processes", gpu.processes}};
}

}  // namespace

std::string TopText(const TopSnapshot& snapshot) {
  std::string text;
  for (const std::string& part :
       {GpusText(snapshot), HostText(snapshot), ProcessesText(snapshot), NotesText(snapshot)}) {
    if (!part.empty()) fmt::format_to(std::back_inserter(text), "{}{}", text.empty() ? "" : "\n", part);
  }
  return text;
}

Json TopJson(const TopSnapshot& snapshot) {
  Json out = {{"version", kTopVersion}, {"seconds", snapshot.seconds}, {"gpus", Json::array()}};
  for (const TopGpu& gpu : snapshot.gpus) out["gpus"].push_back(GpuJson(gpu));
  out["host_bytes"] = {
      {"limit", snapshot.host_limit}, {"used", snapshot.host_used}, {"unclaimed", snapshot.host_unclaimed}};
  out["processes"] = Json::array();
  for (const ProcessRow& row : snapshot.processes) {
    Json process = ProcessJson(row);
    process["misplaced"] = MisplacedSentences(row);
    out["processes"].push_back(process);
  }
  return out;
}

}  // namespace gpuroom
