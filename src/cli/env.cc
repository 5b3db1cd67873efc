#include "cli/env.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/help.h"
#include "cli/options.h"
#include "cli/run.h"
#include "cli/shell_word.h"
#include "cli/suggest.h"
#include "cli/variables.h"

namespace gpuroom {
namespace {

using Json = nlohmann::ordered_json;
using Variables = std::map<std::string, std::string>;

// Values need not be UTF-8, and JSON must be.
std::string Text(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

// gpuroom's variables that are set here and that run leaves as they are: CMD inherits them, and what another
// program starts would not.
void AddInherited(RunPlan* plan) {
  for (const auto& [name, value] : OwnVariables()) {
    if (std::find(plan->removed.begin(), plan->removed.end(), name) != plan->removed.end()) continue;
    plan->variables.emplace(name, value);
  }
}

std::string ForShell(const RunPlan& plan) {
  std::string text;
  for (const auto& [name, value] : plan.variables)
    text += fmt::format("export {}={}\n", name, ShellWord(value));
  for (const std::string& name : plan.removed) text += fmt::format("unset {}\n", name);
  return text;
}

// With the names of `run --dry-run --json`.
std::string ForPrograms(const RunPlan& plan) {
  return Text({{"environment", plan.variables}, {"environment_removed", plan.removed}}, 2) + "\n";
}

// A file for --env-file: the value goes from the first "=" to the end of the line, without quotes.
std::string ForDocker(const RunPlan& plan) {
  std::string text;
  for (const auto& [name, value] : plan.variables) text += fmt::format("{}={}\n", name, value);
  return text;
}

// The list `env` of a container in a pod. In its values "$(NAME)" stands for a variable and "$$" for "$".
std::string ForKubernetes(const RunPlan& plan) {
  std::string text;
  for (const auto& [name, value] : plan.variables) {
    std::string escaped;
    for (const char c : value) escaped += c == '$' ? std::string("$$") : std::string(1, c);
    text += fmt::format("- name: {}\n  value: {}\n", name, Text(escaped));
  }
  return text;
}

// For ray.init(runtime_env=...) and `ray job submit --runtime-env-json`.
std::string ForRay(const RunPlan& plan) { return Text({{"env_vars", plan.variables}}) + "\n"; }

// A line of a batch script. Slurm takes two layers of quotes away: sbatch those around the whole word, and
// --export those around each variable, which keep commas in it.
std::string ForSlurm(const RunPlan& plan) {
  std::string list = "ALL";
  for (const auto& [name, value] : plan.variables) {
    const char* quote = value.find(',') != std::string::npos ? "'" : "";
    list += fmt::format(",{0}{1}={2}{0}", quote, name, value);
  }
  std::string word;
  for (const char c : list) word += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return fmt::format("#SBATCH \"--export={}\"\n", word);
}

struct Format {
  const char* name;
  std::string (*print)(const RunPlan& plan);
  std::string_view forbidden;  // characters that a value cannot have there
  bool unsets;                 // can take variables out
};

constexpr std::array<Format, 6> kFormats = {{
    {"sh", ForShell, "", true},
    {"json", ForPrograms, "", true},
    {"docker", ForDocker, "\n\r", false},
    {"k8s", ForKubernetes, "", false},
    {"ray", ForRay, "", false},
    {"slurm", ForSlurm, "\n\r'\"", false},
}};

Failure FindFormat(const std::string& name, const Format** format) {
  std::vector<std::string> names;
  for (const Format& each : kFormats) {
    names.emplace_back(each.name);
    if (name == each.name) *format = &each;
  }
  if (*format != nullptr) return {};
  return {kExitUsage,
          fmt::format("--format '{}' is not known{}", name,
                      DidYouMean(name, names, fmt::format("; use one of {}", fmt::join(names, ", "))))};
}

Failure CheckValues(const Variables& variables, const Format& format) {
  for (const auto& [name, value] : variables) {
    if (value.find_first_of(format.forbidden) == std::string::npos) continue;
    return {kExitUsage,
            fmt::format("{} has a quote or a line break, which --format {} cannot pass on; change the "
                        "value, or use --format sh",
                        name, format.name)};
  }
  return {};
}

void WarnOfRemoved(const RunPlan& plan, const Format& format) {
  if (format.unsets || plan.removed.empty()) return;
  fmt::print(stderr,
             "gpuroom: --format {} cannot take variables out; where programs inherit them, unset {}\n",
             format.name, fmt::join(plan.removed, ", "));
}

}  // namespace

int EnvCommand(const std::vector<std::string>& arguments) {
  EnvOptions options;
  Failure failure = ParseEnv(arguments, &options);
  if (failure.failed()) return Report(failure);
  if (options.run.help) {
    fmt::print("{}", kEnvHelp);
    return kExitOk;
  }
  const Format* format = nullptr;
  failure = FindFormat(options.format, &format);
  if (failure.failed()) return Report(failure);
  RunPlan plan;
  failure = MakeRunPlan(options.run, &plan);
  if (!failure.failed() && !options.run.sim.empty()) failure = CheckRunDriver(plan);
  AddInherited(&plan);
  if (!failure.failed()) failure = CheckValues(plan.variables, *format);
  if (failure.failed()) return Report(failure);
  WarnOfNothingToSpare(plan);
  WarnOfRemoved(plan, *format);
  fmt::print("{}", format->print(plan));
  return kExitOk;
}

}  // namespace gpuroom
