// The part of ControlService that calls the core.
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/clock.h"
#include "sleep/control_service.h"

namespace gpuroom {
namespace {

constexpr uint64_t kSendPatience = 5000000000;  // nanoseconds
constexpr char kEnding[] = "the process is ending";
constexpr char kNoHints[] = "hints from outside are not for this process";

// As `process doing=...` tells it; a hint is done at once.
const char* DoingName(ControlRequest::Verb verb) {
  if (verb == ControlRequest::Verb::kSleep) return "sleep";
  return verb == ControlRequest::Verb::kWake ? "wake" : "nothing";
}

// Valid as long as the request.
std::vector<const char*> TagsOf(const ControlRequest& request) {
  std::vector<const char*> tags;
  for (const std::string& tag : request.tags) tags.push_back(tag.c_str());
  return tags;
}

// The client may be gone: then nobody wants to know.
void SendAll(const OwnDescriptor& socket, std::string_view text) {
  const uint64_t deadline = NowNanoseconds() + kSendPatience;
  while (!text.empty() && socket.Intact() && NowNanoseconds() < deadline) {
    const ssize_t sent = send(socket.fd(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      text.remove_prefix(static_cast<size_t>(sent));
      continue;
    }
    if (errno != EAGAIN && errno != EINTR) return;
    pollfd wait{socket.fd(), POLLOUT, 0};
    poll(&wait, 1, 100);
  }
}

}  // namespace

void ControlService::Work() {
  for (Job job; NextJob(&job); job = Job()) SendAll(job.socket, Perform(job.request));
}

bool ControlService::NextJob(Job* job) {
  MutexLock lock(mutex_);
  working_ = !jobs_.empty();
  if (!working_) return false;
  *job = std::move(jobs_.front());
  jobs_.pop_front();
  return true;
}

std::string ControlService::Perform(const ControlRequest& request) {
  ControlReply reply;
  gpuroom_sleep_report report{};
  {
    MutexLock calls(core_);
    if (stopping_.load()) {
      reply.result = GPUROOM_FAILED;
      reply.text = kEnding;
      reply.ending = true;
      return FormatReply(reply);
    }
    (void)TakeSnapshot();  // for those who ask meanwhile
    {
      MutexLock lock(mutex_);
      doing_ = DoingName(request.verb);
    }
    reply.result = Call(request, &report);
    if (reply.result == GPUROOM_UNSUPPORTED && calls_.hint == nullptr) reply.text = kNoHints;
    if (reply.result != GPUROOM_OK && reply.text.empty()) reply.text = calls_.last_error();
    // What failed as the process ended failed for that.
    reply.ending = reply.result != GPUROOM_OK && stopping_.load();
    MutexLock lock(mutex_);
    doing_ = "nothing";
  }
  if (reply.result == GPUROOM_OK) reply.report = report;
  return FormatReply(reply);
}

int ControlService::Call(const ControlRequest& request, gpuroom_sleep_report* report) {
  switch (request.verb) {
    case ControlRequest::Verb::kSleep: return Sleep(request, report);
    case ControlRequest::Verb::kHint: return SetHint(request, report);
    default: return Wake(request, report);
  }
}

int ControlService::Sleep(const ControlRequest& request, gpuroom_sleep_report* report) {
  std::vector<gpuroom_tag_action> actions;
  for (const auto& [tag, action] : request.actions) actions.push_back({tag.c_str(), action});
  if (request.rest) actions.push_back({nullptr, *request.rest});
  gpuroom_sleep_request asked{};
  asked.tags = actions.empty() ? nullptr : actions.data();
  asked.tag_count = actions.size();
  asked.directory = request.directory.empty() ? nullptr : request.directory.c_str();
  asked.hold = request.hold;
  asked.verify = request.verify ? 1 : 0;
  return calls_.sleep(&asked, sizeof asked, report, sizeof *report);
}

int ControlService::Wake(const ControlRequest& request, gpuroom_sleep_report* report) {
  const std::vector<const char*> tags = TagsOf(request);
  return calls_.wake(tags.empty() ? nullptr : tags.data(), tags.size(), request.lazy ? 1 : 0, report,
                     sizeof *report);
}

int ControlService::SetHint(const ControlRequest& request, gpuroom_sleep_report* report) {
  if (calls_.hint == nullptr) return GPUROOM_UNSUPPORTED;
  const std::vector<const char*> tags = TagsOf(request);
  const int hint = static_cast<int>(request.hint.value_or(Hint::kNone));
  return calls_.hint(tags.empty() ? nullptr : tags.data(), tags.size(), hint, &report->ranges);
}

int ControlService::TakeSnapshot() {
  size_t count = 0;
  int result = calls_.states(nullptr, 0, &count, sizeof(gpuroom_tag_state));
  std::vector<gpuroom_tag_state> states(count);
  if (result == GPUROOM_OK) result = calls_.states(states.data(), states.size(), &count, sizeof states[0]);
  if (result != GPUROOM_OK) return result;
  if (count < states.size()) states.resize(count);  // and of tags that are new since, the next will tell
  MutexLock lock(mutex_);
  snapshot_ = std::move(states);
  return result;
}

}  // namespace gpuroom
