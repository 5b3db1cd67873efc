#include "cli/sleep_report.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace gpuroom {
namespace {

using measure::LazyTimes;
using measure::SleepCase;
using measure::SleepSpeeds;
using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;  // of the document; raised when a field changes its meaning

// Null: not measured.
Json Speed(double bytes_per_second) {
  return bytes_per_second > 0 ? Json(static_cast<uint64_t>(std::llround(bytes_per_second))) : Json(nullptr);
}
Json Seconds(double seconds) { return seconds > 0 ? Json(std::round(seconds * 1e6) / 1e6) : Json(nullptr); }

Json ToJson(const SleepSpeeds& speeds) {
  return {{"rounds", speeds.rounds},
          {"sleep", Speed(speeds.sleep)},
          {"wake", Speed(speeds.wake)},
          {"best_sleep", Speed(speeds.best_sleep)},
          {"best_wake", Speed(speeds.best_wake)}};
}

Json ToJson(const SleepCase& one) {
  return {{"bytes", one.bytes},
          {"allocations", one.allocations},
          {"skipped", one.skipped.empty() ? Json(nullptr) : Json(one.skipped)},
          {"freed_bytes", one.freed},
          {"first", ToJson(one.first)},
          {"ahead", ToJson(one.ahead)},
          {"lazy",
           {{"returned", Seconds(one.lazy.returned)},
            {"first_kernel", Seconds(one.lazy.first_kernel)},
            {"back", Seconds(one.lazy.back)},
            {"left_on_host", one.lazy.left_on_host}}},
          {"disk", ToJson(one.disk)},
          {"copying", ToJson(one.copying)}};
}

std::string Row(const char* way, const SleepSpeeds& speeds) {
  if (speeds.rounds == 0) return "";
  return fmt::format("  {:<44} {:>8} {:>8}\n", way, Gigabytes(speeds.sleep), Gigabytes(speeds.wake));
}

std::string CaseText(const SleepCase& one) {
  std::string text = fmt::format("\n{} in {} allocations\n", FormatSize(one.bytes), one.allocations);
  if (!one.skipped.empty()) return text + fmt::format("  skipped: {}\n", one.skipped);
  text += fmt::format("  {:<44} {:>8} {:>8}\n", "", "sleep", "wake");
  text += Row("host memory created ahead, the slowest round", one.ahead);
  text += Row("nothing created ahead", one.first);
  text += Row("to disk", one.disk);
  text += Row("others: a copy each, fresh pinned memory", one.copying);
  const LazyTimes& lazy = one.lazy;
  text +=
      fmt::format("  lazy wake: back after {:.1f} ms, first kernel after {:.1f}, all in HBM after {:.1f}\n",
                  lazy.returned * 1e3, lazy.first_kernel * 1e3, lazy.back * 1e3);
  return text + fmt::format("  GPU memory free while asleep: {} more\n", FormatSize(one.freed));
}

}  // namespace

std::string SleepJson(const SleepReport& report) {
  const BenchSubject& subject = report.subject;
  Json out;
  out["version"] = kVersion;
  out["benchmark"] = "sleep";
  out["simulated"] = subject.simulated;
  out["measured"] = subject.measured;
  out["gpu"] = {
      {"name", subject.gpu.name}, {"uuid", subject.gpu.uuid}, {"hbm_bytes", subject.gpu.total_bytes}};
  out["driver"] = subject.driver;
  out["cuda"] = CudaVersion(subject.cuda);
  out["copies"] = {{"host_to_device", Speed(report.result.copies.host_to_device)},
                   {"device_to_host", Speed(report.result.copies.device_to_host)}};
  out["cases"] = Json::array();
  for (const SleepCase& one : report.result.cases) out["cases"].push_back(ToJson(one));
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string SleepText(const SleepReport& report) {
  const BenchSubject& subject = report.subject;
  std::string text = fmt::format("gpuroom bench sleep: {}, driver {}, CUDA {}\n", subject.gpu.name,
                                 subject.driver, CudaVersion(subject.cuda));
  if (subject.simulated) text += "  simulated: these figures are this machine's, not a GPU's\n";
  text += fmt::format(
      "  GB/s of all that slept, everything included; 1 GB is 10^9 bytes\n"
      "  the link, by pinned copies: to the host {}, to the device {}\n",
      Gigabytes(report.result.copies.device_to_host), Gigabytes(report.result.copies.host_to_device));
  for (const SleepCase& one : report.result.cases) text += CaseText(one);
  return text;
}

}  // namespace gpuroom
