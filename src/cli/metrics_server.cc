#include "cli/metrics_server.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "cli/http_message.h"

namespace gpuroom {
namespace {

// For a client's whole request, and then for taking the answer.
constexpr uint64_t kPatience = 10'000 * kMillisecond;
// How long accepting rests when no descriptor is free.
constexpr uint64_t kAcceptPause = 100 * kMillisecond;
// A page serves all who ask within so long, or clients could keep the processes busy with answering.
constexpr uint64_t kFresh = 20 * kMillisecond;
constexpr size_t kMostConnections = 16;

constexpr char kPlain[] = "text/plain; charset=utf-8";
constexpr char kMetrics[] = "text/plain; version=0.0.4; charset=utf-8";  // Prometheus' text format

std::shared_ptr<const std::string> PageOf(std::string text) {
  return std::make_shared<const std::string>(std::move(text));
}

Failure CannotListen(const ListenAddress& address, int error) {
  return {kExitFailed,
          fmt::format("{} cannot be listened on: {}; choose another address or port with --listen",
                      address.text, std::strerror(error))};
}

// Milliseconds for poll(): it must not return before the time.
int MillisecondsUntil(uint64_t time) {
  const uint64_t now = NowNanoseconds();
  return time <= now ? 0 : static_cast<int>((time - now) / kMillisecond + 1);
}

}  // namespace

Failure MetricsServer::Listen(const ListenAddress& address) {
  const auto* where = reinterpret_cast<const sockaddr*>(&address.storage);
  listener_ =
      std::make_unique<Descriptor>(socket(where->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (listener_->fd < 0) return CannotListen(address, errno);
  const int yes = 1;  // connections of an earlier exporter do not keep the port
  setsockopt(listener_->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener_->fd, where, address.length) != 0) return CannotListen(address, errno);
  return listen(listener_->fd, SOMAXCONN) == 0 ? Failure{} : CannotListen(address, errno);
}

std::string MetricsServer::Url() const {
  return fmt::format("http://{}/metrics", ListeningAt(listener_->fd));
}

void MetricsServer::Serve() {
  std::vector<pollfd> events;
  for (;;) {
    Wait(&events);
    for (size_t i = 0; i < connections_.size(); ++i) {
      if (events[i + 1].revents != 0) Attend(connections_[i]);
    }
    RemoveOver(NowNanoseconds());
    if (events[0].revents != 0) AcceptAll(NowNanoseconds());
    AnswerWaiting();
  }
}

// For something to do: afterwards `events` has the listener, then each connection.
void MetricsServer::Wait(std::vector<pollfd>* events) {
  if (NowNanoseconds() >= accept_after_) accept_after_ = 0;
  uint64_t first = accept_after_ == 0 ? UINT64_MAX : accept_after_;
  events->assign(1, {accept_after_ == 0 ? listener_->fd : -1, POLLIN, 0});
  for (const Connection& connection : connections_) {
    const short event = connection.step == Step::kSending ? POLLOUT : POLLIN;
    events->push_back({connection.socket->fd, event, 0});
    first = std::min(first, connection.deadline);
  }
  const int timeout = first == UINT64_MAX ? -1 : MillisecondsUntil(first);
  if (poll(events->data(), events->size(), timeout) >= 0) return;
  for (pollfd& event : *events) event.revents = 0;
}

void MetricsServer::AcceptAll(uint64_t now) {
  for (size_t taken = 0; taken < kMostConnections; ++taken) {
    const int fd = accept4(listener_->fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      if (connections_.size() == kMostConnections) MakeRoom();
      connections_.emplace_back(fd, now + kPatience);
      Attend(connections_.back());  // its request may have come with it
      continue;
    }
    const bool full = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    if (full) accept_after_ = now + kAcceptPause;
    if (full || errno == EAGAIN) return;
  }
}

// The oldest goes that has not sent its request, or has its answer: who means to ask has asked by then. Where
// there is none, the oldest of all.
void MetricsServer::MakeRoom() {
  const auto idle = [](const Connection& connection) {
    return connection.step == Step::kReading || connection.step == Step::kDraining;
  };
  const auto oldest = std::find_if(connections_.begin(), connections_.end(), idle);
  connections_.erase(oldest != connections_.end() ? oldest : connections_.begin());
}

void MetricsServer::Attend(Connection& connection) {
  if (connection.step == Step::kReading) Read(connection);
  if (connection.step == Step::kSending) Send(connection);
  if (connection.step == Step::kDraining) Drain(connection);
}

void MetricsServer::Read(Connection& connection) {
  char text[4096];
  while (connection.step == Step::kReading) {
    const ssize_t got = recv(connection.socket->fd, text, sizeof text, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      connection.step = Step::kOver;
      return;
    }
    connection.request.append(text, static_cast<size_t>(got));
    Take(connection);
  }
}

// Answers the request where it has come as a whole, or is more than a request may be.
void MetricsServer::Take(Connection& connection) {
  const auto refuse = [&](int status) {
    Answer(connection, status, kPlain, PageOf(fmt::format("{}\n", HttpReason(status))));
  };
  const std::string_view text(connection.request);
  if (!IsWholeHttpRequest(text.substr(0, kLongestHttpRequest))) {
    if (text.size() >= kLongestHttpRequest) refuse(431);
    return;
  }
  const HttpRequest request = ParseHttpRequest(text);
  connection.body = request.body;
  if (request.status != 200) return refuse(request.status);
  if (request.path == "/metrics") {
    connection.step = Step::kWaiting;
  } else if (request.path == "/") {
    Answer(connection, 200, kPlain, PageOf("gpuroom exporter: the metrics are at /metrics\n"));
  } else {
    refuse(404);
  }
}

void MetricsServer::Answer(Connection& connection, int status, std::string_view type, Page page) {
  connection.head = HttpAnswerHead(status, type, page->size());
  connection.page = connection.body ? std::move(page) : PageOf("");
  connection.step = Step::kSending;
  connection.deadline = NowNanoseconds() + kPatience;
}

void MetricsServer::Send(Connection& connection) {
  const std::string& head = connection.head;
  const std::string& page = *connection.page;
  while (connection.sent < head.size() + page.size()) {
    const bool first = connection.sent < head.size();
    const std::string_view left = first ? std::string_view(head).substr(connection.sent)
                                        : std::string_view(page).substr(connection.sent - head.size());
    const ssize_t sent = send(connection.socket->fd, left.data(), left.size(),
                              MSG_NOSIGNAL | MSG_DONTWAIT | (first ? MSG_MORE : 0));
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) {
      connection.step = Step::kOver;
      return;
    }
    connection.sent += static_cast<size_t>(sent);
  }
  shutdown(connection.socket->fd, SHUT_WR);
  connection.page = nullptr;
  connection.step = Step::kDraining;
}

// One part at a time, so that a client that sends without end keeps nobody else waiting.
void MetricsServer::Drain(Connection& connection) {
  char text[4096];
  const ssize_t got = recv(connection.socket->fd, text, sizeof text, MSG_DONTWAIT);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) connection.step = Step::kOver;
}

void MetricsServer::AnswerWaiting() {
  const auto waiting = [](const Connection& connection) { return connection.step == Step::kWaiting; };
  if (std::none_of(connections_.begin(), connections_.end(), waiting)) return;
  if (!page_ || NowNanoseconds() - page_time_ > kFresh) {
    page_ = PageOf(text_());
    page_time_ = NowNanoseconds();
  }
  for (Connection& connection : connections_) {
    if (!waiting(connection)) continue;
    Answer(connection, 200, kMetrics, page_);
    Attend(connection);
  }
}

void MetricsServer::RemoveOver(uint64_t now) {
  const auto over = [now](const Connection& connection) {
    return connection.step == Step::kOver || now >= connection.deadline;
  };
  connections_.erase(std::remove_if(connections_.begin(), connections_.end(), over), connections_.end());
}

}  // namespace gpuroom
