#include "cli/sleep.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/size.h"
#include "cli/control_client.h"
#include "cli/help.h"
#include "range/names.h"

namespace gpuroom {
namespace {

using Json = nlohmann::ordered_json;

// What Ctrl-C leaves behind: changed while it is held back, read by the handler.
std::string_view g_result;   // to standard output
std::string_view g_goodbye;  // to standard error

void WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno != EINTR) return;
    text.remove_prefix(n < 0 ? 0 : static_cast<size_t>(n));
  }
}

void OnInterrupt(int) {
  WriteAll(STDOUT_FILENO, g_result);
  WriteAll(STDERR_FILENO, g_goodbye);
  _exit(kExitInterrupted);
}

const char* VerbName(ControlRequest::Verb verb) {
  if (verb == ControlRequest::Verb::kSleep) return "sleep";
  return verb == ControlRequest::Verb::kWake ? "wake" : "hint";
}

// Sets what Ctrl-C does, unless it does nothing.
void HandleInterrupt(void (*handler)(int)) {
  struct sigaction action = {};
  sigaction(SIGINT, nullptr, &action);
  if (action.sa_handler == SIG_IGN) return;
  action.sa_handler = handler;
  sigaction(SIGINT, &action, nullptr);
}

void AddPart(uint64_t bytes, const char* what, std::string* parts) {
  if (bytes == 0) return;
  *parts += fmt::format("{}{} {}", parts->empty() ? "" : ", ", FormatSize(bytes), what);
}

std::string SleepSentence(pid_t pid, const gpuroom_sleep_report& report, double seconds) {
  std::string left;
  if (report.left_awake > 0) left = fmt::format("; {} cannot sleep and stays", FormatSize(report.left_awake));
  if (report.ranges == 0) return fmt::format("process {} had nothing to put to sleep{}", pid, left);
  std::string parts;
  AddPart(report.kept, "kept in host memory", &parts);
  AddPart(report.on_disk, "on disk", &parts);
  AddPart(report.dropped, "dropped", &parts);
  return fmt::format("process {} gave {} of GPU memory back in {:.3f} s: {}{}", pid,
                     FormatSize(report.released), seconds, parts, left);
}

std::string WakeSentence(pid_t pid, const gpuroom_sleep_report& report, double seconds) {
  if (report.ranges == 0) return fmt::format("process {} had nothing to wake", pid);
  std::string parts;
  AddPart(report.kept + report.on_disk, "restored", &parts);
  AddPart(report.dropped, "made anew", &parts);
  std::string later;
  if (report.released > 0)
    later = fmt::format("; {} is still in host memory and moves to the GPU by and by",
                        FormatSize(report.released));
  return fmt::format("process {} woke in {:.3f} s: {}{}", pid, seconds, parts, later);
}

std::string HintSentence(pid_t pid, const gpuroom_sleep_report& report, Hint hint) {
  const char* name = hint == Hint::kNone ? "without a hint" : HintName(hint);
  return fmt::format("process {}: {} allocation{} now {}", pid, report.ranges,
                     report.ranges == 1 ? " is" : "s are", name);
}

Json ToJson(const ControlRequest& request, const gpuroom_sleep_report& report) {
  if (request.verb == ControlRequest::Verb::kHint) return {{"ranges", report.ranges}};
  return {{"ranges", report.ranges},
          {"kept_bytes", report.kept},
          {"on_disk_bytes", report.on_disk},
          {"dropped_bytes", report.dropped},
          {"released_bytes", report.released},
          {"left_awake_bytes", report.left_awake},
          {"seconds", static_cast<double>(report.nanoseconds) / 1e9}};
}

class Conversation {
 public:
  explicit Conversation(const ControlOptions& options) : options_(options) {}

  // All processes at once, whatever happens to the others. The exit status of the first that failed.
  int Run() {
    const FoundTargets found = FindTargets(options_.all ? Whose::kOwn : Whose::kEveryones);
    options_.all ? AddAll(found) : AddNamed(found);
    const std::vector<size_t> crowded = Ask(All());
    // Each of them had the others beside it when it found no room.
    for (const size_t index : crowded) Ask({index});
    HandleInterrupt(SIG_DFL);
    fmt::print("{}", Result());
    return ExitCode();
  }

 private:
  // JSON does not throw where it is moved, though the tool says so.
  struct Subject {  // NOLINT(bugprone-exception-escape)
    ControlTarget target;
    bool waited_for = false;
    int exit_code = kExitOk;
    Json entry;  // null: no answer yet
  };

  void AddAll(const FoundTargets& found) {
    for (const ControlTarget& target : found.targets) subjects_.push_back({target, true, kExitOk, {}});
    if (subjects_.empty() && !options_.json)
      fmt::print("no process of this user is under gpuroom and uses a GPU\n");
  }

  void AddNamed(const FoundTargets& found) {
    for (const pid_t pid : options_.pids) {
      Subject& subject = subjects_.emplace_back();
      const Failure failure = PickTarget(found, pid, &subject.target);
      subject.target.pid = pid;
      subject.waited_for = !failure.failed();
      if (failure.failed()) Fail(subject, failure, nullptr);
    }
  }

