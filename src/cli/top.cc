#include "cli/top.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "base/clock.h"
#include "cli/help.h"
#include "cli/installation.h"
#include "cli/output.h"
#include "cli/parser.h"
#include "cli/python_program.h"
#include "cli/top_report.h"
#include "sleep/control_line.h"

namespace gpuroom {
namespace {

constexpr uint64_t kUsualInterval = 2;  // seconds
constexpr uint64_t kMostInterval = 3600;
constexpr uint64_t kSecond = 1'000'000'000;  // nanoseconds

struct TopOptions {
  uint64_t interval = kUsualInterval;
  bool once = false;
  bool json = false;
  bool help = false;
};

Failure ParseTop(const std::vector<std::string>& arguments, TopOptions* options) {
  std::string interval;
  Parser parser("top");
  parser.Value("--interval", &interval);
  parser.Flag("--once", &options->once);
  parser.Flag("--json", &options->json);
  parser.Flag("-h,--help", &options->help);
  const Failure failure = parser.Parse(arguments);
  if (failure.failed() || interval.empty()) return failure;
  const Result<uint64_t> seconds = ParsePlainDecimal(interval);
  if (!seconds.ok() || *seconds == 0 || *seconds > kMostInterval)
    return Usage(
        fmt::format("--interval '{}' is no number of seconds from 1 to {}", interval, kMostInterval));
  options->interval = *seconds;
  return {};
}

void SleepUntil(uint64_t time) {
  const timespec until = {static_cast<time_t>(time / kSecond), static_cast<long>(time % kSecond)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
}

void Print(const TopSnapshot& snapshot, const TopOptions& options) {
  if (!options.json) return fmt::print("{}", TopText(snapshot));
  // Commands and tags need not be UTF-8; JSON must be. Without --once each look is one line.
  constexpr auto kReplace = nlohmann::ordered_json::error_handler_t::replace;
  fmt::print("{}\n", TopJson(snapshot).dump(options.once ? 2 : -1, ' ', false, kReplace));
}

// Once, or again and again until nobody reads any more (SIGPIPE) or a signal ends it.
int PrintLooks(const TopOptions& options) {
  const TopMachine machine = ReadTopMachine();
  for (uint64_t time = NowNanoseconds();; time += options.interval * kSecond) {
    Print(MakeTopSnapshot(machine, AskRows(), static_cast<double>(NowNanoseconds()) / 1e9), options);
    const Failure unwritten = FlushOutput();
    if (unwritten.failed()) return Report(unwritten);
    if (options.once) return kExitOk;
    SleepUntil(time + options.interval * kSecond);
  }
}

// Replaces this process by the view.
int BecomeView(const TopOptions& options) {
  if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0)
    return Report(Usage("top needs a terminal; take --once to print what it shows, or --json"));
  // A module that the Textual of Debian 12, which is too old, does not have.
  const std::string python = FindPythonWith("textual.strip");
  if (python.empty())
    return Report(
        {kExitFailed,
         "the view of top needs python3 with Textual; install it with pip install 'gpuroom[top]' or "
         "pip install textual, or take --once"});
  const Installation installation = FindInstallation();
  const std::string package =
      (std::filesystem::path(installation.prefix) / "lib" / "gpuroom" / "python").string();
  // As python3 -m, but with our folder in the place of the current one, which may hold anything.
  constexpr char kRun[] =
      "import runpy, sys; sys.path = [sys.argv.pop(1)] + [p for p in sys.path if p]; "
      "runpy.run_module('gpuroom.top', run_name='__main__', alter_sys=True)";
  const std::string interval = std::to_string(options.interval);
  execlp(python.c_str(), python.c_str(), "-c", kRun, package.c_str(), installation.exe.c_str(),
         interval.c_str(), static_cast<char*>(nullptr));
  return Report(
      {kExitFailed, fmt::format("{} cannot be run: {}; take --once", python, std::strerror(errno))});
}

}  // namespace

int TopCommand(const std::vector<std::string>& arguments) {
  TopOptions options;
  const Failure failure = ParseTop(arguments, &options);
  if (failure.failed()) return Report(failure);
  if (options.help) {
    fmt::print("{}", kTopHelp);
    return kExitOk;
  }
  return options.once || options.json ? PrintLooks(options) : BecomeView(options);
}

}  // namespace gpuroom
