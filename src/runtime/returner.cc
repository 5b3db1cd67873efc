#include "runtime/returner.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <exception>

#include "base/blocked_signals.h"
#include "base/log.h"
#include "base/no_memory.h"
#include "runtime/displace.h"

namespace gpuroom {
namespace {

constexpr uint64_t kSlice = 512 * kMiB;  // some 10 ms of an H200's link
// Between two slices, so that threads that wait at the gate come through.
constexpr auto kPause = std::chrono::microseconds(500);
// When nothing may move now; doubles, since every try holds the program up. A GPU that always has
// much to do needs longer tries, which are a small part of the time.
constexpr auto kFirstRetry = std::chrono::nanoseconds(20000000);
constexpr auto kLongestRetry = 200 * kFirstRetry;
constexpr int kPartOfRetry = 8;

}  // namespace

void Returner::Start(Runtime& rt) {
  const std::lock_guard lock(mutex_);
  again_ = true;
  if (stop_ || running_) return;
  if (thread_.joinable()) thread_.join();  // it has ended
  const BlockedSignals blocked;
  try {
    thread_ = std::thread([this, &rt] { Run(rt); });
    running_ = true;
  } catch (const std::exception&) {
    Log(LogLevel::kWarn,
        "no thread could be started: memory that woke stays in host memory until it is moved");
  }
}

void Returner::Stop() {
  std::thread thread;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    thread.swap(thread_);
  }
  stopping_.notify_all();
  if (thread.joinable()) thread.join();
}

void Returner::Run(Runtime& rt) {
  pthread_setname_np(pthread_self(), "gpuroom-return");
  std::chrono::nanoseconds retry = kFirstRetry;
  std::unique_lock lock(mutex_);
  while (!stop_) {
    again_ = false;
    lock.unlock();
    const auto patience = static_cast<uint64_t>((retry / kPartOfRetry).count());
    Returned returned = Returned::kNotNow;  // also where the process has no memory for records
    (void)OrNoMemory([&] {
      returned = ReturnSlice(rt, kSlice, std::max(kShortPatience, patience));
      return Status();
    });
    lock.lock();
    if (returned == Returned::kNothing && !again_) break;
    if (returned == Returned::kSome) {
      retry = kFirstRetry;
      stopping_.wait_for(lock, kPause, [this] { return stop_; });
    } else if (returned == Returned::kNotNow) {
      stopping_.wait_for(lock, retry, [this] { return stop_; });
      retry = std::min(2 * retry, kLongestRetry);
    }
  }
  running_ = false;
}

}  // namespace gpuroom
