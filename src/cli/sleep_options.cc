// The options of sleep, wake and hint.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "cli/parser.h"
#include "cli/sleep.h"
#include "range/names.h"
#include "sleep/control_line.h"

namespace gpuroom {
namespace {

Failure ReadPids(const std::string& command, const std::vector<std::string>& words, ControlOptions* options) {
  for (const std::string& word : words) {
    const Result<uint64_t> pid = ParseDecimal(word);
    if (!pid.ok() || *pid == 0 || *pid > INT32_MAX)
      return Usage(fmt::format("'{}' is not the number of a process; 'gpuroom ps' lists them", word));
    const auto number = static_cast<pid_t>(*pid);
    std::vector<pid_t>& pids = options->pids;
    if (std::find(pids.begin(), pids.end(), number) == pids.end()) pids.push_back(number);
  }
  if (options->all && !options->pids.empty()) return Usage("give numbers of processes or --all, not both");
  if (!options->all && options->pids.empty())
    return Usage(fmt::format("name the process, as in 'gpuroom {} 1234'; 'gpuroom ps' lists them", command));
  return {};
}

struct SleepTexts {
  std::string action;
  std::string disk;
  std::string hold;
  std::vector<std::string> tags;
  std::vector<std::string> drops;
};

Failure ReadAction(const SleepTexts& texts, int* action) {
  *action = texts.disk.empty() ? GPUROOM_SLEEP_KEEP : GPUROOM_SLEEP_DISK;
  if (texts.action.empty()) return {};
  const int named = ActionOf(texts.action);
  if (named < 0 || named == GPUROOM_SLEEP_STAY)
    return Usage(fmt::format("--action '{}' is none; take keep, disk or drop", texts.action));
  if (!texts.disk.empty() && named != GPUROOM_SLEEP_DISK)
    return Usage(fmt::format("--disk and --action {} exclude each other; leave one out", texts.action));
  *action = named;
  return {};
}

Failure ReadRequest(const SleepTexts& texts, ControlRequest* request) {
  int action = 0;
  const Failure failure = ReadAction(texts, &action);
  if (failure.failed()) return failure;
  for (const std::string& tag : texts.tags) request->actions.emplace_back(tag, action);
  for (const std::string& tag : texts.drops) {
    if (std::find(texts.tags.begin(), texts.tags.end(), tag) != texts.tags.end())
      return Usage(fmt::format("'{}' is both --tag and --drop-tag; leave one out", tag));
    request->actions.emplace_back(tag, GPUROOM_SLEEP_DROP);
  }
  // With tags to put to sleep, all others stay awake.
  if (texts.tags.empty()) request->rest = action;
  const bool named = !texts.hold.empty();
  request->hold = named ? HoldOf(texts.hold) : GPUROOM_HOLD_WAIT;
  if (request->hold != GPUROOM_HOLD_WAIT && request->hold != GPUROOM_HOLD_FAIL && texts.hold != "pass")
    return Usage(fmt::format("--on-launch '{}' is none; take wait, fail or pass", texts.hold));
  if (texts.hold == "pass") request->hold = GPUROOM_HOLD_NONE;
  if (texts.disk.empty()) return {};
  // Absolute, since the process has a folder of its own.
  std::error_code error;
  request->directory = std::filesystem::absolute(texts.disk, error).string();
  if (error)
    return Usage(fmt::format("--disk '{}': {}; write an absolute path", texts.disk, error.message()));
  return {};
}

}  // namespace

Failure ParseSleep(const std::vector<std::string>& arguments, ControlOptions* options) {
  SleepTexts texts;
  std::vector<std::string> words;
  Parser parser("sleep");
  parser.Words(&words);
  parser.List("--tag", &texts.tags);
  parser.List("--drop-tag", &texts.drops);
  parser.Value("--action", &texts.action);
  parser.Value("--disk", &texts.disk);
  parser.Value("--on-launch", &texts.hold);
  parser.Flag("--verify", &options->request.verify);
  parser.Flag("--all", &options->all);
  parser.Flag("--json", &options->json);
  parser.Flag("-h,--help", &options->help);
  options->request.verb = ControlRequest::Verb::kSleep;
  Failure failure = parser.Parse(arguments);
  if (failure.failed() || options->help) return failure;
  failure = ReadRequest(texts, &options->request);
  return failure.failed() ? failure : ReadPids("sleep", words, options);
}

Failure ParseWake(const std::vector<std::string>& arguments, ControlOptions* options) {
  std::vector<std::string> words;
  Parser parser("wake");
  parser.Words(&words);
  parser.List("--tag", &options->request.tags);
  parser.Flag("--lazy", &options->request.lazy);
  parser.Flag("--all", &options->all);
  parser.Flag("--json", &options->json);
  parser.Flag("-h,--help", &options->help);
  options->request.verb = ControlRequest::Verb::kWake;
  const Failure failure = parser.Parse(arguments);
  if (failure.failed() || options->help) return failure;
  return ReadPids("wake", words, options);
}

Failure ParseHintCommand(const std::vector<std::string>& arguments, ControlOptions* options) {
  std::vector<std::string> words;
  Parser parser("hint");
  parser.Words(&words);
  parser.List("--tag", &options->request.tags);
  parser.Flag("--all", &options->all);
  parser.Flag("--json", &options->json);
  parser.Flag("-h,--help", &options->help);
  options->request.verb = ControlRequest::Verb::kHint;
  const Failure failure = parser.Parse(arguments);
  if (failure.failed() || options->help) return failure;
  if (words.empty()) return Usage("name the hint first, as in 'gpuroom hint cold 1234'");
  options->request.hint = ParseHint(words[0]);
  if (!options->request.hint)
    return Usage(fmt::format("'{}' is no hint; take hot, cold, stream or none", words[0]));
  words.erase(words.begin());
  return ReadPids("hint " + std::string(HintName(*options->request.hint)), words, options);
}

}  // namespace gpuroom
