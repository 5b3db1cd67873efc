// The command line. The first line names the command, each further line is an argument.
#include <string>
#include <vector>

#include "cli/options.h"
#include "cli/plan.h"
#include "cli/sleep.h"
#include "fuzz.h"

namespace gpuroom {
namespace {

using Arguments = std::vector<std::string>;

Failure ParseOf(std::string_view command, const Arguments& arguments) {
  if (command == "run") {
    RunOptions options;
    const Failure failure = ParseRun(arguments, &options);
    if (!failure.failed()) fuzz::Require(options.help || !options.command.empty(), "a run has a command");
    return failure;
  }
  if (command == "env") {
    EnvOptions options;
    return ParseEnv(arguments, &options);
  }
  if (command == "demo") {
    DemoOptions options;
    return ParseDemo(arguments, &options);
  }
  if (command == "doctor") {
    DoctorArguments options;
    return ParseDoctor(arguments, &options);
  }
  if (command == "tiers") {
    BenchTiersOptions options;
    return ParseBenchTiers(arguments, &options);
  }
  if (command == "plan") {
    PlanOptions options;
    const Failure failure = ParsePlan(arguments, &options);
    if (!failure.failed()) fuzz::Require(options.help || !options.model.empty(), "a plan is of a model");
    return failure;
  }
  if (command == "bench-sleep") {
    BenchSleepOptions options;
    return ParseBenchSleep(arguments, &options);
  }
  ControlOptions options;
  const Failure failure =
      command == "wake" ? ParseWake(arguments, &options) : ParseSleep(arguments, &options);
  if (!failure.failed() && !options.help) {
    fuzz::Require(options.all == options.pids.empty(), "a sleep names processes, or is of all");
  }
  return failure;
}

}  // namespace
}  // namespace gpuroom

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<std::string_view> lines = gpuroom::fuzz::Lines(gpuroom::fuzz::Input(data, size));
  if (lines.empty()) return 0;
  const gpuroom::Failure failure = gpuroom::ParseOf(lines[0], {lines.begin() + 1, lines.end()});
  if (failure.failed()) gpuroom::fuzz::Require(!failure.text.empty(), "a refusal says why");
  return 0;
}
