#include "cli/link_choice.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/gpu_preview.h"

namespace gpuroom {
namespace {

LinkChoice Measured(const std::string& sim_profile) {
  LinkChoice choice;
  const LinkCache cache = ReadLinkCache(LinkCachePath());
  choice.warning = cache.warning;
  const std::string driver = DriverIdentity(sim_profile);
  if (std::none_of(cache.entries.begin(), cache.entries.end(),
                   [&driver](const LinkEntry& entry) { return entry.driver == driver; })) {
    return choice;
  }
  const GpuPreview preview = PreviewGpusApart(sim_profile);
  if (preview.gpus.empty()) return choice;
  const std::optional<LinkEntry> entry = FindLinks(cache, preview.gpus[0].uuid, driver);
  if (!entry) return choice;
  choice.source = LinkChoice::Source::kMeasured;
  choice.speeds = entry->speeds;
  choice.measured = entry->measured;
  return choice;
}

}  // namespace

const char* LinkChoice::SourceName() const {
  switch (source) {
    case Source::kEstimated: return "estimated";
    case Source::kMeasured: return "measured";
    case Source::kGiven: return "given";
  }
  return "estimated";
}

std::string LinkChoice::Sentence() const {
  if (source == Source::kEstimated) return "estimated; run 'gpuroom bench tiers' to measure them";
  if (source == Source::kGiven) return fmt::format("given: {}", DescribeSpeeds(speeds));
  return fmt::format("measured {}: {}", measured, DescribeSpeeds(speeds));
}

std::string DescribeSpeeds(const LinkSpeeds& speeds) {
  const auto gigabytes = [](uint64_t speed) { return static_cast<double>(speed) / 1e9; };
  if (speeds.peer == 0) {
    return fmt::format("HBM {:.0f}, host {:.0f} GB/s", gigabytes(speeds.device), gigabytes(speeds.host));
  }
  return fmt::format("HBM {:.0f}, peers {:.0f}, host {:.0f} GB/s", gigabytes(speeds.device),
                     gigabytes(speeds.peer), gigabytes(speeds.host));
}

LinkChoice ChooseLinks(const std::string& sim_profile, const std::optional<std::string>& given) {
  if (!given) return Measured(sim_profile);
  LinkChoice choice;
  const Result<LinkSpeeds> speeds = ParseLinkSpeeds(*given);
  if (!speeds.ok()) return choice;
  choice.source = LinkChoice::Source::kGiven;
  choice.speeds = *speeds;
  return choice;
}

}  // namespace gpuroom
