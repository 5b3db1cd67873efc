#include "cli/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>

#include "base/env.h"
#include "base/size.h"
#include "cli/suggest.h"

namespace headroom {
namespace {

constexpr uint64_t kSmallestLimit = 2 * kMiB;  // one chunk; less is a forgotten unit

Failure Usage(std::string text) { return {kExitUsage, std::move(text)}; }

// CLI11 for one command: no help or configuration of its own, unknown words
// collected rather than thrown, the last of a repeated option wins.
class Parser {
 public:
  explicit Parser(std::string command) : command_(std::move(command)), app_("", command_) {
    app_.set_help_flag();
    app_.allow_extras();
    app_.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }

  void Flag(const std::string& name, bool* value) {
    app_.add_flag(name, *value);
    Remember(name);
  }

  void Value(const std::string& name, std::string* value) {
    app_.add_option(name, *value)->type_size(1);
    Remember(name);
    valued_.emplace_back(name, value);
  }

  Failure Parse(const std::vector<std::string>& arguments) {
    std::vector<std::string> words = JoinNegative(arguments);
    // An option given with an empty value ("--sim=") reads as absent to CLI11.
    for (const std::string& word : words) {
      if (!word.empty() && word.back() == '=' && IsValued(word.substr(0, word.size() - 1))) {
        return NeedsValue(word.substr(0, word.size() - 1));
      }
    }
    std::reverse(words.begin(), words.end());  // as CLI11 wants them
    try {
      app_.parse(words);
    } catch (const CLI::ArgumentMismatch& error) {
      const std::string text = error.what();
      return NeedsValue(text.substr(0, text.find(':')));
    } catch (const CLI::Error& error) {
      return Usage(fmt::format("{}; see 'headroom help {}'", error.what(), command_));
    }
    for (const auto& [name, value] : valued_) {
      // The next option, not a value: "--hbm-limit --report".
      if (value->compare(0, 2, "--") == 0) return NeedsValue(name);
    }
    const std::vector<std::string> extras = app_.remaining();
    return extras.empty() ? Failure{} : Unexpected(extras[0]);
  }

 private:
  void Remember(const std::string& names) { known_.push_back(names.substr(names.find("--"))); }

  bool IsValued(const std::string& name) const {
    return std::any_of(valued_.begin(), valued_.end(),
                       [&](const auto& option) { return option.first == name; });
  }

  // "--hbm-limit -5GiB" to "--hbm-limit=-5GiB": or the size would pass for an option.
  std::vector<std::string> JoinNegative(const std::vector<std::string>& arguments) const {
    std::vector<std::string> words;
    for (const std::string& argument : arguments) {
      const bool negative =
          argument.size() > 1 && argument[0] == '-' && argument[1] >= '0' && argument[1] <= '9';
      if (negative && !words.empty() && IsValued(words.back())) {
        words.back() += "=" + argument;
      } else {
        words.push_back(argument);
      }
    }
    return words;
  }

  Failure NeedsValue(const std::string& option) const {
    return Usage(fmt::format("{} needs a value; see 'headroom help {}'", option, command_));
  }

  Failure Unexpected(const std::string& word) const {
    if (word.empty() || word[0] != '-') {
      return Usage(
          fmt::format("'{}' is not an option of '{}'; see 'headroom help {}'", word, command_, command_));
    }
    const std::string name = word.substr(0, word.find('='));
    return Usage(fmt::format("unknown option '{}'{}", name,
                             DidYouMean(name, known_, fmt::format("; see 'headroom help {}'", command_))));
  }

