#include "sleep/control_service.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/clock.h"
#include "base/detached_thread.h"
#include "base/log.h"
#include "base/undo.h"
#include "sleep/control_line.h"

namespace gpuroom {
namespace {

// For a client's whole request, and then for taking the answer.
constexpr uint64_t kPatience = 5000 * kMillisecond;
// How long accepting rests when no descriptor is free.
constexpr uint64_t kAcceptPause = 100 * kMillisecond;
constexpr size_t kMostConnections = 16;
// For a new socket in the place of one that the program closed.
constexpr int kKeepTries = 10;
constexpr int kKeepPause = 10;  // milliseconds

std::string RefusalText(int result, const char* text) {
  ControlReply reply;
  reply.result = result;
  reply.text = text;
  return FormatReply(reply);
}

int ResultOf(const Status& status) {
  switch (status.code()) {
    case Code::kInvalidArgument: return GPUROOM_INVALID_ARGUMENT;
    case Code::kUnsupported: return GPUROOM_UNSUPPORTED;
    case Code::kBusy: return GPUROOM_BUSY;
    default: return GPUROOM_FAILED;
  }
}

int MillisecondsUntil(uint64_t deadline) {
  const uint64_t now = NowNanoseconds();
  return deadline <= now ? 0 : static_cast<int>((deadline - now) / kMillisecond + 1);
}

}  // namespace

Status ControlService::Start() {
  Result<ControlSocket> socket = ControlSocket::Listen(directory_);
  if (!socket.ok()) return socket.status();
  {
    MutexLock lock(mutex_);
    socket_ = std::move(*socket);
  }
  threads_.fetch_add(1);
  const Status status = StartDetached(kControlThread, [self = shared_from_this()] {
    self->Serve();
    self->threads_.fetch_sub(1);
  });
  if (status.ok()) return status;
  threads_.fetch_sub(1);
  Stop(0);
  return status;
}

bool ControlService::Stop(int milliseconds) {
  stopping_.store(true);
  {
    MutexLock lock(mutex_);
    socket_.Remove();
  }
  for (;;) {
    if (core_.TryLock()) {
      core_.Unlock();
      return true;
    }
    if (--milliseconds < 0) return false;
    poll(nullptr, 0, 1);
  }
}

void ControlService::Serve() {
  while (!stopping_.load()) {
    WaitForEvents();
    if (stopping_.load() || !KeepSocket()) break;
    AcceptAll();
  }
  connections_.clear();
}

void ControlService::WaitForEvents() {
  std::vector<pollfd> polls;
  uint64_t first = accept_after_;
  {
    MutexLock lock(mutex_);
    polls.push_back({socket_.fd(), static_cast<short>(accept_after_ == 0 ? POLLIN : 0), 0});
  }
  for (const Connection& connection : connections_) {
    const short events = connection.out.empty() ? POLLIN : POLLOUT;
    polls.push_back({connection.socket.fd(), events, 0});
    first = first == 0 ? connection.deadline : std::min(first, connection.deadline);
  }
  if (poll(polls.data(), polls.size(), first == 0 ? -1 : MillisecondsUntil(first)) < 0) return;
  const uint64_t now = NowNanoseconds();
  for (size_t i = 0; i < connections_.size(); ++i) Attend(connections_[i], polls[i + 1].revents != 0, now);
  const auto over = [](const Connection& connection) { return connection.over; };
  connections_.erase(std::remove_if(connections_.begin(), connections_.end(), over), connections_.end());
  if (now >= accept_after_) accept_after_ = 0;
}

// Programs that turn themselves into daemons close all descriptors, ours among them: then
// there is a new one under the same name.
bool ControlService::KeepSocket() {
  MutexLock lock(mutex_);
  if (stopping_.load() || socket_.Intact()) return true;
  Status failed;
  // A program that is still at it closes the new one as well.
  for (int tries = 0; tries < kKeepTries; ++tries) {
    if (tries > 0) poll(nullptr, 0, kKeepPause);
    Result<ControlSocket> fresh = ControlSocket::Listen(directory_);
    failed = fresh.status();
    if (!failed.ok()) continue;
    socket_ = std::move(*fresh);
    return true;
  }
  Log(LogLevel::kWarn,
      "the program closed a descriptor of gpuroom's and 'gpuroom sleep' cannot reach it any more: %s",
      failed.what());
  return false;
}

// Those that are served by then are read before the next are taken, however many come.
void ControlService::AcceptAll() {
  for (size_t taken = 0; accept_after_ == 0 && taken < kMostConnections; ++taken) {
    Result<OwnDescriptor> socket = [&] {
      MutexLock lock(mutex_);
      return socket_.Accept();
    }();
    if (socket.ok()) {
      if (connections_.size() == kMostConnections) DropOldest();
      Connection connection;
      connection.socket = std::move(*socket);
      connection.deadline = NowNanoseconds() + kPatience;
      connections_.push_back(std::move(connection));
      continue;
    }
    if (socket.status().code() == Code::kInvalidArgument) {
      Log(LogLevel::kWarn, "a request to sleep or wake was refused: %s", socket.status().what());
      continue;
    }
    // No descriptor is free: who waits will have an answer, if late.
    if (socket.status().code() == Code::kSystem) accept_after_ = NowNanoseconds() + kAcceptPause;
    return;
  }
}

// Makes room for a new client: who means to ask has asked by now, and a silent one keeps nobody waiting.
void ControlService::DropOldest() {
  const auto silent = [](const Connection& connection) { return connection.out.empty(); };
  const auto oldest = std::find_if(connections_.begin(), connections_.end(), silent);
  connections_.erase(oldest != connections_.end() ? oldest : connections_.begin());
}

void ControlService::Attend(Connection& connection, bool ready, uint64_t now) {
  if (ready && connection.socket.Intact()) {
    connection.over = connection.out.empty() ? !Read(connection) : !Write(connection);
  }
  connection.over = connection.over || now >= connection.deadline || !connection.socket.Intact();
}

// False: the connection is over.
bool ControlService::Read(Connection& connection) {
  char text[4096];
  for (;;) {
    const ssize_t got = recv(connection.socket.fd(), text, sizeof text, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return false;
    connection.in.append(text, static_cast<size_t>(got));
    if (connection.in.find('\n') != std::string::npos) break;
    if (connection.in.size() > kLongestRequest) break;
  }
  Handle(connection);
  return !connection.over && Write(connection);
}

// False: the connection is over, all being sent or nobody there.
bool ControlService::Write(Connection& connection) {
  while (!connection.out.empty()) {
    const ssize_t sent = send(connection.socket.fd(), connection.out.data(), connection.out.size(),
                              MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno == EAGAIN;
    connection.out.erase(0, static_cast<size_t>(sent));
  }
  return false;
}

void ControlService::Handle(Connection& connection) {
  connection.deadline = NowNanoseconds() + kPatience;
  const size_t newline = connection.in.find('\n');
  if (newline == std::string::npos) {
    connection.out = RefusalText(GPUROOM_INVALID_ARGUMENT, "the request is too long");
    return;
  }
  Result<ControlRequest> request = ParseRequest(std::string_view(connection.in).substr(0, newline));
  Status status = request.status();
  if (request.ok() && request->verb == ControlRequest::Verb::kStatus) {
    connection.out = StatusReply();
    return;
  }
  if (request.ok()) status = Enqueue(connection, std::move(*request));
  connection.over = status.ok();
  if (!status.ok()) connection.out = RefusalText(ResultOf(status), status.what());
}

std::string ControlService::StatusReply() {
  ControlReply reply;
  const bool free = core_.TryLock();
  if (free) {
    // Not once the program ends: then the driver may be ending, too.
    if (!stopping_.load()) reply.result = TakeSnapshot();
    if (reply.result != GPUROOM_OK) reply.text = calls_.last_error();
    core_.Unlock();
  }
  ProcessStats stats;
  if (calls_.stats != nullptr && calls_.stats(&stats)) reply.stats = std::move(stats);
  MutexLock lock(mutex_);
  reply.fresh = free;
  reply.version = GPUROOM_VERSION;
  reply.doing = doing_;
  reply.tags = snapshot_;
  return FormatReply(reply);
}

Status ControlService::Enqueue(Connection& connection, ControlRequest request) {
  MutexLock lock(mutex_);
  if (jobs_.size() >= kMostConnections)
    return Status(Code::kBusy, "too many requests wait already; ask again later");
  if (!working_) {
    threads_.fetch_add(1);
    const Status status = StartDetached(kControlThread, [self = shared_from_this()] {
      self->Work();
      self->threads_.fetch_sub(1);
    });
    if (!status.ok()) {
      threads_.fetch_sub(1);
      return status;
    }
    working_ = true;
  }
  jobs_.push_back({std::move(connection.socket), std::move(request)});
  return Status();
}

}  // namespace gpuroom
