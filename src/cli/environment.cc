#include "cli/environment.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/env.h"
#include "base/temporary.h"

namespace gpuroom {
namespace {

constexpr std::string_view kPreloadSeparators = ": ";

std::vector<std::string_view> Split(TemporaryString auto&& text, std::string_view separators) = delete;
std::vector<std::string_view> Split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find_first_of(separators, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::string Join(const std::vector<std::string_view>& parts) {
  std::string text;
  for (const std::string_view part : parts) {
    if (!text.empty()) text += ':';
    text += part;
  }
  return text;
}

bool IsOurShim(std::string_view entry) {
  const size_t slash = entry.rfind('/');
  return entry.substr(slash == std::string_view::npos ? 0 : slash + 1) == kShimName;
}

std::string_view Variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::string_view(value) : std::string_view();
}

}  // namespace

bool PreloadsShim(std::string_view current) {
  const std::vector<std::string_view> entries = Split(current, kPreloadSeparators);
  return std::any_of(entries.begin(), entries.end(), IsOurShim);
}

std::string RemovePreload(std::string_view current) {
  std::vector<std::string_view> kept;
  for (const std::string_view entry : Split(current, kPreloadSeparators)) {
    if (!entry.empty() && !IsOurShim(entry)) kept.push_back(entry);
  }
  return Join(kept);
}

std::string PrependPreload(std::string_view current, std::string_view shim) {
  const std::string others = RemovePreload(current);
  std::string text(shim);
  if (!others.empty()) text += ":" + others;
  return text;
}

std::string PrependPath(std::string_view current, std::string_view folder) {
  std::string text(folder);
  if (current.empty()) return text;
  // An empty element means the current directory to the loader, so it stays.
  for (const std::string_view element : Split(current, ":")) {
    if (element == folder) continue;
    text += ':';
    text += element;
  }
  return text;
}

std::string SimLibraryPath(const Installation& installation) {
  return PrependPath(Variable("LD_LIBRARY_PATH"), installation.sim_dir);
}

std::map<std::string, std::string> RunVariables(const Limits& limits, const Installation& installation) {
  std::map<std::string, std::string> variables;
  variables["LD_PRELOAD"] = PrependPreload(Variable("LD_PRELOAD"), installation.shim);
  if (limits.hbm) variables[env::kHbmLimit] = std::to_string(*limits.hbm);
  if (limits.host) variables[env::kHostLimit] = std::to_string(*limits.host);
  if (limits.reserve) variables[env::kReserve] = std::to_string(*limits.reserve);
  AddTierVariables(limits.tiers, &variables);
  if (limits.control) variables[env::kControl] = "1";
  if (limits.report) variables[env::kReport] = "1";
  if (!limits.stats_file.empty()) variables[env::kStatsFile] = limits.stats_file;
  if (!limits.sim.empty()) {
    variables[env::kSim] = limits.sim;
    variables["LD_LIBRARY_PATH"] = SimLibraryPath(installation);
  }
  return variables;
}

std::vector<std::string> RemovedVariables(const Limits& limits) {
  std::vector<std::string> removed;
  if (!limits.control && std::getenv(env::kControl) != nullptr) removed.emplace_back(env::kControl);
  for (const auto& [name, value] : limits.tiers.managed.confs) {
    if (!value) removed.push_back(name);
  }
  return removed;
}

std::vector<std::string> MergedEnvironment(const std::map<std::string, std::string>& variables,
                                           const std::vector<std::string>& removed) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::string name(text.substr(0, text.find('=')));
    const bool kept = variables.find(name) == variables.end() &&
                      std::find(removed.begin(), removed.end(), name) == removed.end();
    if (kept) merged.emplace_back(text);
  }
  for (const auto& [name, value] : variables) merged.emplace_back(name).append("=").append(value);
  return merged;
}

}  // namespace gpuroom
