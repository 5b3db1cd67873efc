#include "cli/metrics_text.h"

#include <fmt/format.h>

#include <iterator>

#include "sleep/stats_lines.h"

namespace gpuroom {
namespace {

using Label = std::pair<const char*, std::string>;

// What may stand within quotation marks. Bytes that are not printable ASCII become %XX, as '%' itself does:
// two tags remain two, and none can spoil the page.
std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c < ' ' || c > '~' || c == '%') {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
      continue;
    }
    if (c == '\\' || c == '"') out += '\\';
    out += c;
  }
  return out;
}

// Labels as they stand between the braces: name="value",name="value".
std::string LabelsText(std::initializer_list<Label> labels) {
  std::string text;
  for (const auto& [name, value] : labels)
    text += fmt::format("{}{}=\"{}\"", text.empty() ? "" : ",", name, Escaped(value));
  return text;
}

std::string With(const std::string& labels, std::initializer_list<Label> more) {
  return labels + ',' + LabelsText(more);
}

// One metric with the samples of all processes, which the format wants side by side.
class Family {
 public:
  Family(const char* name, const char* type, const char* help) : name_(name) {
    text_ = fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  void Add(const std::string& labels, uint64_t value) { Add("", labels, std::to_string(value)); }
  void Add(const char* suffix, const std::string& labels, const std::string& value) {
    fmt::format_to(std::back_inserter(text_), "{}{}{{{}}} {}\n", name_, suffix, labels, value);
    any_ = true;
  }
  // "" without a sample.
  std::string Text() const { return any_ ? text_ : ""; }

 private:
  const char* const name_;
  std::string text_;
  bool any_ = false;
};

std::string LabelsOf(const ProcessRow& row) {
  constexpr size_t kMostCommand = 80;  // some have thousands of arguments
  return LabelsText(
      {{"pid", std::to_string(row.pid)}, {"command", row.info.command.substr(0, kMostCommand)}});
}

// A process, with the labels that all its samples have: they are made once.
struct Source {
  explicit Source(const ProcessRow& process) : row(process), labels(LabelsOf(process)) {
    if (!row.reply.stats) return;
    for (const GpuStats& gpu : row.reply.stats->gpus)
      gpu_labels.push_back(With(labels, {{"device", std::to_string(gpu.device)}, {"gpu", gpu.uuid}}));
  }
  const ProcessRow& row;
  const std::string labels;
  std::vector<std::string> gpu_labels;  // of each of its GPUs
};
using Sources = std::vector<Source>;

template <typename Use>
void ForEachGpu(const Sources& sources, Use use) {
  for (const Source& source : sources) {
    for (size_t i = 0; i < source.gpu_labels.size(); ++i)
      use(source.gpu_labels[i], source.row.reply.stats->gpus[i]);
  }
}

template <typename Use>
void ForEachStats(const Sources& sources, Use use) {
  for (const Source& source : sources) {
    if (source.row.reply.stats) use(source.labels, *source.row.reply.stats);
  }
}

struct TierField {
  const char* tier;
  uint64_t GpuStats::*member;
};

std::string ByTier(const Sources& sources, Family family, const char* label,
                   std::initializer_list<TierField> fields) {
  ForEachGpu(sources, [&](const std::string& labels, const GpuStats& gpu) {
    for (const TierField& field : fields) family.Add(With(labels, {{label, field.tier}}), gpu.*field.member);
  });
  return family.Text();
}

std::string OfGpu(const Sources& sources, Family family, uint64_t GpuStats::*member) {
  ForEachGpu(sources,
             [&](const std::string& labels, const GpuStats& gpu) { family.Add(labels, gpu.*member); });
  return family.Text();
}

std::string Seconds(uint64_t nanoseconds) {
  return fmt::format("{}", static_cast<double>(nanoseconds) / 1e9);
}

void AddSamples(const std::string& labels, uint64_t value, Family* family) { family->Add(labels, value); }

// The format's buckets count all that is at most their bound.
void AddSamples(const std::string& labels, const TimeCounts& times, Family* family) {
  uint64_t sum = 0;
  for (size_t i = 0; i < times.counts.size(); ++i) {
    sum += times.counts[i];
    const bool bounded = i < TimeCounts::kBounds.size();
    const std::string bound = bounded ? Seconds(TimeCounts::kBounds[i]) : "+Inf";
    family->Add("_bucket", With(labels, {{"le", bound}}), std::to_string(sum));
  }
  family->Add("_sum", labels, Seconds(times.nanoseconds));
  family->Add("_count", labels, std::to_string(sum));
}

// `Figure` is a count, or a histogram of durations.
template <typename Figure>
std::string OfProcess(const Sources& sources, Family family, Figure ProcessStats::*member) {
  ForEachStats(sources, [&](const std::string& labels, const ProcessStats& stats) {
    AddSamples(labels, stats.*member, &family);
  });
  return family.Text();
}

std::string Processes(const Sources& sources) {
  Family up("gpuroom_process_up", "gauge", "Whether the process answered.");
  for (const Source& source : sources) up.Add(source.labels, source.row.failure.failed() ? 0 : 1);
  return up.Text();
}

std::string Tags(const Sources& sources) {
  Family family("gpuroom_tag_bytes", "gauge", "Memory of a tag by where its contents are.");
  for (const Source& source : sources) {
    for (const gpuroom_tag_state& tag : source.row.reply.tags) {
      const auto add = [&](const char* state, uint64_t bytes) {
        family.Add(With(source.labels, {{"tag", tag.tag}, {"state", state}}), bytes);
      };
      add("on_gpu", tag.awake_on_gpu);
      add("off_gpu", tag.awake - tag.awake_on_gpu);
      add("kept", tag.kept);
      add("on_disk", tag.on_disk);
      add("dropped", tag.dropped);
    }
  }
  return family.Text();
}

std::string RefusalsText(const Sources& sources) {
  Family family("gpuroom_refusals_total", "counter", "Requests for memory that were refused.");
  ForEachStats(sources, [&](const std::string& labels, const ProcessStats& stats) {
    for (size_t i = 0; i < stats.refusals.size(); ++i) {
      const Code code = static_cast<Code>(i);
      if (stats.refusals[i] == 0 && code != Code::kOutOfMemory) continue;  // which is there from the start
      family.Add(With(labels, {{"reason", CodeName(code)}}), stats.refusals[i]);
    }
  });
  return family.Text();
}

std::string Misplaced(const Sources& sources) {
  Family family("gpuroom_host_memory_misplaced", "gauge",
                "Whether host memory comes from another NUMA node than the one next to the GPU.");
  ForEachGpu(sources, [&](const std::string& labels, const GpuStats& gpu) {
    family.Add(labels, gpu.host_node != gpu.home_node ? 1 : 0);
  });
  return family.Text();
}

std::string MemoryText(const Sources& sources) {
  return ByTier(sources, {"gpuroom_memory_bytes", "gauge", "Memory in use by tier."}, "tier",
                {{"hbm", &GpuStats::hbm_used},
                 {"peer", &GpuStats::peer_used},
                 {"host", &GpuStats::host_used},
                 {"managed", &GpuStats::managed_used}}) +
         ByTier(sources, {"gpuroom_memory_peak_bytes", "gauge", "The most memory that was in use by tier."},
                "tier",
                {{"hbm", &GpuStats::hbm_peak},
                 {"host", &GpuStats::host_peak},
                 {"managed", &GpuStats::managed_peak}}) +
         ByTier(sources, {"gpuroom_memory_limit_bytes", "gauge", "Memory that may be used by tier."}, "tier",
                {{"hbm", &GpuStats::hbm_limit},
                 {"peer", &GpuStats::peer_limit},
                 {"host", &GpuStats::host_limit}}) +
         OfGpu(sources, {"gpuroom_host_kept_bytes", "gauge", "Host memory that is free and kept for reuse."},
               &GpuStats::host_kept) +
         OfProcess(sources,
                   {"gpuroom_host_unclaimed_bytes", "gauge", "Host budget that no process has claimed."},
                   &ProcessStats::host_unclaimed);
}

std::string MovesText(const Sources& sources) {
  return OfGpu(sources, {"gpuroom_allocations_total", "counter", "Requests for memory that were served."},
               &GpuStats::allocations) +
         OfGpu(sources, {"gpuroom_spilled_allocations_total", "counter", "Of these, with bytes outside HBM."},
               &GpuStats::spilled) +
         OfGpu(sources, {"gpuroom_displaced_bytes_total", "counter", "What gave way to other requests."},
               &GpuStats::displaced) +
         ByTier(sources, {"gpuroom_moved_bytes_total", "counter", "What moved, by the tier that it went to."},
                "to",
                {{"hbm", &GpuStats::moved_to_hbm},
                 {"peer", &GpuStats::moved_to_peer},
                 {"host", &GpuStats::moved_to_host}}) +
         OfProcess(sources, {"gpuroom_backed_up_bytes_total", "counter", "What sleeps copied to backups."},
                   &ProcessStats::backed_up) +
         OfProcess(sources, {"gpuroom_restored_bytes_total", "counter", "What wakes copied back."},
                   &ProcessStats::restored);
}

std::string TimesText(const Sources& sources) {
  return OfProcess(sources, {"gpuroom_standstill_seconds", "histogram", "How long the program was held up."},
                   &ProcessStats::standstills) +
         OfProcess(sources,
                   {"gpuroom_standstills_in_vain_total", "counter", "Standstills that were not had."},
                   &ProcessStats::standstills_in_vain) +
         OfProcess(sources, {"gpuroom_move_seconds", "histogram", "How long batches of moves took."},
                   &ProcessStats::moves) +
         OfProcess(sources, {"gpuroom_sleep_seconds", "histogram", "How long sleeps took."},
                   &ProcessStats::sleeps) +
         OfProcess(sources, {"gpuroom_wake_seconds", "histogram", "How long wakes took."},
                   &ProcessStats::wakes);
}

}  // namespace

std::string MetricsText(const std::vector<ProcessRow>& rows) {
  const Sources sources(rows.begin(), rows.end());
  return Processes(sources) + MemoryText(sources) + Tags(sources) + Misplaced(sources) + MovesText(sources) +
         TimesText(sources) + RefusalsText(sources);
}

}  // namespace gpuroom
