// Standstill: while one lives, nothing of this process runs on any GPU and nothing
// is submitted, so that memory may move. It is had within bounded time or not at
// all: work on one GPU may wait for what another thread has yet to submit (NCCL in one process).
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "base/status.h"

namespace gpuroom {

class Runtime;
struct Activity;

// Waits for GPUs on behalf of threads that cannot wait for ever. Its thread starts with the first
// use and is never joined; the object is never destroyed.
class Waiter {
 public:
  // Waits for all work of the process. kBusy if it takes longer than `timeout` nanoseconds, counted
  // from the beginning of an earlier wait if one has not come back yet; what was given up synchronises
  // nothing more, since that would break captures. One caller at a time.
  Status WaitForGpus(Runtime& rt, uint64_t timeout);

 private:
  void Serve();
  bool GivenUp();

  std::mutex mutex_;
  std::condition_variable changed_;
  Runtime* rt_ = nullptr;  // what the thread is to wait for; null: nothing
  std::chrono::steady_clock::time_point since_;
  bool given_up_ = false;  // nobody waits for it any more
  Status result_;
  bool started_ = false;
};

inline constexpr uint64_t kStandstillTimeout = 5000000000;  // nanoseconds
// For what may as well be later. Everybody waits while one is being reached.
inline constexpr uint64_t kShortPatience = 50000000;

// `timeout` is for threads and for GPUs each.
class Standstill {
 public:
  // From within a hook (its Entry); nothing that was known of mappings before holds afterwards.
  explicit Standstill(Runtime& rt, uint64_t timeout = kStandstillTimeout);
  Standstill(const Standstill&) = delete;
  Standstill& operator=(const Standstill&) = delete;

  // kBusy: a capture is in progress, or others did not come to rest in time.
  const Status& status() const { return status_; }

 private:
  Status Reach(Runtime& rt, uint64_t timeout);

  // Opens the gate again, also where Reach ends by an exception, and counts how long others were held up.
  struct Closing {
    explicit Closing(Activity& counted) : activity(counted) {}
    ~Closing();
    Activity& activity;
    uint64_t since = 0;  // clock's nanoseconds; 0: nobody was held up
    bool closed = false;
    bool reached = false;
  };

  Closing closing_;
  Status status_;
};

}  // namespace gpuroom
