#include "cli/doctor_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/exit_codes.h"

namespace gpuroom {
namespace {

const char* StatusName(FactStatus status) {
  switch (status) {
    case FactStatus::kOk: return "ok";
    case FactStatus::kWarn: return "warn";
    case FactStatus::kFail: return "fail";
  }
  return "fail";
}

std::string Line(const Fact& fact) {
  std::string line = fmt::format("{:<5} {}: {}.", StatusName(fact.status), fact.name, fact.value);
  if (!fact.meaning.empty()) line += " " + fact.meaning;
  if (!fact.fix.empty()) line += " Fix: " + fact.fix;
  return Printable(line) + "\n";  // names come from files and drivers
}

nlohmann::json ToJson(const Fact& fact) {
  nlohmann::json json = {
      {"group", fact.group}, {"name", fact.name},       {"status", StatusName(fact.status)},
      {"value", fact.value}, {"meaning", fact.meaning}, {"fix", fact.fix}};
  if (fact.bytes) json["bytes"] = *fact.bytes;
  return json;
}

nlohmann::json ToJson(const Pool& pool) {
  nlohmann::json gpus = nlohmann::json::array();
  for (const GpuPool& gpu : pool.gpus) {
    gpus.push_back({{"ordinal", gpu.ordinal},
                    {"name", gpu.name},
                    {"device_bytes", gpu.device_bytes},
                    {"host_bytes", gpu.host_bytes},
                    {"total_bytes", gpu.device_bytes + gpu.host_bytes}});
  }
  return {{"host_bytes", pool.host_bytes},
          {"host_available_bytes", pool.host_available},
          {"host_reserve_bytes", pool.host_reserve},
          {"host_limited_by", pool.limited_by},
          {"egm", pool.egm},
          {"estimated", pool.estimated},
          {"gpus", gpus}};
}

}  // namespace

int DoctorReport::Count(FactStatus status) const {
  return static_cast<int>(std::count_if(facts_.begin(), facts_.end(),
                                        [status](const Fact& fact) { return fact.status == status; }));
}

std::string DoctorReport::Summary() const {
  return fmt::format("{} ok, {} warnings, {} failures", Count(FactStatus::kOk), Count(FactStatus::kWarn),
                     Count(FactStatus::kFail));
}

std::string DoctorReport::Text() const {
  std::string text;
  std::string group;
  for (const Fact& fact : facts_) {
    if (fact.group != group) {
      text += (text.empty() ? "" : "\n") + fact.group + "\n";
      group = fact.group;
    }
    text += Line(fact);
  }
  return text + "\n" + Summary() + "\n";
}

std::string DoctorReport::Json() const {
  nlohmann::json facts = nlohmann::json::array();
  for (const Fact& fact : facts_) facts.push_back(ToJson(fact));
  const nlohmann::json json = {{"facts", facts}, {"pool", ToJson(pool_)}, {"summary", Summary()}};
  // Bytes that are no UTF-8 are replaced; they would throw otherwise.
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace gpuroom
