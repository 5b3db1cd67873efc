// HbmAccount: tells the node's ledger how much of one GPU's memory this process uses, and says what the other
// processes use of it. It allows and refuses nothing: the driver has the last word on HBM. Any thread.
//
// The ledger is told in steps, so that most allocations do not touch it. It never shows less than what is
// used, nor over kStep more than that.
#pragma once

#include <atomic>
#include <memory>

#include "base/mutex.h"
#include "base/size.h"
#include "driver/driver.h"
#include "tier/budget.h"
#include "tier/ledger_look.h"

namespace gpuroom {

class HbmAccount {
 public:
  static constexpr uint64_t kStep = 64 * kMiB;

  // `used` is what this process uses of the device. It and the ledger outlive the account. Null where the
  // ledger cannot count the GPU; one line in the log says why.
  static std::unique_ptr<HbmAccount> Open(Ledger& ledger, const Driver& driver, CUdevice device,
                                          const Budget& used);
  // Takes back what it told.
  ~HbmAccount() { ledger_.Release(ledger_.Own(account_), account_); }
  HbmAccount(const HbmAccount&) = delete;
  HbmAccount& operator=(const HbmAccount&) = delete;

  // To be called after what is used has changed.
  void Follow() {
    const uint64_t used = used_.used();
    const uint64_t told = told_.load(std::memory_order_relaxed);
    if (used > told || told - used > kStep) Tell();
  }
  // From now on the ledger shows kStep at least: this process computes on the GPU.
  void MarkInUse();

  // Bytes that the other processes use, as LedgerLook sees them.
  uint64_t Others() { return look_.Others(); }
  // Bytes that all processes together leave.
  uint64_t Free();

 private:
  HbmAccount(Ledger& ledger, Ledger::Account account, uint64_t total, const Budget& used)
      : ledger_(ledger), account_(account), total_(total), used_(used), look_(ledger, account) {}
  uint64_t ToTell() const;
  void Tell() GPUROOM_EXCLUDES(mutex_);

  Ledger& ledger_;
  const Ledger::Account account_;
  const uint64_t total_;  // bytes that the GPU has
  const Budget& used_;
  LedgerLook look_;
  std::atomic<bool> in_use_{false};
  std::atomic<uint64_t> told_{0};  // bytes, written under mutex_
  Mutex mutex_;
};

}  // namespace gpuroom
