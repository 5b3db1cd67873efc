#include "tier/ledger.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <new>

#include "base/env.h"
#include "base/log.h"
#include "base/private_folder.h"

namespace gpuroom {

namespace {

// Whether what is wrong with the file is so for all processes of this user: another user made it first, or
// took the room that it needs. What this process alone lacks (descriptors, say) must not lead it to another
// file.
bool IsWrongForAll(const Status& status) {
  switch (status.code()) {
    case Code::kInvalidArgument:
    case Code::kNotFound: return true;
    case Code::kSystem: break;
    default: return false;
  }
  for (const int error : {EACCES, EPERM, EROFS, ENOSPC, EDQUOT}) {
    if (status.native() == error) return true;
  }
  return false;
}

}  // namespace

Ledger::Ledger() : pid_(getpid()) { shares_[kHost].column = kHostColumn; }

Result<std::unique_ptr<Ledger>> Ledger::Open(const char* path, const LedgerSpares& spares) {
  // Relative to what? Processes that share the file have working directories of their own.
  if (path[0] != '/') {
    return Status(Code::kInvalidArgument, "the ledger's path is not absolute; set GPUROOM_LEDGER to one");
  }
  if (std::strlen(path) >= sizeof path_) {
    return Status(Code::kInvalidArgument, "the ledger's path is too long; set GPUROOM_LEDGER to another");
  }
  std::unique_ptr<Ledger> ledger(new (std::nothrow) Ledger);
  if (ledger == nullptr) return Status(Code::kOutOfMemory, "no memory for the ledger");
  std::strcpy(ledger->path_, path);
  ledger->spares_ = spares;
  MutexLock lock(ledger->mutex_);
  const Status status = ledger->Attach();
  if (!status.ok()) return status;
  return ledger;
}

Result<std::unique_ptr<Ledger>> Ledger::OpenDefault() {
  const char* chosen = env::Find(env::kLedger);
  if (chosen != nullptr && chosen[0] != '\0') return Open(chosen);
  const auto user = static_cast<unsigned>(geteuid());
  char path[64];
  std::snprintf(path, sizeof path, "/dev/shm/gpuroom-%u.ledger", user);
  LedgerSpares spares{};
  std::snprintf(spares[0].data(), spares[0].size(), "/run/user/%u/gpuroom", user);
  std::snprintf(spares[1].data(), spares[1].size(), "/tmp/gpuroom-%u", user);
  return Open(path, spares);
}

Ledger::~Ledger() {
  if (!Mine()) return;
  MutexLock lock(mutex_);
  if (file_.Intact()) {
    // A write that fails here changes nothing: a free slot counts for nothing.
    for (const Share& share : shares_) {
      if (share.column != kNoColumn) static_cast<void>(file_.Publish(share.column, 0).ok());
    }
    file_.DropSlot();
  }
}

bool Ledger::Mine() {
  if (pid_ != getpid()) forgotten_.store(true, std::memory_order_relaxed);
  return !forgotten_.load(std::memory_order_relaxed);
}

// Makes file_ usable: at first, after the program closed our descriptor (a daemon
// that closes all it finds), and after the file was unlinked (systemd empties
// /dev/shm when a user logs out). The share moves with us.
Status Ledger::Attach() {
  if (file_.Intact()) return Status();
  const Status opened = OpenFile();
  if (!opened.ok()) return opened;
  return PublishAll();
}

// A GPU that the new file has no place for is counted by this process alone, until it claims again.
Status Ledger::PublishAll() {
  for (Account account = kHost; account < accounts_; ++account) {
    Share& share = shares_[account];
    const uint64_t own = share.bytes.load(std::memory_order_relaxed);
    if (account != kHost) share.column = kNoColumn;
    if (!FindColumn(share).ok()) continue;
    const Status published = own == 0 ? Status() : file_.Publish(share.column, own);
    if (!published.ok()) return published;
  }
  return Status();
}

Status Ledger::FindColumn(Share& share) {
  if (share.column != kNoColumn) return Status();
  const bool table_locked = file_.LockTable();
  const Result<LedgerColumn> column = file_.ColumnOf(share.uuid, table_locked);
  if (table_locked) file_.UnlockTable();
  if (column.ok()) share.column = *column;
  return column.ok() ? Status() : column.status();
}

Result<Ledger::Account> Ledger::AccountOf(const GpuUuid& uuid) {
  if (!Mine()) return Status(Code::kUnsupported, "the ledger belongs to the parent process");
  if (uuid == GpuUuid{}) return Status(Code::kUnsupported, "the driver gives the GPU no UUID");
  MutexLock lock(mutex_);
  for (Account account = 1; account < accounts_; ++account) {
    if (shares_[account].uuid == uuid) return account;
  }
  if (accounts_ == shares_.size()) return Status(Code::kBusy, "the ledger has no place for another GPU");
  const Status attached = Attach();
  if (!attached.ok()) return attached;
  Share& share = shares_[accounts_];
  share.uuid = uuid;
  const Status found = FindColumn(share);
  return found.ok() ? Result<Account>(accounts_++) : found;
}

Status Ledger::OpenFile() {
  if (OpenSpare(Spare::kIfThere)) return Status();
  const Status opened = file_.Open(path_);
  if (opened.ok() || !IsWrongForAll(opened) || !OpenSpare(Spare::kMake)) return opened;
  Log(LogLevel::kInfo, "%s: %s; the host budget is counted in a private folder", path_, opened.what());
  return Status();
}

bool Ledger::OpenSpare(Spare which) {
  for (const auto& folder : spares_) {
    char path[80];
    std::snprintf(path, sizeof path, "%s/ledger", folder.data());
    struct stat info {};
    const bool make = which == Spare::kMake;
    if (folder[0] == '\0' || (!make && lstat(path, &info) != 0)) continue;
    const FolderState state = make ? MakePrivateFolder(folder.data()) : StateOfFolder(folder.data());
    if (state == FolderState::kPrivate && file_.Open(path).ok()) return true;
  }
  return false;
}

Status Ledger::Claim(uint64_t bytes, uint64_t limit, Account account) {
  if (!Mine()) return Status(Code::kUnsupported, "the ledger belongs to the parent process");
  MutexLock lock(mutex_);
  Share& share = shares_[account];
  Status status = Attach();
  if (status.ok()) status = FindColumn(share);
  return status.ok() ? ClaimLocked(bytes, limit, share) : status;
}

// The new share is published before the others are read. So of two processes that
// claim at once, even without the table's lock, the later reader sees both: the
// limit holds whatever the lock does. The lock is there so that two claims of
// which one fits do not refuse each other.
Status Ledger::ClaimLocked(uint64_t bytes, uint64_t limit, Share& share) {
  const Status none_left(Code::kOutOfMemory, "the other processes of this machine hold what is missing");
  const uint64_t own = share.bytes.load(std::memory_order_relaxed);
  if (bytes > kMaxLedgerShare - own || own + bytes > limit) return none_left;
  const bool table_locked = file_.LockTable();
  Status status = file_.Publish(share.column, own + bytes);
  if (status.ok()) {
    __sync_synchronize();  // no read of another share may overtake the write
    if (!Fits(share, own + bytes, limit, table_locked)) status = none_left;
  }
  if (status.ok()) {
    share.bytes.store(own + bytes, std::memory_order_relaxed);
  } else if (!file_.Publish(share.column, own).ok()) {
    Log(LogLevel::kWarn, "the ledger shows more than this process holds until its next claim or release");
  }
  if (table_locked) file_.UnlockTable();
  return status;
}

// The cheap sums can only err upwards, so they may accept; a refusal is checked.
bool Ledger::Fits(const Share& share, uint64_t own, uint64_t limit, bool table_locked) {
  using Witness = LedgerFile::Witness;
  for (const Witness witness : {Witness::kWords, Witness::kLocks, Witness::kProcesses}) {
    if (file_.Others(share.column, witness, table_locked) <= limit - own) return true;
  }
  return false;
}

void Ledger::Release(uint64_t bytes, Account account) {
  if (!Mine()) return;
  MutexLock lock(mutex_);
  Share& share = shares_[account];
  uint64_t own = share.bytes.load(std::memory_order_relaxed);
  if (bytes > own) {
    Log(LogLevel::kError, "released %llu bytes of %llu in the ledger", static_cast<unsigned long long>(bytes),
        static_cast<unsigned long long>(own));
    bytes = own;
  }
  own -= bytes;
  share.bytes.store(own, std::memory_order_relaxed);
  // No table lock: this slot has one writer, and either value is right for a reader.
  if (share.column != kNoColumn && file_.Intact() && !file_.Publish(share.column, own).ok()) {
    Log(LogLevel::kWarn, "the ledger shows more than this process holds until its next claim or release");
  }
}

template <typename Look>
uint64_t Ledger::LookAtOthers(Account account, Look look) {
  if (!Mine()) return 0;
  MutexLock lock(mutex_);
  const Share& share = shares_[account];
  if (!Attach().ok() || share.column == kNoColumn) return 0;
  const bool table_locked = file_.LockTable();
  const uint64_t others = look(file_, share.column, table_locked);
  if (table_locked) file_.UnlockTable();
  return others;
}

uint64_t Ledger::Others(Account account) {
  return LookAtOthers(account, [](LedgerFile& file, LedgerColumn column, bool table_locked) {
    return file.Others(column, LedgerFile::Witness::kProcesses, table_locked);
  });
}

uint64_t Ledger::OthersInTurn(Account account) {
  return LookAtOthers(account, [](LedgerFile& file, LedgerColumn column, bool table_locked) {
    return file.OthersInTurn(column, table_locked);
  });
}

// Asked with every question about free memory, so it asks the kernel nothing. A child that was made behind
// the C library's back, and never calls ForgetAfterFork, reads its parent's share here, and has less free for
// it.
uint64_t Ledger::Own(Account account) const {
  return forgotten_.load(std::memory_order_relaxed) ? 0
                                                    : shares_[account].bytes.load(std::memory_order_relaxed);
}

void Ledger::ForgetAfterFork() GPUROOM_TSA(no_thread_safety_analysis) {
  forgotten_.store(true, std::memory_order_relaxed);
  // Without mutex_: a thread that does not exist here may have held it.
  file_.Close();
}

}  // namespace gpuroom