  std::vector<size_t> All() const {
    std::vector<size_t> indices;
    for (size_t i = 0; i < subjects_.size(); ++i) {
      if (subjects_[i].waited_for) indices.push_back(i);
    }
    return indices;
  }

  // Asks these. Returns those, if several were asked, that have to be asked again by themselves.
  std::vector<size_t> Ask(const std::vector<size_t>& indices) {
    std::vector<ControlTarget> targets;
    targets.reserve(indices.size());
    for (const size_t index : indices) {
      targets.push_back(subjects_[index].target);
      subjects_[index].waited_for = true;
    }
    std::vector<size_t> crowded;
    AskOptions how;
    how.answered = [&](size_t i, const Answer& answer) {
      const bool again = indices.size() > 1 && answer.failure.exit_code == kExitOutOfMemory;
      subjects_[indices[i]].waited_for = false;
      again ? crowded.push_back(indices[i]) : Take(subjects_[indices[i]], answer);
      ExplainInterrupt();
    };
    if (isatty(STDERR_FILENO) != 0)
      how.waiting = [&](size_t i) { fmt::print(stderr, "waiting for process {} ...\n", targets[i].pid); };
    if (!targets.empty()) ExplainInterrupt();
    AskAll(targets, options_.request, how);
    return crowded;
  }

  void Take(Subject& subject, const Answer& answer) {
    if (answer.failure.failed()) {
      const bool refused = answer.reply.result != GPUROOM_OK && !answer.reply.ending;
      Fail(subject, answer.failure, refused ? ResultName(answer.reply.result) : nullptr);
    } else {
      Tell(subject, answer.reply.report.value_or(gpuroom_sleep_report{}));
    }
  }

  // In the order in which they were named.
  std::string Result() const {
    if (!options_.json) return "";
    Json processes = Json::array();
    for (const Subject& subject : subjects_) {
      if (!subject.entry.is_null()) processes.push_back(subject.entry);
    }
    const Json out = {{"processes", processes}};
    return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  }

  int ExitCode() const {
    for (const Subject& subject : subjects_) {
      if (subject.exit_code != kExitOk) return subject.exit_code;
    }
    return kExitOk;
  }

  std::string Goodbye() const {
    std::string pids;
    size_t count = 0;
    for (const Subject& subject : subjects_) {
      if (subject.waited_for) pids += fmt::format("{}{}", count++ == 0 ? "" : ", ", subject.target.pid);
    }
    if (count == 0) return "";
    return fmt::format(
        "gpuroom: no longer waiting; the {} goes on in process{} {}, and 'gpuroom ps' shows it\n",
        VerbName(options_.request.verb), count == 1 ? "" : "es", pids);
  }

  // The processes go on with what they were asked for, whether or not somebody waits; others have answered.
  void ExplainInterrupt() {
    sigset_t interrupt, before;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &before);
    result_ = Result();
    goodbye_ = Goodbye();
    g_result = result_;
    g_goodbye = goodbye_;
    HandleInterrupt(OnInterrupt);
    sigprocmask(SIG_SETMASK, &before, nullptr);
  }

  std::string Sentence(pid_t pid, const gpuroom_sleep_report& report) const {
    const double seconds = static_cast<double>(report.nanoseconds) / 1e9;
    switch (options_.request.verb) {
      case ControlRequest::Verb::kSleep: return SleepSentence(pid, report, seconds);
      case ControlRequest::Verb::kHint:
        return HintSentence(pid, report, options_.request.hint.value_or(Hint::kNone));
      default: return WakeSentence(pid, report, seconds);
    }
  }

  void Tell(Subject& subject, const gpuroom_sleep_report& report) {
    const pid_t pid = subject.target.pid;
    subject.entry = {{"pid", pid}, {"result", "ok"}};
    subject.entry.update(ToJson(options_.request, report));
    if (options_.json) return;
    fmt::print("{}\n", Sentence(pid, report));
    std::fflush(stdout);
  }

  static void Fail(Subject& subject, const Failure& failure, const char* result) {
    Report(failure);
    subject.exit_code = failure.exit_code;
    const char* fallback = failure.exit_code == kExitNotPermitted ? "not_permitted" : "unreachable";
    subject.entry = {{"pid", subject.target.pid},
                     {"result", result != nullptr ? result : fallback},
                     {"error", Printable(failure.text)}};
  }

  const ControlOptions& options_;
  std::vector<Subject> subjects_;
  std::string result_;  // of those that have answered
  std::string goodbye_;
};

int Converse(const ControlOptions& options, const Failure& failure, std::string_view help) {
  if (failure.failed()) return Report(failure);
  if (!options.help) return Conversation(options).Run();
  fmt::print("{}", help);
  return kExitOk;
}

}  // namespace

int SleepCommand(const std::vector<std::string>& arguments) {
  ControlOptions options;
  const Failure failure = ParseSleep(arguments, &options);
  return Converse(options, failure, kSleepHelp);
}

int HintCommand(const std::vector<std::string>& arguments) {
  ControlOptions options;
  const Failure failure = ParseHintCommand(arguments, &options);
  return Converse(options, failure, kHintHelp);
}

int WakeCommand(const std::vector<std::string>& arguments) {
  ControlOptions options;
  const Failure failure = ParseWake(arguments, &options);
  return Converse(options, failure, kWakeHelp);
}

}  // namespace gpuroom
