#include "cli/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <sstream>
#include <string_view>

#include "base/env.h"
#include "base/interval.h"
#include "base/size.h"
#include "cli/parser.h"
#include "cli/setting.h"

namespace gpuroom {
namespace {

constexpr int kMostRounds = 1000;
constexpr int kMostAllocations = 100000;

// A run inside another stays on the outer one's simulated driver.
void InheritSim(std::string* sim) {
  const char* inherited = std::getenv(env::kSim);
  if (sim->empty() && inherited != nullptr) *sim = inherited;
}

// A size, or "auto", which leaves *bytes empty.
Failure ParseHostLimit(const std::string& source, const std::string& text, std::optional<uint64_t>* bytes) {
  return text.empty() || text == "auto" ? Failure{} : ParseLimit(source, text, kSmallestLimit, bytes);
}

Failure ResolveLimits(const std::string& hbm, const std::string& host, const std::string& reserve,
                      RunOptions* options) {
  const Setting hbm_limit = Choose("--hbm-limit", hbm, env::kHbmLimit);
  if (!hbm_limit.text.empty()) {
    const Failure failure =
        ParseLimitOrPart(hbm_limit.source, hbm_limit.text, kSmallestLimit, &options->hbm_limit);
    if (failure.failed()) return failure;
  }
  const Setting host_limit = Choose("--host-limit", host, env::kHostLimit);
  // An outer run on a machine with nothing to spare passes on a zero.
  const bool none_to_spare = host_limit.inherited && host_limit.text == "0";
  if (none_to_spare) options->host_limit = 0;
  if (!none_to_spare) {
    const Failure failure = ParseHostLimit(host_limit.source, host_limit.text, &options->host_limit);
    if (failure.failed()) return failure;
  }
  options->host_limit_inherited = host_limit.inherited && options->host_limit.has_value();
  const Setting kept = Choose("--reserve", reserve, env::kReserve);
  if (!kept.text.empty()) {
    const Failure failure = ParseLimit(kept.source, kept.text, 1, &options->reserve);
    if (failure.failed()) return failure;
  }
  // A part is of a size that is not known yet.
  const uint64_t most =
      options->hbm_limit && options->hbm_limit->percent == 0 ? options->hbm_limit->bytes : UINT64_MAX;
  if (options->reserve && *options->reserve >= most) {
    return Usage(fmt::format("{} of {} leaves nothing of the {} HBM limit; make it smaller", kept.source,
                             FormatSize(*options->reserve), FormatSize(most)));
  }
  return {};
}

// How often a line is written to the stats file, which may be an outer run's.
Failure ResolveStatsInterval(const Setting& interval, RunOptions* options) {
  if (interval.text.empty()) return {};
  const Result<uint64_t> milliseconds = ParsePeriod(interval.text);
  if (!milliseconds.ok())
    return Usage(fmt::format("{} '{}' is {}", interval.source, interval.text, milliseconds.status().what()));
  if (Choose("--stats-file", options->stats_file, env::kStatsFile).text.empty())
    return Usage(
        fmt::format("{} goes with --stats-file; add it, or leave the interval out", interval.source));
  options->stats_interval = interval.text;
  return {};
}

std::vector<std::string> SplitAt(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

// A whole number from 1 to `most`; "" leaves *out as it is.
Failure ParseCount(const char* name, const std::string& text, int most, int* out) {
  if (text.empty()) return {};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  if (error == std::errc() && *end == '\0' && *out >= 1 && *out <= most) return {};
  return Usage(fmt::format("{} '{}' is not a number from 1 to {}", name, text, most));
}

// What `run` and `env` take alike, as typed.
struct RunTexts {
  std::string hbm, host, reserve, stats_interval;
  TierTexts tiers;
  ShareTexts share;
  bool no_control = false;
  bool no_plugins = false;
};

// `texts` and `options` outlive the parser.
void AddRunOptions(Parser* parser, RunTexts* texts, RunOptions* options) {
  parser->Value("--hbm-limit", &texts->hbm);
  parser->Value("--host-limit", &texts->host);
  parser->Value("--reserve", &texts->reserve);
  AddTierOptions(parser, &texts->tiers);
  AddShareOptions(parser, &texts->share);
  parser->Flag("--no-control", &texts->no_control);
  parser->Flag("--no-plugins", &texts->no_plugins);
  parser->Flag("--report", &options->report);
  parser->Value("--stats-file", &options->stats_file);
  parser->Value("--trace", &options->trace);
  parser->Value("--stats-interval", &texts->stats_interval);
  parser->Value("--sysroot", &options->sysroot);
  parser->Value("--sim", &options->sim);
  parser->Flag("-h,--help", &options->help);
}

Failure ResolveRunOptions(const RunTexts& texts, RunOptions* options) {
  options->control = !texts.no_control;
  options->plugins = !texts.no_plugins;
  InheritSim(&options->sim);
  Failure failure =
      ResolveStatsInterval(Choose("--stats-interval", texts.stats_interval, env::kStatsInterval), options);
  if (failure.failed()) return failure;
  failure = ResolveLimits(texts.hbm, texts.host, texts.reserve, options);
  if (failure.failed()) return failure;
  failure = ResolveTierOptions(texts.tiers, &options->tiers);
  return failure.failed() ? failure : ResolveShareOptions(texts.share, &options->share);
}

}  // namespace

Failure ParseRun(const std::vector<std::string>& arguments, RunOptions* options) {
  const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  RunTexts texts;
  Parser parser("run");
  AddRunOptions(&parser, &texts, options);
  parser.Flag("--quiet", &options->quiet);
  parser.Flag("--dry-run", &options->dry_run);
  parser.Flag("--json", &options->json);
  Failure failure = parser.Parse({arguments.begin(), dashes});
  if (failure.failed() && dashes == arguments.end() && failure.text[0] == '\'') {
    // A bare word, and no "--" anywhere: almost surely CMD itself.
    return Usage("put '--' before the command: gpuroom run [options] -- CMD ...");
  }
  if (failure.failed() || options->help) return failure;
  failure = ResolveRunOptions(texts, options);
  if (failure.failed()) return failure;
  const char* quiet = std::getenv(env::kQuiet);
  options->quiet = options->quiet || (quiet != nullptr && std::string_view(quiet) == "1");
  if (options->json && !options->dry_run)
    return Usage("--json goes with --dry-run; add it, or leave --json out");
  if (!options->sysroot.empty() && !options->dry_run)
    return Usage("--sysroot goes with --dry-run; add it, or leave --sysroot out");
  if (dashes == arguments.end() || dashes + 1 == arguments.end()) {
    return Usage("there is no command to run; write it after '--': gpuroom run [options] -- CMD ...");
  }
  options->command.assign(dashes + 1, arguments.end());
  return {};
}

Failure ParseEnv(const std::vector<std::string>& arguments, EnvOptions* options) {
  if (std::find(arguments.begin(), arguments.end(), "--") != arguments.end())
    return Usage("'gpuroom env' runs no command; leave out '--' and what follows it, or use 'gpuroom run'");
  RunTexts texts;
  Parser parser("env");
  parser.Value("--format", &options->format);
  AddRunOptions(&parser, &texts, &options->run);
  const Failure failure = parser.Parse(arguments);
  if (failure.failed() || options->run.help) return failure;
  options->run.elsewhere = true;
  return ResolveRunOptions(texts, &options->run);
}

Failure ParseDemo(const std::vector<std::string>& arguments, DemoOptions* options) {
  std::string hbm;
  Parser parser("demo");
  parser.Value("--hbm-limit", &hbm);
  parser.Value("--sim", &options->sim);
  parser.Flag("--json", &options->json);
  parser.Flag("-h,--help", &options->help);
  const Failure failure = parser.Parse(arguments);
  InheritSim(&options->sim);
  if (failure.failed() || options->help || hbm.empty()) return failure;
  return ParseLimit("--hbm-limit", hbm, kSmallestLimit, &options->hbm_limit);
}

Failure ParseBenchTiers(const std::vector<std::string>& arguments, BenchTiersOptions* options) {
  std::string size, host, rounds;
  Parser parser("bench tiers");
  parser.Value("--size", &size);
  parser.Value("--host-limit", &host);
  parser.Value("--rounds", &rounds);
  parser.Value("--plot", &options->plot);
  parser.Flag("--json", &options->json);
  parser.Flag("-v,--verbose", &options->verbose);
  parser.Value("--sim", &options->sim);
  parser.Flag("-h,--help", &options->help);
  const Failure failure = parser.Parse(arguments);
  InheritSim(&options->sim);
  if (failure.failed() || options->help) return failure;
  Failure wrong = ParseCount("--rounds", rounds, kMostRounds, &options->rounds);
  if (!wrong.failed()) wrong = ParseHostLimit("--host-limit", host, &options->host_limit);
  if (wrong.failed()) return wrong;
  return size.empty() ? Failure{} : ParseLimit("--size", size, kSmallestLimit, &options->size);
}

Failure ParseBenchSleep(const std::vector<std::string>& arguments, BenchSleepOptions* options) {
  std::string sizes, host, rounds, allocations;
  Parser parser("bench sleep");
  parser.Value("--size", &sizes);
  parser.Value("--host-limit", &host);
  parser.Value("--allocations", &allocations);
  parser.Value("--rounds", &rounds);
  parser.Value("--disk", &options->directory);
  parser.Value("--plot", &options->plot);
  parser.Flag("--json", &options->json);
  parser.Flag("-v,--verbose", &options->verbose);
  parser.Value("--sim", &options->sim);
  parser.Flag("-h,--help", &options->help);
  Failure failure = parser.Parse(arguments);
  InheritSim(&options->sim);
  if (failure.failed() || options->help) return failure;
  failure = ParseCount("--rounds", rounds, kMostRounds, &options->rounds);
  if (!failure.failed())
    failure = ParseCount("--allocations", allocations, kMostAllocations, &options->allocations);
  if (!failure.failed()) failure = ParseHostLimit("--host-limit", host, &options->host_limit);
  for (const std::string& text : SplitAt(sizes, ',')) {
    std::optional<uint64_t> size;
    if (!failure.failed()) failure = ParseLimit("--size", text, kSmallestLimit, &size);
    if (!failure.failed()) options->sizes.push_back(*size);
  }
  return failure;
}

Failure ParseDoctor(const std::vector<std::string>& arguments, DoctorArguments* options) {
  Parser parser("doctor");
  parser.Flag("--problems", &options->options.problems);
  parser.Flag("--json", &options->options.json);
  parser.Value("--bundle", &options->options.bundle);
  parser.Value("--sysroot", &options->options.sysroot);
  parser.Value("--sim", &options->options.sim);
  parser.Flag("-h,--help", &options->help);
  Failure failure = parser.Parse(arguments);
  if (!failure.failed() && options->options.problems && options->options.json) {
    failure = Usage("--problems goes with text alone; of JSON take the facts whose status is not ok");
  }
  // A sysroot by itself is looked at without any driver.
  if (options->options.sysroot.empty()) InheritSim(&options->options.sim);
  return failure;
}

}  // namespace gpuroom
