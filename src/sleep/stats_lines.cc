#include "sleep/stats_lines.h"

#include "sleep/control_fields.h"

namespace gpuroom {
namespace {

constexpr ControlField<ProcessStats> kProcessFields[] = {
    {"backed_up", &ProcessStats::backed_up},
    {"restored", &ProcessStats::restored},
    {"share", &ProcessStats::share},
    {"host_unclaimed", &ProcessStats::host_unclaimed},
    {"standstills_in_vain", &ProcessStats::standstills_in_vain}};

constexpr ControlField<GpuStats> kGpuFields[] = {{"device", &GpuStats::device},
                                                 {"hbm_limit", &GpuStats::hbm_limit},
                                                 {"hbm_used", &GpuStats::hbm_used},
                                                 {"hbm_peak", &GpuStats::hbm_peak},
                                                 {"peer_limit", &GpuStats::peer_limit},
                                                 {"peer_used", &GpuStats::peer_used},
                                                 {"host_limit", &GpuStats::host_limit},
                                                 {"host_used", &GpuStats::host_used},
                                                 {"host_peak", &GpuStats::host_peak},
                                                 {"host_kept", &GpuStats::host_kept},
                                                 {"managed_used", &GpuStats::managed_used},
                                                 {"managed_peak", &GpuStats::managed_peak},
                                                 {"host_node", &GpuStats::host_node},
                                                 {"home_node", &GpuStats::home_node},
                                                 {"allocations", &GpuStats::allocations},
                                                 {"spilled", &GpuStats::spilled},
                                                 {"displaced", &GpuStats::displaced},
                                                 {"moved_to_hbm", &GpuStats::moved_to_hbm},
                                                 {"moved_to_peer", &GpuStats::moved_to_peer},
                                                 {"moved_to_host", &GpuStats::moved_to_host}};

std::string CountsText(const TimeCounts& times) {
  std::string text;
  for (const uint64_t count : times.counts) text += (text.empty() ? "" : ",") + std::to_string(count);
  return text;
}

// A list that has not one number for each bucket is none: all are 0 then.
TimeCounts ReadTimes(const ControlLine& line) {
  TimeCounts times;
  std::string_view rest = line.Value("counts");
  for (size_t i = 0; i < times.counts.size(); ++i) {
    const size_t comma = rest.find(',');
    const Result<uint64_t> count = ParseDecimal(rest.substr(0, comma));
    const bool last = i + 1 == times.counts.size();
    if (!count.ok() || last != (comma == std::string_view::npos)) return {};
    times.counts[i] = *count;
    rest.remove_prefix(last ? rest.size() : comma + 1);
  }
  times.nanoseconds = line.Number("nanoseconds");
  return times;
}

std::string StatsLine(const ProcessStats& stats) {
  ControlLine line;
  line.Add("stats").Add("version", kStatsVersion);
  AddFields(stats, kProcessFields, &line);
  return line.Text();
}

std::string GpuLine(const GpuStats& gpu) {
  ControlLine line;
  line.Add("gpu").Add("uuid", gpu.uuid);
  AddFields(gpu, kGpuFields, &line);
  return line.Text();
}

std::string TimesLine(const char* name, const TimeCounts& times) {
  ControlLine line;
  line.Add("times").Add("of", std::string_view(name)).Add("counts", CountsText(times));
  return line.Add("nanoseconds", times.nanoseconds).Text();
}

std::string RefusedLine(const ProcessStats& stats) {
  ControlLine line;
  line.Add("refused");
  for (size_t i = 0; i < stats.refusals.size(); ++i) {
    if (stats.refusals[i] != 0) line.Add(CodeName(static_cast<Code>(i)), stats.refusals[i]);
  }
  return line.Text();
}

std::string LastRefusalLine(const ProcessStats& stats) {
  ControlLine line;
  line.Add("last_refusal").Add("code", stats.refused_code).Add("text", stats.refused_text);
  return line.Add("device", stats.refused_device).Add("bytes", stats.refused_bytes).Text();
}

void ReadGpu(const ControlLine& line, ProcessStats* stats) {
  GpuStats gpu;
  gpu.uuid = line.Value("uuid");
  ReadFields(line, kGpuFields, &gpu);
  stats->gpus.push_back(gpu);
}

void ReadRefused(const ControlLine& line, ProcessStats* stats) {
  for (size_t i = 0; i < stats->refusals.size(); ++i)
    stats->refusals[i] = line.Number(CodeName(static_cast<Code>(i)));
}

void ReadLastRefusal(const ControlLine& line, ProcessStats* stats) {
  stats->refused_code = line.Value("code");
  stats->refused_text = line.Value("text");
  stats->refused_device = line.Number("device");
  stats->refused_bytes = line.Number("bytes");
}

void ReadNamedTimes(const ControlLine& line, ProcessStats* stats) {
  for (const NamedTimes& named : kNamedTimes) {
    if (line.Value("of") == named.name) stats->*named.member = ReadTimes(line);
  }
}

}  // namespace

std::string StatsLines(const ProcessStats& stats) {
  std::string text = StatsLine(stats);
  for (const GpuStats& gpu : stats.gpus) text += GpuLine(gpu);
  for (const NamedTimes& named : kNamedTimes) text += TimesLine(named.name, stats.*named.member);
  text += RefusedLine(stats);
  return stats.refused_code.empty() ? text : text + LastRefusalLine(stats);
}

void ReadStatsLine(const ControlLine& line, std::optional<ProcessStats>* stats) {
  const std::string_view kind = line.Word(0);
  if (kind == "stats" && !*stats && line.Number("version") == kStatsVersion) {
    stats->emplace();
    ReadFields(line, kProcessFields, &**stats);
  }
  if (!*stats) return;
  if (kind == "gpu") ReadGpu(line, &**stats);
  if (kind == "times") ReadNamedTimes(line, &**stats);
  if (kind == "refused") ReadRefused(line, &**stats);
  if (kind == "last_refusal") ReadLastRefusal(line, &**stats);
}

}  // namespace gpuroom
