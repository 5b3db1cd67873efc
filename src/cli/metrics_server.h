// MetricsServer: the endpoint of `gpuroom exporter --listen` (docs/metrics.md). One thread serves all
// connections and waits for none of them; it stands still only while the processes are asked, which takes 1.5
// seconds at most. Whatever a client does costs it at most a connection of 16, 8 KiB for its request and a
// place in line for ten seconds; the page that is sent is one for all who wait for it.
#pragma once

#include <poll.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cli/descriptor.h"
#include "cli/listen_address.h"

namespace gpuroom {

class MetricsServer {
 public:
  // `text` makes the page /metrics anew.
  explicit MetricsServer(std::function<std::string()> text) : text_(std::move(text)) {}
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  // Once. kExitFailed: somebody else listens there, or the address is not this machine's.
  Failure Listen(const ListenAddress& address);
  // "http://127.0.0.1:9400/metrics"
  std::string Url() const;
  // Until a signal ends the process.
  [[noreturn]] void Serve();

 private:
  using Page = std::shared_ptr<const std::string>;
  enum class Step {
    kReading,   // its request
    kWaiting,   // for the page
    kSending,   // head, then page
    kDraining,  // all is sent; what it still sends is read away, or the kernel would take the answer back
    kOver
  };
  struct Connection {
    explicit Connection(int fd, uint64_t until) : socket(std::make_unique<Descriptor>(fd)), deadline(until) {}

    std::unique_ptr<Descriptor> socket;
    uint64_t deadline;  // nanoseconds of NowNanoseconds()
    Step step = Step::kReading;
    std::string request;  // what has come of it
    bool body = true;     // of the answer is wanted
    std::string head;
    Page page;
    size_t sent = 0;  // bytes of head and page together
  };

  void Wait(std::vector<pollfd>* events);
  void AcceptAll(uint64_t now);
  void MakeRoom();
  static void Attend(Connection& connection);
  static void Read(Connection& connection);
  static void Take(Connection& connection);
  static void Answer(Connection& connection, int status, std::string_view type, Page page);
  static void Send(Connection& connection);
  static void Drain(Connection& connection);
  void AnswerWaiting();
  void RemoveOver(uint64_t now);

  const std::function<std::string()> text_;
  std::unique_ptr<Descriptor> listener_;
  uint64_t accept_after_ = 0;  // 0: now
  std::vector<Connection> connections_;
  Page page_;  // the last one
  uint64_t page_time_ = 0;
};

}  // namespace gpuroom
