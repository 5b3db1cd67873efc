// ControlService: answers those who ask this process to sleep, to wake or how it is
// (docs/sleep.md). One thread serves all connections and waits for none of them;
// a sleep or wake runs on a second one, which lives as long as there are some to
// do. So a status is answered while a sleep is in progress, with what was known
// before. The core's calls are made one at a time.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "sleep/control_message.h"
#include "sleep/control_socket.h"

namespace gpuroom {

// What is asked of the core; the functions of gpuroom/sleep.h.
struct ControlCalls {
  int (*sleep)(const gpuroom_sleep_request*, size_t, gpuroom_sleep_report*, size_t) = nullptr;
  int (*wake)(const char* const*, size_t, int, gpuroom_sleep_report*, size_t) = nullptr;
  int (*states)(gpuroom_tag_state*, size_t, size_t*, size_t) = nullptr;
  const char* (*last_error)() = nullptr;
  // Makes no driver call, so it may be called at any time. False: there is none. May be null.
  bool (*stats)(ProcessStats*) = nullptr;
  // Gives all memory with these tags the hint (gpuroom_hint); no tags: all memory. *ranges: how much had it.
  // May be null.
  int (*hint)(const char* const* tags, size_t count, int hint, uint64_t* ranges) = nullptr;
};

// The name of our threads, by which the command tells a process that closed our socket and is about to make
// it again from one that has started another program in its place.
inline constexpr char kControlThread[] = "gpuroom-ctl";

class ControlService : public std::enable_shared_from_this<ControlService> {
 public:
  ControlService(const ControlCalls& calls, std::string directory)
      : calls_(calls), directory_(std::move(directory)) {}
  ControlService(const ControlService&) = delete;
  ControlService& operator=(const ControlService&) = delete;

  // Makes the socket and starts the thread. Once.
  Status Start();
  // Takes the socket's name away and keeps our threads out of the core from now on; waits
  // for a call that is in progress, `milliseconds` at most. False: it still is.
  bool Stop(int milliseconds);
  // Whether all our threads have ended. After Stop they do soon, but where the program closed the
  // socket's descriptor.
  bool Ended() const { return threads_.load() == 0; }

 private:
  struct Connection {
    OwnDescriptor socket;
    std::string in;
    std::string out;  // not sent yet
    uint64_t deadline = 0;
    bool over = false;
  };
  struct Job {
    OwnDescriptor socket;
    ControlRequest request;
  };

  // The serving thread's.
  void Serve();
  void WaitForEvents();
  bool KeepSocket();
  void AcceptAll();
  void DropOldest();
  void Attend(Connection& connection, bool ready, uint64_t now);
  bool Read(Connection& connection);
  bool Write(Connection& connection);
  void Handle(Connection& connection);
  std::string StatusReply();
  // False: `out` says why not. True: the connection is the worker's.
  Status Enqueue(Connection& connection, ControlRequest request);

  // The worker's.
  void Work();
  bool NextJob(Job* job);
  std::string Perform(const ControlRequest& request);
  int Call(const ControlRequest& request, gpuroom_sleep_report* report);
  int Sleep(const ControlRequest& request, gpuroom_sleep_report* report);
  int Wake(const ControlRequest& request, gpuroom_sleep_report* report);
  int SetHint(const ControlRequest& request, gpuroom_sleep_report* report);

  // The states of all tags into the snapshot; the last error's text where that fails.
  int TakeSnapshot() GPUROOM_REQUIRES(core_);

  const ControlCalls calls_;
  const std::string directory_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> threads_{0};
  // The serving thread's alone.
  std::vector<Connection> connections_;
  uint64_t accept_after_ = 0;  // 0: now

  Mutex core_;  // held while the core is called
  Mutex mutex_;
  ControlSocket socket_ GPUROOM_GUARDED_BY(mutex_);
  std::deque<Job> jobs_ GPUROOM_GUARDED_BY(mutex_);
  std::vector<gpuroom_tag_state> snapshot_ GPUROOM_GUARDED_BY(mutex_);
  const char* doing_ GPUROOM_GUARDED_BY(mutex_) = "nothing";
  bool working_ GPUROOM_GUARDED_BY(mutex_) = false;
};

}  // namespace gpuroom
