// The node ledger: how the processes of one user on one machine share its memory: the
// host's, for which they have one budget, and that of each GPU. There is an account for each of
// these. Of each account each process holds a share, of the host's the bytes of the chunks that it
// has created; the sum of the live shares never passes the limit that they claim
// against. A process that dies, by kill -9 too, or that execs, gives its shares
// back by that alone, and nobody ever waits for it.
//
// It counts; it allocates nothing and knows no driver. A Claim costs some system
// calls (microseconds, where creating the chunk costs milliseconds), allocates
// nothing and waits at most 500 ms, and then only for a process that was stopped.
// Thread-safe. Several ledgers of one file in one process count separately.
// Processes in other containers share it if they see the same file.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "base/mutex.h"
#include "base/status.h"
#include "tier/ledger_file.h"

namespace gpuroom {

// Folders; "" for none. Fixed arrays, since opening a file again allocates nothing.
using LedgerSpares = std::array<std::array<char, 64>, 2>;

class Ledger {
 public:
  using Account = uint32_t;
  static constexpr Account kHost = 0;

  // `path` is absolute; a file that is not there is created, mode 0600, and stays.
  // On failure the text says what to do; the caller then warns and counts for
  // itself alone. kBusy: all slots taken, or another version uses the file.
  //
  // Where others may make `path` first, and so keep this user from using it, the
  // file is `ledger` in the first folder of `spares` that can be private (mode
  // 0700, made where it is missing). Once such a file is there it is used, whether or
  // not `path` has become usable: all processes have to count in the same one.
  static Result<std::unique_ptr<Ledger>> Open(const char* path, const LedgerSpares& spares = {});

  // GPUROOM_LEDGER, or else /dev/shm/gpuroom-<uid>.ledger with the spares
  // /run/user/<uid>/gpuroom and /tmp/gpuroom-<uid>.
  static Result<std::unique_ptr<Ledger>> OpenDefault();

  // Gives the shares back.
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // The account of a GPU's memory, the same for the same UUID. kUnsupported: the UUID is none; kBusy: the
  // ledger has no place for one more GPU, now or at all.
  Result<Account> AccountOf(const GpuUuid& uuid) GPUROOM_EXCLUDES(mutex_);

  // If the live shares and `bytes` are together at most `limit`, adds `bytes` to
  // this process's share; if not, kOutOfMemory, and nothing has changed. Any other
  // code: the ledger cannot be used now (its directory went away, the disk is
  // full, this is a forked child); nothing has changed either.
  Status Claim(uint64_t bytes, uint64_t limit, Account account = kHost) GPUROOM_EXCLUDES(mutex_);

  // Takes back at most what this process holds. Never fails, never waits for
  // another process.
  void Release(uint64_t bytes, Account account = kHost) GPUROOM_EXCLUDES(mutex_);

  // Sum of the other processes' live shares; 0 where the file cannot be read. If the lock could not be had
  // it may include, for a moment, a claim that is about to be refused.
  uint64_t Others(Account account = kHost) GPUROOM_EXCLUDES(mutex_);
  // The same for those who ask in loops: what a dead process held is left out as soon as its slot's turn has
  // come (LedgerFile::OthersInTurn). Costs some 50 us, however many processes there are.
  uint64_t OthersInTurn(Account account = kHost) GPUROOM_EXCLUDES(mutex_);

  // This process's share; 0 in a forked child that called ForgetAfterFork, or was refused.
  uint64_t Own(Account account = kHost) const;

  // For the child after fork(): the shares stay the parent's, the descriptor is
  // closed, and every later call does nothing (Claim: kUnsupported).
  // Async-signal-safe. A child that never calls it is refused by its pid.
  void ForgetAfterFork();

 private:
  Ledger();
  enum class Spare { kIfThere, kMake };

  // What this process holds of one memory. The account's number is its place in shares_, in the order in
  // which this process asked for accounts; its column is the file's.
  struct Share {
    GpuUuid uuid{};
    LedgerColumn column = kNoColumn;  // none: this process alone counts it
    std::atomic<uint64_t> bytes{0};   // written under mutex_; the file follows it
  };

  template <typename Look>
  uint64_t LookAtOthers(Account account, Look look) GPUROOM_EXCLUDES(mutex_);
  Status Attach() GPUROOM_REQUIRES(mutex_);
  Status OpenFile() GPUROOM_REQUIRES(mutex_);
  bool OpenSpare(Spare which) GPUROOM_REQUIRES(mutex_);
  Status PublishAll() GPUROOM_REQUIRES(mutex_);
  Status FindColumn(Share& share) GPUROOM_REQUIRES(mutex_);
  Status ClaimLocked(uint64_t bytes, uint64_t limit, Share& share) GPUROOM_REQUIRES(mutex_);
  bool Fits(const Share& share, uint64_t own, uint64_t limit, bool table_locked) GPUROOM_REQUIRES(mutex_);
  bool Mine();

  const pid_t pid_;
  std::atomic<bool> forgotten_{false};
  Mutex mutex_;
  std::array<Share, kLedgerGpus + 1> shares_;
  uint32_t accounts_ GPUROOM_GUARDED_BY(mutex_) = 1;  // of them, those in use
  LedgerFile file_ GPUROOM_GUARDED_BY(mutex_);
  char path_[4096];
  LedgerSpares spares_{};
};

}  // namespace gpuroom
