#include "cli/control_exchange.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sleep/control_line.h"
#include "sleep/control_socket.h"

namespace gpuroom {
namespace {

constexpr uint64_t kTryPause = 50'000'000;   // nanoseconds
constexpr uint64_t kTryFor = 5'000'000'000;  // nanoseconds

}  // namespace

Failure NoAnswer(pid_t pid) {
  return {kExitFailed,
          fmt::format("process {} does not answer; ask again, or look whether it is stopped", pid)};
}

Failure Ended(pid_t pid) {
  return {kExitNoProcess,
          fmt::format("process {} ended before it answered; 'gpuroom ps' lists those that are there", pid)};
}

Failure Exchange::Gone() const { return met_ ? Ended(target_.pid) : NobodyAnswers(target_.pid); }

void Exchange::Advance(uint64_t now) {
  if (step_ == Step::kConnect && now >= next_try_) Connect(now);
  if (step_ == Step::kSend) Send(now);
  if (step_ == Step::kReceive) Receive(now);
  if (!over() && deadline_ != 0 && now >= deadline_) {
    unheard_ = there_;
    End(NoAnswer(target_.pid));
  }
}

pollfd Exchange::Event() const {
  if (step_ == Step::kConnect) return {-1, 0, 0};
  return {socket_->fd, static_cast<short>(step_ == Step::kSend ? POLLOUT : POLLIN), 0};
}

uint64_t Exchange::NextTime() const {
  if (step_ != Step::kConnect) return deadline_;
  return deadline_ == 0 ? next_try_ : std::min(next_try_, deadline_);
}

void Exchange::Connect(uint64_t now) {
  sockaddr_un address{};
  if (!SocketAddress(target_.path, &address))
    return End({kExitFailed, fmt::format("process {} cannot be reached: its socket's path is too long; set "
                                         "GPUROOM_CONTROL_DIR to a shorter one",
                                         target_.pid)});
  socket_ = std::make_unique<Descriptor>(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket_->fd < 0) return TryAgain(now);  // as soon as others are over
  if (connect(socket_->fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    there_ = errno == EAGAIN;
    switch (errno) {
      case EAGAIN:  // its queue is full
      case EINTR: return TryAgain(now);
      case ENOENT:
      case ECONNREFUSED: return MayListen(target_.pid) ? TryAgain(now) : End(Gone());
      case EACCES:
      case EPERM:
        return End({kExitNotPermitted,
                    fmt::format("process {} is another user's; ask as that user or as root", target_.pid)});
      default:
        return End({kExitFailed, fmt::format("process {} cannot be reached: {}; see 'gpuroom ps'",
                                             target_.pid, std::strerror(errno))});
    }
  }
  const Failure stranger = CheckListener(socket_->fd, target_);
  if (stranger.failed()) return End(stranger);
  there_ = met_ = true;
  sent_ = 0;
  step_ = Step::kSend;
}

void Exchange::Send(uint64_t now) {
  while (sent_ < request_.size()) {
    const ssize_t sent =
        send(socket_->fd, request_.data() + sent_, request_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno == EAGAIN ? void() : TryAgain(now);
    sent_ += static_cast<size_t>(sent);
  }
  step_ = Step::kReceive;
}

void Exchange::Receive(uint64_t now) {
  char part[16384];
  while (answer_.size() < kLongestReply) {
    const ssize_t got = recv(socket_->fd, part, sizeof part, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0 && answer_.empty()) return TryAgain(now);
    if (got <= 0) break;
    answer_.append(part, static_cast<size_t>(got));
  }
  End({});
}

void Exchange::TryAgain(uint64_t now) {
  socket_ = nullptr;
  step_ = Step::kConnect;
  if (give_up_ == 0) give_up_ = now + kTryFor;
  next_try_ = now + kTryPause;
  if (now < give_up_) return;
  unheard_ = there_;
  End(NoAnswer(target_.pid));
}

void Exchange::End(Failure failure) {
  failure_ = std::move(failure);
  step_ = Step::kOver;
}

}  // namespace gpuroom
