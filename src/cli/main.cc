// gpuroom's command line: finds the command and hands its arguments over.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <system_error>
#include <vector>

#include "cli/bench.h"
#include "cli/demo.h"
#include "cli/doctor.h"
#include "cli/env.h"
#include "cli/environment.h"
#include "cli/exit_codes.h"
#include "cli/exporter.h"
#include "cli/help.h"
#include "cli/installation.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/ps.h"
#include "cli/run.h"
#include "cli/sleep.h"
#include "cli/suggest.h"
#include "cli/top.h"
#include "cli/trace.h"
#include "cli/variables.h"
#include "share/run_arbiter.h"
#include "share/share_place.h"

namespace gpuroom {
namespace {

const std::vector<std::string> kCommands = {"run",      "env",  "sleep",  "wake", "hint",  "ps",    "top",
                                            "exporter", "demo", "doctor", "plan", "trace", "bench", "help"};

// "run, env, ... and help": all of them, or all but the last.
std::string CommandList(bool with_help) {
  const auto end = kCommands.end() - 1;
  return fmt::format("{}{}", fmt::join(kCommands.begin(), with_help ? end : end - 1, ", "),
                     " and " + (with_help ? *end : *(end - 1)));
}

int Print(std::string_view text) {
  fmt::print("{}", text);
  return kExitOk;
}

int DoctorCommand(const std::vector<std::string>& arguments) {
  DoctorArguments parsed;
  const Failure failure = ParseDoctor(arguments, &parsed);
  if (failure.failed()) return Report(failure);
  if (parsed.help) return Print(kDoctorHelp);
  return RunDoctor(parsed.options);
}

// Not for people: the library of a program that shares GPUs starts it.
int ArbiterCommand(const std::vector<std::string>& arguments) {
  if (arguments.size() != 1 || !IsShareGroup(arguments[0]))
    return Report({kExitUsage, "'gpuroom arbiter' takes the name of a group of programs that share GPUs"});
  const Status status = RunArbiter(arguments[0]);
  // Another one was faster.
  if (status.ok() || status.code() == Code::kBusy) return kExitOk;
  return Report({kExitFailed, status.what()});
}

int HelpCommand(const std::vector<std::string>& arguments) {
  if (arguments.empty()) return Print(kGeneralHelp);
  const std::string& topic = arguments[0];
  if (topic == "run") return Print(kRunHelp);
  if (topic == "env") return Print(kEnvHelp);
  if (topic == "sleep") return Print(kSleepHelp);
  if (topic == "wake") return Print(kWakeHelp);
  if (topic == "hint") return Print(kHintHelp);
  if (topic == "ps") return Print(kPsHelp);
  if (topic == "top") return Print(kTopHelp);
  if (topic == "exporter") return Print(kExporterHelp);
  if (topic == "demo") return Print(kDemoHelp);
  if (topic == "doctor") return Print(kDoctorHelp);
  if (topic == "plan") return Print(kPlanHelp);
  if (topic == "trace") return Print(kTraceHelp);
  if (topic == "bench") {
    const std::string what = arguments.size() > 1 ? arguments[1] : "";
    return Print(what == "tiers" ? kBenchTiersHelp : what == "sleep" ? kBenchSleepHelp : kBenchHelp);
  }
  if (topic == "help") return Print(kGeneralHelp);
  return Report(
      {kExitUsage, fmt::format("there is no help on '{}'{}", topic,
                               DidYouMean(topic, kCommands, "; there is on " + CommandList(false)))});
}

int UnknownCommand(const std::string& word) {
  if (!word.empty() && word[0] == '-') {
    return Report({kExitUsage,
                   fmt::format("unknown option '{}' before a command; options follow it, as in 'gpuroom run "
                               "{} ...'",
                               word, word)});
  }
  return Report(
      {kExitUsage, fmt::format("'{}' is not a gpuroom command{}", word,
                               DidYouMean(word, kCommands, "; the commands are " + CommandList(true)))});
}

int Dispatch(const std::vector<std::string>& words) {
  if (words.empty())
    return Report(
        {kExitUsage, fmt::format("name a command: {}; 'gpuroom help' explains them", CommandList(false))});
  const std::vector<std::string> arguments(words.begin() + 1, words.end());
  const std::string& command = words[0];
  if (command == "help" || command == "--help" || command == "-h") return HelpCommand(arguments);
  if (command == "--version" || command == "-V" || command == "version")
    return Print("gpuroom " GPUROOM_VERSION "\n");
  const Failure wrong = CheckVariables();
  if (wrong.failed()) return Report(wrong);
  if (command == "run") return RunCommand(arguments);
  if (command == "env") return EnvCommand(arguments);
  if (command == "sleep") return SleepCommand(arguments);
  if (command == "wake") return WakeCommand(arguments);
  if (command == "hint") return HintCommand(arguments);
  if (command == "ps") return PsCommand(arguments);
  if (command == "top") return TopCommand(arguments);
  if (command == "exporter") return ExporterCommand(arguments);
  if (command == "demo") return DemoCommand(arguments);
  if (command == "plan") return PlanCommand(arguments);
  if (command == "trace") return TraceCommand(arguments);
  if (command == "bench") return BenchCommand(arguments);
  if (command == "doctor") return DoctorCommand(arguments);
  if (command == "arbiter") return ArbiterCommand(arguments);
  return UnknownCommand(command);
}

// The exit status that a command returned, or kExitFailed where it succeeded and its output was lost.
int WithOutput(int status) {
  const Failure unwritten = FlushOutput();
  if (!unwritten.failed()) return status;
  Report(unwritten);
  return status == kExitOk ? unwritten.exit_code : status;
}

// Inside another run this command has the shim in front of its own driver calls
// and would take enlarged sizes for the machine's. It starts again without.
void LeaveOuterShim(char** argv) {
  const char* preload = std::getenv("LD_PRELOAD");
  if (preload == nullptr || !PreloadsShim(preload)) return;
  const std::string others = RemovePreload(preload);
  others.empty() ? unsetenv("LD_PRELOAD") : setenv("LD_PRELOAD", others.c_str(), 1);
  execv(FindInstallation().exe.c_str(), argv);
  // Not fatal: sizes may then be the enlarged ones.
  fmt::print(stderr,
             "gpuroom: cannot start again without the outer run's library; sizes may include host memory\n");
}

int ReportDefect(const std::exception& error) {
  return Report({kExitFailed, fmt::format("internal error: {}; please report it", error.what())});
}

}  // namespace
}  // namespace gpuroom

int main(int argc, char** argv) {
  try {
    gpuroom::LeaveOuterShim(argv);
    return gpuroom::WithOutput(gpuroom::Dispatch({argv + (argc > 0 ? 1 : 0), argv + argc}));
  } catch (const std::system_error& error) {
    // fmt throws one where it cannot print.
    if (std::ferror(stdout) != 0) return gpuroom::Report(gpuroom::UnwrittenOutput(error.code().value()));
    return gpuroom::ReportDefect(error);
  } catch (const std::exception& error) {
    return gpuroom::ReportDefect(error);
  }
}
