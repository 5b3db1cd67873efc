#include "cli/variables.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "base/env.h"
#include "cli/suggest.h"

namespace gpuroom {
namespace {

constexpr std::string_view kPrefix = "GPUROOM_";

struct Variable {
  const char* name;
  std::vector<std::string> values;  // all that it can have; none: whoever reads it judges
};

const std::vector<Variable>& Variables() {
  static const std::vector<std::string> flag = {"0", "1"};
  static const std::vector<Variable> variables = {
      {env::kHbmLimit, {}},
      {env::kHostLimit, {}},
      {env::kReserve, {}},
      {env::kRangeThreshold, {}},
      {env::kPolicy, {}},
      {env::kResidentBelow, {}},
      {env::kExpect, {}},
      {env::kPeers, {}},
      {env::kRules, {}},
      {env::kLinkSpeeds, {}},
      {env::kHostPart, {}},
      {env::kHostAhead, {}},
      {env::kBackend, {}},
      {env::kPrefetchBelow, {}},
      {env::kOversubscriptionRatio, {}},
      {env::kAllowOversubscription, flag},
      {env::kReport, flag},
      {env::kStatsFile, {}},
      {env::kStatsInterval, {}},
      {env::kTrace, {}},
      {env::kQuiet, flag},
      {env::kLog, {"off", "error", "warn", "info", "debug"}},
      {env::kControl, flag},
      {env::kControlDir, {}},
      {env::kShareGroup, {}},
      {env::kShareArbiter, {}},
      {env::kSharePriority, {"batch", "normal", "interactive"}},
      {env::kShareReserve, {}},
      {env::kShareQuantum, {}},
      {env::kIdleAfter, {}},
      {env::kHostKeep, {}},
      {env::kLedger, {}},
      {env::kSleepDir, {}},
      {env::kKeptIsFree, flag},
      {env::kSim, {}},
      {env::kSimSeed, {}},
      {env::kSimMachine, {}},
      {env::kSimFail, {}},
      {"GPUROOM_SIM_STRICT", {}},
      {"GPUROOM_SIM_IDLE_US", {}},
      // The Python package's and its plug-ins'.
      {"GPUROOM_LIBRARY", {}},
      {"GPUROOM_VLLM", {}},
      {"GPUROOM_VLLM_KV", {}},
      {"GPUROOM_VLLM_KV_OFFLOAD", {}},
      {"GPUROOM_VLLM_STAGE", {}},
      {"GPUROOM_CUMEM", {}},
      {"GPUROOM_CUMEM_BACKEND", {}},
      // Of the build and the tests.
      {"GPUROOM_BIN", {}},
      {"GPUROOM_BUILD_DIR", {}},
      {"GPUROOM_SOURCE_DIR", {}},
  };
  return variables;
}

// The variable whose name, after the prefix that all have, is nearest to that of `name`.
std::string NearestName(std::string_view name) {
  std::vector<std::string> known;
  for (const Variable& variable : Variables()) {
    known.emplace_back(std::string_view(variable.name).substr(kPrefix.size()));
  }
  const std::string nearest = Nearest(name.substr(kPrefix.size()), known);
  return nearest.empty() ? "" : std::string(kPrefix) + nearest;
}

Failure CheckValue(const Variable& variable, const std::string& value) {
  const std::vector<std::string>& values = variable.values;
  if (values.empty() || std::find(values.begin(), values.end(), value) != values.end()) return {};
  return {kExitUsage,
          fmt::format("the environment's {} '{}' is none of {}{}", variable.name, value,
                      fmt::join(values, ", "), DidYouMean(value, values, "; give it one of these"))};
}

Failure CheckVariable(const std::string& name, const std::string& value) {
  if (value.empty()) {
    return {kExitUsage,
            fmt::format("the environment's {0} is empty; give it a value, or take it out with 'unset {0}'",
                        name)};
  }
  const std::vector<Variable>& known = Variables();
  const auto found = std::find_if(known.begin(), known.end(),
                                  [&name](const Variable& variable) { return name == variable.name; });
  if (found != known.end()) return CheckValue(*found, value);
  const std::string nearest = NearestName(name);
  if (!nearest.empty()) {
    fmt::print(stderr, "gpuroom: the environment's {} is not a variable of gpuroom's; did you mean {}?\n",
               Printable(name), nearest);
  }
  return {};
}

}  // namespace

std::vector<std::pair<std::string, std::string>> OwnVariables() {
  std::vector<std::pair<std::string, std::string>> found;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const size_t equals = text.find('=');
    if (!text.starts_with(kPrefix) || equals == std::string_view::npos) continue;
    found.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return found;
}

Failure CheckVariables() {
  for (const auto& [name, value] : OwnVariables()) {
    const Failure failure = CheckVariable(name, value);
    if (failure.failed()) return failure;
  }
  return {};
}

}  // namespace gpuroom
