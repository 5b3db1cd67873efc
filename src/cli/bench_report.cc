#include "cli/bench_report.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/size.h"

namespace gpuroom {
namespace {

using measure::ManagedPoint;
using measure::SharePoint;
using measure::Speeds;
using measure::TierSeries;
using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;  // of the document; raised when a field changes its meaning

const char* TierName(Tier tier) {
  switch (tier) {
    case Tier::kDevice: return "device";
    case Tier::kPeer: return "peer";
    case Tier::kHost: return "host";
  }
  return "";
}

// Null: not measured.
Json Speed(double bytes_per_second) {
  return bytes_per_second > 0 ? Json(static_cast<uint64_t>(std::llround(bytes_per_second))) : Json(nullptr);
}
Json TextOrNull(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }
double Ratio(double value, double ideal) { return ideal > 0 ? value / ideal : 0; }

// One direction of a point; `member` chooses it.
Json Arrangements(const SharePoint& point, double Speeds::*member) {
  return {{"interleaved", Speed(point.interleaved.*member)},
          {"tail", Speed(point.tail.*member)},
          {"ideal", Speed(point.ideal.*member)},
          {"ratio", std::round(1e4 * Ratio(point.interleaved.*member, point.ideal.*member)) / 1e4}};
}

Json ToJson(const TierSeries& series) {
  Json points = Json::array();
  for (const SharePoint& point : series.points) {
    points.push_back(Json{{"share", point.share},
                          {"slow_bytes", point.slow_bytes},
                          {"read", Arrangements(point, &Speeds::read)},
                          {"write", Arrangements(point, &Speeds::write)}});
  }
  return {{"tier", TierName(series.slow.tier)},
          {"place", series.slow.place},
          {"skipped", TextOrNull(series.skipped)},
          {"points", points}};
}

Json ToJson(const measure::ManagedSeries& series) {
  Json points = Json::array();
  for (const ManagedPoint& point : series.points) {
    points.push_back(
        Json{{"share", point.share},
             {"slow_bytes", point.slow_bytes},
             {"read", {{"direct", Speed(point.direct.read)}, {"fault", Speed(point.fault.read)}}},
             {"write", {{"direct", Speed(point.direct.write)}, {"fault", Speed(point.fault.write)}}}});
  }
  return {{"bytes", series.bytes}, {"skipped", TextOrNull(series.skipped)}, {"points", points}};
}

Json LinksJson(const TiersReport& report) {
  Json links = Json::array();
  for (const measure::LinkSpeed& link : report.result.links) {
    links.push_back(Json{{"tier", TierName(link.place.tier)},
                         {"place", link.place.place},
                         {"read", Speed(link.speeds.read)},
                         {"write", Speed(link.speeds.write)},
                         {"skipped", TextOrNull(link.skipped)}});
  }
  return links;
}

std::string Describe(measure::Place place) {
  if (place.tier == Tier::kDevice) return fmt::format("GPU {} (its own)", place.place);
  if (place.tier == Tier::kPeer) return fmt::format("GPU {} (peer)", place.place);
  return fmt::format("host node {}", place.place);
}

std::string Heading(const TiersReport& report) {
  std::string text = fmt::format("gpuroom bench tiers: {}, driver {}, CUDA {}\n", report.subject.gpu.name,
                                 report.subject.driver, CudaVersion(report.subject.cuda));
  if (report.subject.simulated) {
    text += "  simulated: these figures are this machine's, not a GPU's, and nothing is stored\n";
  }
  return text + fmt::format("  ranges of {}, best of {}; GB/s, where 1 GB is 10^9 bytes\n",
                            FormatSize(report.result.bytes), report.result.rounds);
}

std::string LinksText(const TiersReport& report) {
  std::string text = fmt::format("\n{:<18} {:>8} {:>8}\n", "memory", "read", "write");
  for (const measure::LinkSpeed& link : report.result.links) {
    text += link.skipped.empty() ? fmt::format("{:<18} {:>8} {:>8}\n", Describe(link.place),
                                               Gigabytes(link.speeds.read), Gigabytes(link.speeds.write))
                                 : fmt::format("{:<18} skipped: {}\n", Describe(link.place), link.skipped);
  }
  return text;
}

// The managed point of the same share, beside the host's; null: none.
const ManagedPoint* ManagedAt(const TiersReport& report, const TierSeries& series, size_t i) {
  const bool beside = series.slow.tier == Tier::kHost && i < report.result.managed.points.size();
  return beside ? &report.result.managed.points[i] : nullptr;
}

std::string SeriesText(const TiersReport& report, const TierSeries& series, const char* verb,
                       double Speeds::*member) {
  if (series.points.empty()) return "";
  const bool managed = ManagedAt(report, series, 0) != nullptr;
  std::string text =
      fmt::format("\n{}, by the share on {}\n{:>7} {:>8} {:>12} {:>9} {:>8}", verb, Describe(series.slow),
                  "share", "ideal", "interleaved", "of ideal", "at end");
  text += managed ? fmt::format(" {:>15} {:>15}\n", "managed, direct", "managed, faults") : "\n";
  for (size_t i = 0; i < series.points.size(); ++i) {
    const SharePoint& point = series.points[i];
    const double share = static_cast<double>(point.slow_bytes) / static_cast<double>(report.result.bytes);
    text += fmt::format("{:>6.3g}% {:>8} {:>12} {:>8.1f}% {:>8}", 100 * share, Gigabytes(point.ideal.*member),
                        Gigabytes(point.interleaved.*member),
                        100 * Ratio(point.interleaved.*member, point.ideal.*member),
                        Gigabytes(point.tail.*member));
    const ManagedPoint* other = ManagedAt(report, series, i);
    text += other != nullptr ? fmt::format(" {:>15} {:>15}\n", Gigabytes(other->direct.*member),
                                           Gigabytes(other->fault.*member))
                             : "\n";
  }
  return text;
}

std::string ReferencesText(const TiersReport& report) {
  const measure::TiersResult& result = report.result;
  std::string text = "\n";
  if (result.copies.both > 0) {
    text += fmt::format("pinned copies: to the device {}, to the host {}, both at once {}\n",
                        Gigabytes(result.copies.host_to_device), Gigabytes(result.copies.device_to_host),
                        Gigabytes(result.copies.both));
  }
  for (const measure::HostCreation& creation : result.creation) {
    text += fmt::format("host memory created in chunks of {}: {}\n", FormatSize(creation.chunk_bytes),
                        Gigabytes(creation.bytes_per_second));
  }
  const measure::MigrationSpeeds& migration = result.migration;
  if (!migration.skipped.empty()) return text + fmt::format("migration: skipped, {}\n", migration.skipped);
  return text + fmt::format("migration of {} in place: to the device {}, to the host {}, both at once {}\n",
                            FormatSize(migration.bytes), Gigabytes(migration.to_device),
                            Gigabytes(migration.to_host), Gigabytes(migration.both));
}

}  // namespace

std::string TiersJson(const TiersReport& report) {
  const measure::TiersResult& result = report.result;
  Json out;
  out["version"] = kVersion;
  out["benchmark"] = "tiers";
  out["simulated"] = report.subject.simulated;
  out["measured"] = report.subject.measured;
  out["gpu"] = {{"name", report.subject.gpu.name},
                {"uuid", report.subject.gpu.uuid},
                {"hbm_bytes", report.subject.gpu.total_bytes}};
  out["driver"] = report.subject.driver;
  out["cuda"] = CudaVersion(report.subject.cuda);
  out["range_bytes"] = result.bytes;
  out["granule_bytes"] = kGranularity;
  out["rounds"] = result.rounds;
  out["links"] = LinksJson(report);
  out["series"] = Json::array({ToJson(result.host), ToJson(result.peer)});
  out["managed"] = ToJson(result.managed);
  out["copies"] = {{"host_to_device", Speed(result.copies.host_to_device)},
                   {"device_to_host", Speed(result.copies.device_to_host)},
                   {"both", Speed(result.copies.both)}};
  out["host_creation"] = Json::array();
  for (const measure::HostCreation& creation : result.creation) {
    out["host_creation"].push_back(Json{{"chunk_bytes", creation.chunk_bytes},
                                        {"bytes", creation.bytes},
                                        {"speed", Speed(creation.bytes_per_second)}});
  }
  out["migration"] = {{"bytes", result.migration.bytes},
                      {"skipped", TextOrNull(result.migration.skipped)},
                      {"to_device", Speed(result.migration.to_device)},
                      {"to_host", Speed(result.migration.to_host)},
                      {"both", Speed(result.migration.both)}};
  out["stored"] = TextOrNull(report.stored);
  out["not_stored"] = TextOrNull(report.not_stored);
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string TiersText(const TiersReport& report) {
  const measure::TiersResult& result = report.result;
  std::string text = Heading(report) + LinksText(report);
  for (const TierSeries* series : {&result.host, &result.peer}) {
    text += SeriesText(report, *series, "read", &Speeds::read);
    text += SeriesText(report, *series, "write", &Speeds::write);
  }
  if (!result.managed.skipped.empty()) text += fmt::format("\nmanaged memory: {}\n", result.managed.skipped);
  text += ReferencesText(report);
  if (!report.stored.empty()) text += fmt::format("\nkept for 'gpuroom run' in {}\n", report.stored);
  return text;
}

}  // namespace gpuroom
