#include "cli/launcher.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "cli/environment.h"

namespace gpuroom {
namespace {

constexpr std::string_view kPreload = "LD_PRELOAD";

// How a launcher's words are read. All of them take options first, as getopt_long reads them, then perhaps
// words of their own, then the program.
struct Launcher {
  std::string_view name;
  bool passes;                                // its environment goes on to the program
  std::vector<std::string_view> exceptions;   // options with which the opposite holds
  std::string_view valued;                    // short options that take a value
  std::vector<std::string_view> long_valued;  // long ones, whose value may be a word of its own
  int operands = 0;                           // words in front of the program; kUnseen: it is not to be found
};

constexpr int kUnseen = -1;

const std::vector<Launcher>& Launchers() {
  static const std::vector<Launcher> launchers = {
      {"env", true, {"-i", "-", "--ignore-environment"}, "uCSa", {"unset", "chdir", "split-string", "argv0"}},
      {"setpriv",
       true,
       {"--reset-env"},
       "",
       {"ambient-caps", "inh-caps", "bounding-set", "ruid", "euid", "rgid", "egid", "reuid", "regid",
        "groups", "securebits", "pdeathsig", "selinux-label", "apparmor-profile"}},
      {"nice", true, {}, "n", {"adjustment"}},
      {"nohup", true, {}, "", {}},
      {"setsid", true, {}, "", {}},
      {"stdbuf", true, {}, "ioe", {"input", "output", "error"}},
      {"timeout", true, {}, "ks", {"kill-after", "signal"}, 1},
      {"ionice", true, {}, "cnpPu", {"class", "classdata", "pid", "pgid", "uid"}},
      {"chrt", true, {}, "TPD", {"sched-runtime", "sched-period", "sched-deadline"}, 1},
      {"taskset", true, {}, "", {}, 1},
      {"numactl", true, {}, "iwmNCpPb", {"interleave", "membind", "cpunodebind", "physcpubind", "preferred"}},
      {"time", true, {}, "fo", {"format", "output"}},
      {"su", true, {"-", "-l", "--login"}, "cgGswT", {"command", "group", "supp-group", "shell"}, kUnseen},
      {"runuser", true, {"-", "-l", "--login"}, "ucgGsw", {"user", "command", "group", "shell"}, kUnseen},
      {"nsenter", true, {"-e", "--env"}, "tSGW", {"target", "setuid", "setgid"}, kUnseen},
      {"apptainer", true, {"-e", "--cleanenv", "-C", "--containall"}, "", {}, kUnseen},
      {"singularity", true, {"-e", "--cleanenv", "-C", "--containall"}, "", {}, kUnseen},
      {"systemd-run",
       false,
       {"--scope"},
       "HMpuEt",
       {"unit", "property", "setenv", "slice", "uid", "gid"},
       kUnseen},
      {"sudo",
       false,
       {"--preserve-env=LD_PRELOAD"},
       "CDghpRrtTuU",
       {"user", "group", "chdir", "host"},
       kUnseen},
      {"doas", false, {}, "", {}, kUnseen},
      {"pkexec", false, {}, "", {}, kUnseen},
      {"machinectl", false, {}, "", {}, kUnseen},
      {"ssh", false, {}, "", {}, kUnseen},
      {"docker", false, {}, "", {}, kUnseen},
      {"podman", false, {}, "", {}, kUnseen},
      {"nerdctl", false, {}, "", {}, kUnseen},
      {"kubectl", false, {}, "", {}, kUnseen},
  };
  return launchers;
}

struct Option {
  std::string name;  // "-i", "--unset", or "-"
  std::string value;
};

// A launcher's words, apart.
struct LaunchWords {
  std::vector<Option> options;
  std::vector<std::string> rest;  // what follows its options
};

// "--unset" or a beginning of it, which getopt_long takes as well.
bool IsLong(std::string_view typed, std::string_view name) {
  return typed.size() > 2 && typed.starts_with("--") && name.starts_with(typed.substr(2));
}

bool TakesValue(const Launcher& launcher, std::string_view typed) {
  return std::any_of(launcher.long_valued.begin(), launcher.long_valued.end(),
                     [&](std::string_view name) { return IsLong(typed, name); });
}

// env -S: the value is words of env's own, and what follows comes behind them.
bool IsSplit(const Launcher& launcher, const Option& option) {
  return launcher.name == "env" && (option.name == "-S" || IsLong(option.name, "split-string"));
}

// The short options in one word, of which the last may take the rest of the word or the next one as its
// value.
void ReadShort(const Launcher& launcher, const std::vector<std::string>& words, size_t* at,
               std::vector<Option>* options) {
  const std::string& word = words[*at];
  for (size_t i = 1; i < word.size(); ++i) {
    options->push_back({std::string("-") + word[i], ""});
    if (launcher.valued.find(word[i]) == std::string_view::npos) continue;
    if (i + 1 < word.size()) {
      options->back().value = word.substr(i + 1);
    } else if (*at + 1 < words.size()) {
      options->back().value = words[++*at];
    }
    return;
  }
}

void ReadLong(const Launcher& launcher, const std::vector<std::string>& words, size_t* at,
              std::vector<Option>* options) {
  const std::string& word = words[*at];
  const size_t equals = word.find('=');
  options->push_back({word.substr(0, equals), equals == std::string::npos ? "" : word.substr(equals + 1)});
  const bool next = equals == std::string::npos && *at + 1 < words.size();
  if (next && TakesValue(launcher, word)) options->back().value = words[++*at];
}

LaunchWords ReadWords(const Launcher& launcher, std::vector<std::string> words) {
  LaunchWords read;
  size_t at = 0;
  for (; at < words.size() && !words[at].empty() && words[at][0] == '-'; ++at) {
    if (words[at] == "--") {
      ++at;
      break;
    }
    if (words[at] == "-") {
      read.options.push_back({"-", ""});
      continue;
    }
    words[at][1] == '-' ? ReadLong(launcher, words, &at, &read.options)
                        : ReadShort(launcher, words, &at, &read.options);
    if (!IsSplit(launcher, read.options.back())) continue;
    std::vector<std::string> unfolded = SplitWords(read.options.back().value);
    unfolded.insert(unfolded.end(), words.begin() + static_cast<ptrdiff_t>(at) + 1, words.end());
    words = std::move(unfolded);
    at = static_cast<size_t>(-1);  // on with the first of them
  }
  read.rest.assign(words.begin() + static_cast<ptrdiff_t>(std::min(at, words.size())), words.end());
  return read;
}

// Of `options`, the first that makes the launcher do the opposite; "": none.
std::string FindException(const Launcher& launcher, const std::vector<Option>& options) {
  for (const Option& option : options) {
    for (const std::string_view exception : launcher.exceptions) {
      const bool same = option.name == exception || option.name + "=" + option.value == exception;
      const bool plain = exception.starts_with("--") && exception.find('=') == std::string_view::npos;
      if (same || (plain && IsLong(option.name, exception.substr(2)))) return option.name;
    }
  }
  return "";
}

// What env does beyond its options: unsets and sets single variables. False where the program is then to be
// searched for in another place than ours.
bool ReadVariables(LaunchWords* words, std::string* drops) {
  bool here = true;
  for (const Option& option : words->options) {
    const bool unset = option.name == "-u" || IsLong(option.name, "unset");
    if (unset && option.value == kPreload) *drops = "env -u LD_PRELOAD";
    if ((unset && option.value == "PATH") || option.name == "-C" || IsLong(option.name, "chdir"))
      here = false;
  }
  auto word = words->rest.begin();
  for (; word != words->rest.end() && word->find('=') != std::string::npos; ++word) {
    const std::string name = word->substr(0, word->find('='));
    if (name == kPreload) *drops = PreloadsShim(word->substr(name.size() + 1)) ? "" : "env LD_PRELOAD=...";
    if (name == "PATH") here = false;
  }
  words->rest.erase(words->rest.begin(), word);
  return here;
}

bool IsGpuroom(std::string_view path) { return path.substr(path.rfind('/') + 1) == "gpuroom"; }

}  // namespace

std::vector<std::string> SplitWords(std::string_view text) {
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = text.find_first_not_of(" \t", at);
    if (begin == std::string_view::npos) break;
    const size_t end = std::min(text.find_first_of(" \t", begin), text.size());
    words.emplace_back(text.substr(begin, end - begin));
    at = end;
  }
  return words;
}

std::optional<Launch> ReadLaunch(std::string_view name, const std::vector<std::string>& arguments) {
  const auto& all = Launchers();
  const auto launcher =
      std::find_if(all.begin(), all.end(), [name](const Launcher& each) { return each.name == name; });
  if (launcher == all.end()) return std::nullopt;
  Launch launch;
  LaunchWords words = ReadWords(*launcher, arguments);
  const std::string exception = FindException(*launcher, words.options);
  if (launcher->passes && !exception.empty()) launch.drops = std::string(name) + " " + exception;
  if (!launcher->passes && exception.empty()) launch.drops = name;
  const bool here = name != "env" || ReadVariables(&words, &launch.drops);
  // A run further on sets the variables anew.
  const bool again = std::any_of(words.rest.begin(), words.rest.end(), IsGpuroom);
  if (words.rest.empty() || again) launch.drops.clear();
  const auto operands = static_cast<size_t>(std::max(launcher->operands, 0));
  if (here && launcher->operands != kUnseen && words.rest.size() > operands)
    launch.command.assign(words.rest.begin() + static_cast<ptrdiff_t>(operands), words.rest.end());
  return launch;
}

}  // namespace gpuroom
