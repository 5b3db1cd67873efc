#include "cli/doctor_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace gpuroom {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr int kReportSchema = 1;  // of the object: goes up when a field is renamed or leaves

OrderedJson FactJson(const Fact& fact) {
  OrderedJson json = {{"group", fact.group}, {"name", fact.name},       {"status", StatusName(fact.status)},
                      {"value", fact.value}, {"meaning", fact.meaning}, {"fix", fact.fix}};
  if (fact.bytes) json["bytes"] = *fact.bytes;
  return json;
}

OrderedJson PoolJson(const OfferedPool& pool) {
  OrderedJson gpus = OrderedJson::array();
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

const char* StatusName(FactStatus status) {
  switch (status) {
    case FactStatus::kOk: return "ok";
    case FactStatus::kWarn: return "warn";
    case FactStatus::kFail: return "fail";
  }
  return "fail";
}

int DoctorReport::Count(FactStatus status) const {
  return static_cast<int>(std::count_if(facts_.begin(), facts_.end(),
                                        [status](const Fact& fact) { return fact.status == status; }));
}

std::string DoctorReport::Summary() const {
  return fmt::format("{} ok, {} warnings, {} failures", Count(FactStatus::kOk), Count(FactStatus::kWarn),
                     Count(FactStatus::kFail));
}

std::string DoctorReport::Json() const {
  OrderedJson facts = OrderedJson::array();
  for (const Fact& fact : facts_) facts.push_back(FactJson(fact));
  const OrderedJson counts = {
      {"ok", Count(FactStatus::kOk)}, {"warn", Count(FactStatus::kWarn)}, {"fail", Count(FactStatus::kFail)}};
  const OrderedJson json = {{"schema", kReportSchema},
                            {"counts", counts},
                            {"facts", facts},
                            {"pool", PoolJson(pool_)},
                            {"summary", Summary()}};
  // Bytes that are no UTF-8 are replaced; they would throw otherwise.
  return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace gpuroom
