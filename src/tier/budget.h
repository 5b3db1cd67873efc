// Budget: how many bytes of a tier this process may use and does use. Lock-free;
// any thread. A claim that does not fit changes nothing. What the node's other
// processes use is the ledger's business, not this class's.
//
// Of a tier that processes take turns on, the limit is what may ever be used and the grant what may be used
// now.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace gpuroom {

class Budget {
 public:
  static constexpr uint64_t kUnlimited = UINT64_MAX;

  explicit Budget(uint64_t limit) : limit_(limit) {}

  // Takes `bytes` if afterwards at least `keep` bytes stay free.
  bool Claim(uint64_t bytes, uint64_t keep = 0) {
    uint64_t used = used_.load(std::memory_order_relaxed);
    do {
      const uint64_t free = Below(now_limit(), used);
      if (bytes > free || keep > free - bytes) return false;
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    RaisePeak(used + bytes);
    return true;
  }
  void Release(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

  // Bytes that may be used now. What is in use stays so, also where that is more.
  void SetGrant(uint64_t bytes) { grant_.store(bytes, std::memory_order_relaxed); }
  uint64_t grant() const { return grant_.load(std::memory_order_relaxed); }

  uint64_t limit() const { return limit_; }
  bool limited() const { return limit_ != kUnlimited; }
  uint64_t used() const { return used_.load(std::memory_order_relaxed); }
  uint64_t peak() const { return peak_.load(std::memory_order_relaxed); }
  // What could be claimed now, and what could be with all of the limit granted.
  uint64_t free() const { return Below(now_limit(), used()); }
  uint64_t unused() const { return Below(limit_, used()); }

 private:
  static uint64_t Below(uint64_t limit, uint64_t used) { return limit > used ? limit - used : 0; }
  uint64_t now_limit() const { return std::min(limit_, grant()); }
  void RaisePeak(uint64_t value) {
    uint64_t peak = peak_.load(std::memory_order_relaxed);
    while (value > peak && !peak_.compare_exchange_weak(peak, value, std::memory_order_relaxed)) {
    }
  }

  const uint64_t limit_;
  std::atomic<uint64_t> grant_{kUnlimited};
  std::atomic<uint64_t> used_{0};
  std::atomic<uint64_t> peak_{0};
};

}  // namespace gpuroom
