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

std::string_view FileName(TemporaryString auto&& path) = delete;
std::string_view FileName(std::string_view path) {
  const size_t slash = path.rfind('/');
  return path.substr(slash == std::string_view::npos ? 0 : slash + 1);
}

bool IsOurShim(std::string_view entry) { return FileName(entry) == kShimName; }

// "libasan" of "/usr/lib/libasan.so.8": the sanitizer whose runtime that is, gcc's or clang's; "": none.
std::string_view SanitizerOf(TemporaryString auto&& entry) = delete;
std::string_view SanitizerOf(std::string_view entry) {
  const std::string_view name = FileName(entry);
  for (const std::string_view runtime : {"libasan", "libtsan", "libubsan", "liblsan", "libhwasan"}) {
    if (name.starts_with(runtime) && name.substr(runtime.size()).starts_with(".so")) return runtime;
  }
  return name.starts_with("libclang_rt.") ? name : "";
}

// The runtimes of sanitizers to preload, each once: as the user did, else as the program names them.
std::vector<std::string> Sanitizers(const std::vector<std::string_view>& preloads,
                                    const std::vector<std::string>& libraries) {
  std::vector<std::string> found;
  std::vector<std::string_view> names;
  const auto add = [&](std::string_view entry) {
    const std::string_view name = SanitizerOf(entry);
    if (name.empty() || std::find(names.begin(), names.end(), name) != names.end()) return;
    names.push_back(name);
    found.emplace_back(entry);
  };
  for (const std::string_view entry : preloads) add(entry);
  for (const std::string& library : libraries) add(library);
  return found;
}

std::string_view Variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::string_view(value) : std::string_view();
}

constexpr char kPythonPath[] = "PYTHONPATH";

// Last in the path, so that whatever else has these names goes before it.
void AddPythonPath(const Limits& limits, const Installation& installation,
                   std::map<std::string, std::string>* variables) {
  const std::string_view current = Variable(kPythonPath);
  std::string path;
  if (limits.plugins && access(installation.plugins.c_str(), R_OK | X_OK) == 0) {
    path = AppendPath(current, installation.plugins);
  } else {
    path = RemovePath(current, installation.plugins);
  }
  if (!path.empty() && path != current) (*variables)[kPythonPath] = path;
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

std::string PrependPreload(std::string_view current, std::string_view shim,
                           const std::vector<std::string>& libraries) {
  const std::vector<std::string_view> entries = Split(current, kPreloadSeparators);
  const std::vector<std::string> sanitizers = Sanitizers(entries, libraries);
  std::vector<std::string_view> ordered(sanitizers.begin(), sanitizers.end());
  ordered.push_back(shim);
  for (const std::string_view entry : entries) {
    if (!entry.empty() && !IsOurShim(entry) && SanitizerOf(entry).empty()) ordered.push_back(entry);
  }
  return Join(ordered);
}

std::string HiddenFromMusl(std::string_view shim) {
  constexpr int kDeeperThanAnyFolder = 32;
  std::string path = "$ORIGIN";
  for (int i = 0; i < kDeeperThanAnyFolder; ++i) path += "/..";
  return path.append(shim);
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

std::string RemovePath(std::string_view current, std::string_view folder) {
  std::string text;
  bool first = true;
  for (const std::string_view element : Split(current, ":")) {
    if (element == folder) continue;
    if (!first) text += ':';
    first = false;
    text += element;  // also an empty one, which means the current directory
  }
  return text;
}

std::string AppendPath(std::string_view current, std::string_view folder) {
  const std::string others = RemovePath(current, folder);
  return current.empty() || current == folder ? std::string(folder) : others + ":" + std::string(folder);
}

std::string SimLibraryPath(const Installation& installation) {
  return PrependPath(Variable("LD_LIBRARY_PATH"), installation.sim_dir);
}

std::map<std::string, std::string> RunVariables(const Limits& limits, const Installation& installation,
                                                const std::vector<std::string>& libraries) {
  std::map<std::string, std::string> variables;
  const std::string shim = HasMuslLoader() ? HiddenFromMusl(installation.shim) : installation.shim;
  variables["LD_PRELOAD"] = PrependPreload(Variable("LD_PRELOAD"), shim, libraries);
  if (limits.hbm) variables[env::kHbmLimit] = FormatLimit(*limits.hbm);
  if (limits.host) variables[env::kHostLimit] = std::to_string(*limits.host);
  if (limits.reserve) variables[env::kReserve] = std::to_string(*limits.reserve);
  AddTierVariables(limits.tiers, &variables);
  AddShareVariables(limits.share, installation, &variables);
  AddPythonPath(limits, installation, &variables);
  if (limits.control) variables[env::kControl] = "1";
  if (limits.report) variables[env::kReport] = "1";
  if (!limits.stats_file.empty()) variables[env::kStatsFile] = limits.stats_file;
  if (!limits.trace.empty()) variables[env::kTrace] = limits.trace;
  if (!limits.stats_interval.empty()) variables[env::kStatsInterval] = limits.stats_interval;
  if (!limits.sim.empty()) {
    variables[env::kSim] = limits.sim;
    variables["LD_LIBRARY_PATH"] = SimLibraryPath(installation);
  }
  return variables;
}

std::vector<std::string> RemovedVariables(const Limits& limits, const Installation& installation) {
  std::vector<std::string> removed;
  if (!limits.plugins && Variable(kPythonPath) == installation.plugins) removed.emplace_back(kPythonPath);
  if (!limits.control && std::getenv(env::kControl) != nullptr) removed.emplace_back(env::kControl);
  // A file without rules stands for none at all, also where an outer run had some.
  const bool no_rules = limits.tiers.rules && limits.tiers.rules->empty();
  if (no_rules && std::getenv(env::kRules) != nullptr) removed.emplace_back(env::kRules);
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
