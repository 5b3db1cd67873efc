#include "cli/control_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "cli/control_exchange.h"

namespace gpuroom {
namespace {

constexpr uint64_t kNotice = 1000 * kMillisecond;
// How often a process that takes its time is asked whether it lives, and how long it has for that answer.
constexpr uint64_t kPulse = 5000 * kMillisecond;

// What helps against lack of memory, where the library's own sentence does not say.
const char* Advice(ControlRequest::Verb verb) {
  return verb == ControlRequest::Verb::kSleep ? "; give --disk DIR, or --drop-tag for what can be made again"
                                              : "; free memory of the GPU, or wake less with --tag";
}

// What a process's refusal is to the command: an exit status, and its sentence with what to do.
Failure FailureOf(pid_t pid, ControlRequest::Verb verb, const ControlReply& reply) {
  if (reply.result == GPUROOM_OK) return {};
  if (reply.ending) return Ended(pid);
  std::string text =
      fmt::format("process {}: {}", pid, reply.text.empty() ? "it gave no reason" : reply.text);
  switch (reply.result) {
    case GPUROOM_OUT_OF_MEMORY:
      if (reply.text.find(';') == std::string::npos) text += Advice(verb);
      return {kExitOutOfMemory, text};
    case GPUROOM_INVALID_ARGUMENT:
    case GPUROOM_NOT_FOUND: return {kExitUsage, text};
    default: return {kExitFailed, text};
  }
}

Answer ReadAnswer(pid_t pid, ControlRequest::Verb verb, const Exchange& exchange) {
  Answer answer;
  answer.failure = exchange.failure();
  if (answer.failure.failed()) return answer;
  Result<ControlReply> reply = ParseReply(exchange.answer());
  if (reply.ok()) {
    answer.reply = std::move(*reply);
    answer.failure = FailureOf(pid, verb, answer.reply);
  } else if (reply.status().code() == Code::kNotFound) {
    answer.failure = Ended(pid);
  } else {
    answer.failure = {
        kExitFailed,
        fmt::format("process {} runs another version of gpuroom's library ({}); use the 'gpuroom' "
                    "command that it was started with",
                    pid, reply.status().what())};
  }
  return answer;
}

// One process that is asked: its exchange, and beside that, where it may take its time, another one now and
// then that asks whether it still answers at all.
class Peer {
 public:
  Peer(const ControlTarget& target, const ControlRequest& request, uint64_t now, int patience)
      : target_(target),
        exchange_(target, FormatRequest(request),
                  patience < 0 ? 0 : now + static_cast<uint64_t>(patience) * kMillisecond),
        notice_(now + kNotice),
        next_pulse_(patience < 0 ? now + kNotice : 0) {}

  void Advance(uint64_t now) {
    exchange_.Advance(now);
    if (!exchange_.over() && next_pulse_ != 0) AdvancePulse(now);
  }

  bool over() const { return exchange_.over() || lost_; }
  Answer Take(ControlRequest::Verb verb) const {
    return lost_ ? Answer{{}, NoAnswer(target_.pid)} : ReadAnswer(target_.pid, verb, exchange_);
  }

  // True once, when it has taken longer than a second.
  bool NoticeIsDue(uint64_t now) {
    const bool due = notice_ != 0 && now >= notice_;
    if (due) notice_ = 0;
    return due;
  }

  // Adds what it waits for, and moves `next` to the time when it is due, if that is earlier.
  void Wait(std::vector<pollfd>* events, uint64_t* next) const {
    events->push_back(exchange_.Event());
    if (pulse_) events->push_back(pulse_->Event());
    for (const uint64_t time : {exchange_.NextTime(), pulse_ ? pulse_->NextTime() : next_pulse_, notice_}) {
      if (time != 0) *next = std::min(*next, time);
    }
  }

 private:
  void AdvancePulse(uint64_t now) {
    if (!pulse_ && now < next_pulse_) return;
    if (!pulse_) pulse_.emplace(target_, FormatRequest(ControlRequest()), now + kPulse);
    pulse_->Advance(now);
    if (!pulse_->over()) return;
    // That its name is gone, say, says nothing of the process: the exchange itself will tell.
    lost_ = pulse_->unheard();
    pulse_.reset();
    next_pulse_ = now + kPulse;
  }

  const ControlTarget& target_;
  Exchange exchange_;
  std::optional<Exchange> pulse_;
  uint64_t notice_;      // 0: it was given
  uint64_t next_pulse_;  // 0: never
  bool lost_ = false;    // the process does not answer any more
};

// A descriptor or two for each process that is asked.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void WaitForAny(const std::vector<std::unique_ptr<Peer>>& peers, uint64_t now) {
  std::vector<pollfd> events;
  uint64_t next = UINT64_MAX;
  for (const std::unique_ptr<Peer>& peer : peers) {
    if (peer) peer->Wait(&events, &next);
  }
  int milliseconds = -1;
  if (next != UINT64_MAX) milliseconds = next <= now ? 0 : static_cast<int>((next - now) / kMillisecond + 1);
  poll(events.data(), events.size(), milliseconds);
}

}  // namespace

void AskAll(const std::vector<ControlTarget>& targets, const ControlRequest& request,
            const AskOptions& options) {
  RaiseDescriptorLimit();
  std::vector<std::unique_ptr<Peer>> peers;
  peers.reserve(targets.size());
  const uint64_t start = NowNanoseconds();
  for (const ControlTarget& target : targets)
    peers.push_back(std::make_unique<Peer>(target, request, start, options.patience));
  for (size_t left = peers.size(); left > 0;) {
    for (size_t i = 0; i < peers.size(); ++i) {
      if (!peers[i]) continue;
      const uint64_t now = NowNanoseconds();
      peers[i]->Advance(now);
      if (peers[i]->over()) {
        options.answered(i, peers[i]->Take(request.verb));
        peers[i] = nullptr;
        --left;
      } else if (peers[i]->NoticeIsDue(now)) {
        options.waiting(i);
      }
    }
    if (left > 0) WaitForAny(peers, NowNanoseconds());
  }
}

}  // namespace gpuroom
