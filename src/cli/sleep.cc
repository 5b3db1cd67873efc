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

Json ToJson(const gpuroom_sleep_report& report) {
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

  // Every process in turn, whatever happens to the others. The exit status of the first that failed.
  int Run() {
    for (const pid_t pid : options_.pids) AskOne(pid);
    if (options_.all) AskAll();
    HandleInterrupt(SIG_DFL);
    fmt::print("{}", Result());
    return exit_code_;
  }

 private:
  std::string Result() const {
    if (!options_.json) return "";
    const Json out = {{"processes", processes_}};
    return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  }

  // The process goes on with what it was asked for, whether or not somebody waits; those before it have
  // answered.
  void ExplainInterrupt(pid_t pid) {
    sigset_t interrupt, before;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &before);
    result_ = Result();
    goodbye_ =
        fmt::format("gpuroom: no longer waiting; the {} goes on in process {}, and 'gpuroom ps' shows it\n",
                    sleeps() ? "sleep" : "wake", pid);
    g_result = result_;
    g_goodbye = goodbye_;
    HandleInterrupt(OnInterrupt);
    sigprocmask(SIG_SETMASK, &before, nullptr);
  }

  bool sleeps() const { return options_.request.verb == ControlRequest::Verb::kSleep; }

  void AskAll() {
    const std::vector<ControlTarget> targets = FindTargets(Whose::kOwn);
    for (const ControlTarget& target : targets) Ask(target);
    if (targets.empty() && !options_.json)
      fmt::print("no process of this user is under gpuroom and uses a GPU\n");
  }

  void AskOne(pid_t pid) {
    ControlTarget target;
    target.pid = pid;
    const Failure failure = FindTarget(pid, &target);
    failure.failed() ? Fail(pid, failure, nullptr) : Ask(target);
  }

  void Ask(const ControlTarget& target) {
    const pid_t pid = target.pid;
    ExplainInterrupt(pid);
    AskOptions how;
    if (isatty(STDERR_FILENO) != 0)
      how.waiting = [pid] { fmt::print(stderr, "waiting for process {} ...\n", pid); };
    ControlReply reply;
    const Failure unheard = gpuroom::Ask(target, options_.request, how, &reply);
    if (unheard.failed()) return Fail(pid, unheard, nullptr);
    const Failure refused = FailureOf(target, options_.request, reply);
    if (refused.failed()) return Fail(pid, refused, ResultName(reply.result));
    Tell(pid, reply.report.value_or(gpuroom_sleep_report{}));
  }

  void Tell(pid_t pid, const gpuroom_sleep_report& report) {
    if (options_.json) {
      Json entry = {{"pid", pid}, {"result", "ok"}};
      entry.update(ToJson(report));
      processes_.push_back(entry);
      return;
    }
    const double seconds = static_cast<double>(report.nanoseconds) / 1e9;
    fmt::print("{}\n", sleeps() ? SleepSentence(pid, report, seconds) : WakeSentence(pid, report, seconds));
    std::fflush(stdout);
  }

  void Fail(pid_t pid, const Failure& failure, const char* result) {
    Report(failure);
    if (exit_code_ == kExitOk) exit_code_ = failure.exit_code;
    const char* fallback = failure.exit_code == kExitNotPermitted ? "not_permitted" : "unreachable";
    processes_.push_back({{"pid", pid},
                          {"result", result != nullptr ? result : fallback},
                          {"error", Printable(failure.text)}});
  }

  const ControlOptions& options_;
  Json processes_ = Json::array();
  std::string result_;  // of those that have answered
  std::string goodbye_;
  int exit_code_ = kExitOk;
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

int WakeCommand(const std::vector<std::string>& arguments) {
  ControlOptions options;
  const Failure failure = ParseWake(arguments, &options);
  return Converse(options, failure, kWakeHelp);
}

}  // namespace gpuroom
