#include "cli/control_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "cli/descriptor.h"
#include "sleep/control_line.h"

namespace gpuroom {
namespace {

constexpr int kNoticeMilliseconds = 1000;
constexpr int kSendMilliseconds = 10000;
// How often a connection that is closed without a word is tried again, and how long apart: a
// program that closed all its descriptors makes a new socket when it is asked.
constexpr int kTries = 100;
constexpr int kTryPause = 50;  // milliseconds

Failure Gone(pid_t pid) {
  return {kExitNoProcess,
          fmt::format("process {} ended before it answered; 'gpuroom ps' lists those that are there", pid)};
}

// A number is given out again: the process that has it now need not be the one that listened.
Failure Refused(pid_t pid) {
  return {kExitNoProcess,
          fmt::format("nobody answers for process {}: the one that did has ended; see 'gpuroom ps'", pid)};
}

Failure NoAnswer(pid_t pid) {
  return {kExitFailed,
          fmt::format("process {} does not answer; ask again, or look whether it is stopped", pid)};
}

bool Connects(int fd, const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return false;
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  for (int left = kSendMilliseconds; left > 0; left -= 10) {
    if (connect(fd, generic, sizeof address) == 0) return true;
    if (errno != EAGAIN && errno != EINTR) return false;
    poll(nullptr, 0, 10);  // its queue is full
  }
  return false;
}

// Only the process itself may answer in its name.
Failure CheckPeer(int fd, pid_t pid) {
  ucred peer{};
  socklen_t length = sizeof peer;
  const bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0;
  if (known && peer.pid == pid && (peer.uid == geteuid() || geteuid() == 0)) return {};
  if (known && peer.pid != pid) {
    return {
        kExitNoProcess,
        fmt::format("the process that answers for {} is another container's; run this command there", pid)};
  }
  return {kExitNotPermitted, fmt::format("process {} is another user's; ask as that user or as root", pid)};
}

Failure ConnectFailed(pid_t pid) {
  switch (errno) {
    case EACCES:
    case EPERM:
      return {kExitNotPermitted,
              fmt::format("process {} is another user's; ask as that user or as root", pid)};
    case ECONNREFUSED:
    case ENOENT: return Gone(pid);
    case EAGAIN: return NoAnswer(pid);
    default:
      return {kExitFailed,
              fmt::format("process {} cannot be reached: {}; see 'gpuroom ps'", pid, std::strerror(errno))};
  }
}

bool SendAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      text.remove_prefix(static_cast<size_t>(sent));
      continue;
    }
    pollfd wait{fd, POLLOUT, 0};
    if (errno == EINTR || (errno == EAGAIN && poll(&wait, 1, kSendMilliseconds) > 0)) continue;
    return false;
  }
  return true;
}

// Until the other side closes. False: it takes longer than `options` allow.
bool ReadAll(int fd, const AskOptions& options, std::string* text) {
  const uint64_t start = NowNanoseconds();
  bool noticed = !options.waiting;
  char part[16384];
  while (text->size() < kLongestReply) {
    const int passed = static_cast<int>((NowNanoseconds() - start) / 1000000);
    if (!noticed && passed >= kNoticeMilliseconds) {
      options.waiting();
      noticed = true;
    }
    if (options.patience >= 0 && passed >= options.patience) return false;
    int wait = options.patience < 0 ? -1 : options.patience - passed;
    if (!noticed) wait = std::min(wait < 0 ? kNoticeMilliseconds : wait, kNoticeMilliseconds - passed);
    pollfd input{fd, POLLIN, 0};
    if (poll(&input, 1, wait) <= 0) continue;
    const ssize_t got = recv(fd, part, sizeof part, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return true;
    text->append(part, static_cast<size_t>(got));
  }
  return true;
}

// One try. `text` stays empty where the connection was closed without a word, or `refused` by a process
// that lives.
Failure AskOnce(const ControlTarget& target, const std::string& request, const AskOptions& options,
                std::string* text, bool* refused) {
  const Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.fd < 0) return {kExitFailed, fmt::format("no socket can be made: {}", std::strerror(errno))};
  if (!Connects(socket.fd, target.path)) {
    *refused = (errno == ECONNREFUSED || errno == ENOENT) && kill(target.pid, 0) == 0;
    return *refused ? Failure{} : ConnectFailed(target.pid);
  }
  const Failure stranger = CheckPeer(socket.fd, target.pid);
  if (stranger.failed()) return stranger;
  if (!SendAll(socket.fd, request)) return {};
  return ReadAll(socket.fd, options, text) ? Failure{} : NoAnswer(target.pid);
}

// What helps against lack of memory, where the library's own sentence does not say.
const char* Advice(ControlRequest::Verb verb) {
  return verb == ControlRequest::Verb::kSleep ? "; give --disk DIR, or --drop-tag for what can be made again"
                                              : "; free memory of the GPU, or wake less with --tag";
}

}  // namespace

Failure Ask(const ControlTarget& target, const ControlRequest& request, const AskOptions& options,
            ControlReply* reply) {
  const std::string asked = FormatRequest(request);
  std::string text;
  bool refused = false;
  bool met = false;
  for (int tries = 0; tries < kTries && text.empty(); ++tries) {
    if (tries > 0) poll(nullptr, 0, kTryPause);
    refused = false;
    const Failure failure = AskOnce(target, asked, options, &text, &refused);
    if (failure.failed()) return failure;
    met = met || !refused;
  }
  if (refused && text.empty()) {
    RemoveName(target);
    return met ? Gone(target.pid) : Refused(target.pid);
  }
  Result<ControlReply> read = ParseReply(text);
  if (read.ok()) {
    *reply = std::move(*read);
    return {};
  }
  if (read.status().code() == Code::kNotFound) return Gone(target.pid);
  return {kExitFailed,
          fmt::format("process {} runs another version of gpuroom's library ({}); use the 'gpuroom' "
                      "command that it was started with",
                      target.pid, read.status().what())};
}

Failure FailureOf(const ControlTarget& target, const ControlRequest& request, const ControlReply& reply) {
  if (reply.result == GPUROOM_OK) return {};
  std::string text =
      fmt::format("process {}: {}", target.pid, reply.text.empty() ? "it gave no reason" : reply.text);
  switch (reply.result) {
    case GPUROOM_OUT_OF_MEMORY:
      if (reply.text.find(';') == std::string::npos) text += Advice(request.verb);
      return {kExitOutOfMemory, text};
    case GPUROOM_INVALID_ARGUMENT:
    case GPUROOM_NOT_FOUND: return {kExitUsage, text};
    default: return {kExitFailed, text};
  }
}

}  // namespace gpuroom