  std::string command_;
  CLI::App app_;
  std::vector<std::string> known_;
  std::vector<std::pair<std::string, std::string*>> valued_;
};

// `text` is a size of at least `least` bytes; `source` names it in the sentence.
Failure ParseLimit(const std::string& source, const std::string& text, uint64_t least,
                   std::optional<uint64_t>* bytes) {
  if (!text.empty() && text[0] == '-') {
    return Usage(fmt::format("{} '{}' is negative; write a size such as 6GiB", source, text));
  }
  const Result<uint64_t> size = ParseSize(text);
  if (!size.ok()) return Usage(fmt::format("{} '{}' is {}", source, text, size.status().what()));
  if (*size == 0) return Usage(fmt::format("{} '{}' is zero; write a size such as 6GiB", source, text));
  if (*size < least) {
    return Usage(fmt::format("{} '{}' is less than 2 MiB; add a unit, such as 6GiB", source, text));
  }
  *bytes = *size;
  return {};
}

// The option's text, or else the variable's; names the one it came from.
struct Setting {
  std::string source;
  std::string text;
  bool inherited = false;
};

Setting Choose(const char* option, const std::string& text, const char* variable) {
  if (!text.empty()) return {option, text, false};
  const char* inherited = std::getenv(variable);
  if (inherited == nullptr || *inherited == '\0') return {};
  return {fmt::format("the environment's {}", variable), inherited, true};
}

// A run inside another stays on the outer one's simulated driver.
void InheritSim(std::string* sim) {
  const char* inherited = std::getenv(env::kSim);
  if (sim->empty() && inherited != nullptr) *sim = inherited;
}

Failure ResolveLimits(const std::string& hbm, const std::string& host, const std::string& reserve,
                      RunOptions* options) {
  const Setting hbm_limit = Choose("--hbm-limit", hbm, env::kHbmLimit);
  if (!hbm_limit.text.empty()) {
    const Failure failure = ParseLimit(hbm_limit.source, hbm_limit.text, kSmallestLimit, &options->hbm_limit);
    if (failure.failed()) return failure;
  }
  const Setting host_limit = Choose("--host-limit", host, env::kHostLimit);
  // An outer run on a machine with nothing to spare passes on a zero.
  const bool none_to_spare = host_limit.inherited && host_limit.text == "0";
  if (none_to_spare) options->host_limit = 0;
  if (!host_limit.text.empty() && host_limit.text != "auto" && !none_to_spare) {
    const Failure failure =
        ParseLimit(host_limit.source, host_limit.text, kSmallestLimit, &options->host_limit);
    if (failure.failed()) return failure;
  }
  options->host_limit_inherited = host_limit.inherited && options->host_limit.has_value();
  const Setting kept = Choose("--reserve", reserve, env::kReserve);
  if (!kept.text.empty()) {
    const Failure failure = ParseLimit(kept.source, kept.text, 1, &options->reserve);
    if (failure.failed()) return failure;
  }
  if (options->reserve && options->hbm_limit && *options->reserve >= *options->hbm_limit) {
    return Usage(fmt::format("{} of {} leaves nothing of the {} HBM limit; make it smaller", kept.source,
                             FormatSize(*options->reserve), FormatSize(*options->hbm_limit)));
  }
  return {};
}

}  // namespace

Failure ParseRun(const std::vector<std::string>& arguments, RunOptions* options) {
  const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  std::string hbm, host, reserve;
  Parser parser("run");
  parser.Value("--hbm-limit", &hbm);
  parser.Value("--host-limit", &host);
  parser.Value("--reserve", &reserve);
  parser.Flag("--report", &options->report);
  parser.Value("--stats-file", &options->stats_file);
  parser.Flag("--dry-run", &options->dry_run);
  parser.Flag("--json", &options->json);
  parser.Value("--sim", &options->sim);
  parser.Flag("-h,--help", &options->help);
  Failure failure = parser.Parse({arguments.begin(), dashes});
  if (failure.failed() && dashes == arguments.end() && failure.text[0] == '\'') {
    // A bare word, and no "--" anywhere: almost surely CMD itself.
    return Usage("put '--' before the command: headroom run [options] -- CMD ...");
  }
  if (failure.failed() || options->help) return failure;
  InheritSim(&options->sim);
  failure = ResolveLimits(hbm, host, reserve, options);
  if (failure.failed()) return failure;
  if (options->json && !options->dry_run)
    return Usage("--json goes with --dry-run; add it, or leave --json out");
  if (dashes == arguments.end() || dashes + 1 == arguments.end()) {
    return Usage("there is no command to run; write it after '--': headroom run [options] -- CMD ...");
  }
  options->command.assign(dashes + 1, arguments.end());
  return {};
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

Failure ParseDoctor(const std::vector<std::string>& arguments, DoctorArguments* options) {
  Parser parser("doctor");
  parser.Flag("--json", &options->options.json);
  parser.Value("--sysroot", &options->options.sysroot);
  parser.Value("--sim", &options->options.sim);
  parser.Flag("-h,--help", &options->help);
  return parser.Parse(arguments);
}

}  // namespace headroom
