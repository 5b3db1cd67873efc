// LedgerLook: what the other processes hold of one of the ledger's accounts, for those who ask in loops. Any
// thread.
#pragma once

#include <atomic>

#include "base/clock.h"
#include "tier/ledger.h"

namespace gpuroom {

class LedgerLook {
 public:
  // `ledger` outlives this.
  LedgerLook(Ledger& ledger, Ledger::Account account) : ledger_(ledger), account_(account) {}

  // Bytes, up to 20 ms old; what dead processes held may be counted for some looks more. Reading the file
  // costs some 50 us.
  uint64_t Others() {
    const uint64_t now = CoarseNanoseconds();
    const uint64_t looked = looked_.load(std::memory_order_relaxed);
    if (now - looked > kMaxAge) {
      // The first look, and one that Refresh asks for, is exact.
      others_.store(looked == 0 ? ledger_.Others(account_) : ledger_.OthersInTurn(account_),
                    std::memory_order_relaxed);
      looked_.store(now, std::memory_order_relaxed);
    }
    return others_.load(std::memory_order_relaxed);
  }
  // Has the next Others() look again.
  void Refresh() { looked_.store(0, std::memory_order_relaxed); }

 private:
  static constexpr uint64_t kMaxAge = 20000000;  // nanoseconds

  Ledger& ledger_;
  const Ledger::Account account_;
  std::atomic<uint64_t> others_{0};
  std::atomic<uint64_t> looked_{0};  // when, in nanoseconds
};

}  // namespace gpuroom
