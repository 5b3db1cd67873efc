// Activity: what gpuroom has done in this process since its first use of a GPU, counted for those who ask
// (process_stats.h). A count is one relaxed addition, and only where memory moves, sleeps or is refused: the
// path of a request that is served has none of them. Any thread; nothing here allocates.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/mutex.h"
#include "base/status.h"

namespace gpuroom {

// How often something took how long.
struct TimeCounts {
  // Nanoseconds. Entry i of `counts` is of what took at most kBounds[i], and more than the bound before it;
  // the last is of all that took longer.
  static constexpr std::array<uint64_t, 8> kBounds = {
      100'000, 1'000'000, 10'000'000, 100'000'000, 500'000'000, 1'000'000'000, 5'000'000'000, 30'000'000'000};

  std::array<uint64_t, kBounds.size() + 1> counts{};
  uint64_t nanoseconds = 0;  // of all together

  bool operator==(const TimeCounts&) const = default;
};

class TimeHistogram {
 public:
  void Add(uint64_t nanoseconds) {
    size_t bucket = 0;
    while (bucket < TimeCounts::kBounds.size() && nanoseconds > TimeCounts::kBounds[bucket]) ++bucket;
    counts_[bucket].fetch_add(1, std::memory_order_relaxed);
    nanoseconds_.fetch_add(nanoseconds, std::memory_order_relaxed);
  }
  TimeCounts Read() const {
    TimeCounts now;
    for (size_t i = 0; i < counts_.size(); ++i) now.counts[i] = counts_[i].load(std::memory_order_relaxed);
    now.nanoseconds = nanoseconds_.load(std::memory_order_relaxed);
    return now;
  }

 private:
  std::array<std::atomic<uint64_t>, TimeCounts::kBounds.size() + 1> counts_{};
  std::atomic<uint64_t> nanoseconds_{0};
};

// A request for memory that was refused.
struct Refusal {
  Code code = Code::kOk;  // kOk: there was none
  const char* text = "";  // why, a literal
  int device = 0;
  uint64_t bytes = 0;  // asked for
};

class Refusals {
 public:
  static constexpr size_t kCodes = static_cast<size_t>(Code::kBusy) + 1;
  using Counts = std::array<uint64_t, kCodes>;  // by Code

  void Note(const Status& why, int device, uint64_t bytes) GPUROOM_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    ++counts_[static_cast<size_t>(why.code())];
    last_ = {why.code(), why.what(), device, bytes};
  }
  void Read(Counts* counts, Refusal* last) const GPUROOM_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    *counts = counts_;
    *last = last_;
  }

 private:
  mutable Mutex mutex_;
  Counts counts_ GPUROOM_GUARDED_BY(mutex_){};
  Refusal last_ GPUROOM_GUARDED_BY(mutex_);
};

struct Activity {
  TimeHistogram standstills;             // how long the program was held up, reached or not
  std::atomic<uint64_t> not_reached{0};  // of these, in vain
  TimeHistogram moves;                   // how long the batches took
  TimeHistogram sleeps;                  // those that were done
  TimeHistogram wakes;
  std::atomic<uint64_t> backed_up{0};  // bytes that sleeps copied to host memory and files
  std::atomic<uint64_t> restored{0};   // bytes that wakes copied back
  Refusals refusals;
};

}  // namespace gpuroom
