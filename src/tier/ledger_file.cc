#include "tier/ledger_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "base/write_signals.h"

namespace gpuroom {
namespace {

constexpr int kHighDescriptor = 512;
constexpr int64_t kWaitNs = 500'000'000;
constexpr int64_t kWaitStuckNs = 1'000'000;
constexpr int kTriesAtOnce = 4;  // a claim holds the lock for some microseconds

off_t ColumnOffset(LedgerColumn column) {
  return column == kHostColumn ? kLedgerWords : kLedgerBytes + (column - 1) * kLedgerColumnBytes;
}
off_t WordOffset(LedgerColumn column, uint32_t slot) {
  return ColumnOffset(column) + slot * off_t{sizeof(uint64_t)};
}
off_t OwnerOffset(uint32_t slot) { return kLedgerOwners + slot * off_t{sizeof(LedgerOwner)}; }

// Reads what is there; the rest of `out`, past the end of the file, becomes zeros.
void ReadOrZero(int fd, void* out, size_t size, off_t offset) {
  const ssize_t n = pread(fd, out, size, offset);
  const size_t got = n < 0 ? 0 : static_cast<size_t>(n);
  std::memset(static_cast<char*>(out) + got, 0, size - got);
}

bool WriteWhole(int fd, const void* data, size_t size, off_t offset) {
  const WriteSignalsBlocked blocked;
  return pwrite(fd, data, size, offset) == static_cast<ssize_t>(size);
}

// Away from the low numbers: a program with descriptor 1 closed would else print
// into the ledger, and one that reuses numbers by hand would hit it.
int MoveUp(int fd) {
  const int high = fcntl(fd, F_DUPFD_CLOEXEC, kHighDescriptor);
  const int moved = high >= 0 ? high : fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  close(fd);
  return moved;
}

Status OpenError(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return Status(Code::kNotFound,
                    "the ledger's directory does not exist; mount /dev/shm or set GPUROOM_LEDGER", error);
    case ELOOP: return Status(Code::kInvalidArgument, "the ledger is a symbolic link; remove it", error);
    case EISDIR:
      return Status(Code::kInvalidArgument, "the ledger's path is a directory; set GPUROOM_LEDGER", error);
    case EROFS:
      return Status(Code::kSystem,
                    "the ledger's file system is read-only; set GPUROOM_LEDGER to a path on another", error);
    case EACCES:
    case EPERM:
      return Status(Code::kSystem, "no permission to open the ledger; remove it or set GPUROOM_LEDGER",
                    error);
    default: return Status(Code::kSystem, "cannot open the ledger", error);
  }
}

Status SizeError(int error) {
  return Status(Code::kSystem, "cannot reserve 44 KiB for the ledger; free space on its file system", error);
}

// Reserves every page of this part of the file, so that a later write cannot run out of space. What is there
// stays.
Status Reserve(int fd, off_t offset, off_t bytes) {
  const WriteSignalsBlocked blocked;
  if (fallocate(fd, 0, offset, bytes) == 0) return Status();
  if (errno != EOPNOTSUPP && errno != ENOSYS) return SizeError(errno);
  struct stat info;
  const bool there = fstat(fd, &info) == 0 && info.st_size >= offset + bytes;
  return there || ftruncate(fd, offset + bytes) == 0 ? Status() : SizeError(errno);
}

Status Extend(int fd) { return Reserve(fd, 0, kLedgerBytes); }

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

}  // namespace

uint64_t EncodeShare(uint32_t slot, uint64_t bytes) {
  if (bytes == 0) return 0;
  const uint64_t hash = ((bytes ^ (uint64_t{slot + 1} << 40)) * 0x9e3779b97f4a7c15) >> 48;
  return hash << 48 | bytes;
}

uint64_t DecodeShare(uint32_t slot, uint64_t word) {
  const uint64_t bytes = word & kMaxLedgerShare;
  return EncodeShare(slot, bytes) == word ? bytes : 0;
}

Status LedgerFile::Open(const char* path) {
  Close();
  ended_.reset();
  // Past this limit a write is a signal (SIGXFSZ), which would end the program.
  rlimit size;
  if (getrlimit(RLIMIT_FSIZE, &size) == 0 && size.rlim_cur < static_cast<rlim_t>(kLedgerBytes)) {
    return Status(Code::kUnsupported, "the file size limit is below the ledger's 44 KiB; raise ulimit -f");
  }
  // O_NONBLOCK and O_NOCTTY: so that opening something that is no file has no effect.
  const int low = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
  if (low < 0) return OpenError(errno);
  fd_ = MoveUp(low);
  if (fd_ < 0) return Status(Code::kSystem, "no descriptor is left for the ledger; raise ulimit -n", errno);
  self_ = CurrentOwner();
  Status status = CheckFile();
  if (!status.ok()) {
    close(fd_);
    fd_ = -1;
    return status;
  }
  const bool locked = LockTable();
  status = Prepare(locked);
  if (status.ok()) status = TakeSlot();
  if (locked) UnlockTable();
  if (!status.ok()) Close();
  return status;
}

Status LedgerFile::CheckFile() {
  struct stat info;
  if (fstat(fd_, &info) != 0) return Status(Code::kSystem, "cannot examine the ledger", errno);
  if (!S_ISREG(info.st_mode)) {
    return Status(Code::kInvalidArgument, "the ledger is not a regular file; remove it");
  }
  if (info.st_uid != geteuid()) {
    return Status(Code::kInvalidArgument, "the ledger belongs to another user; set GPUROOM_LEDGER");
  }
  // Reading is refused too: who can read a file can lock it, and keep us waiting.
  if ((info.st_mode & 077) != 0) {
    return Status(Code::kInvalidArgument, "the ledger is open to other users; remove it or chmod it to 600");
  }
  if (info.st_nlink > 1) {
    return Status(Code::kInvalidArgument, "the ledger has a second name (hard link); remove it");
  }
  // A umask that takes the owner's own rights would shut out the next process.
  if ((info.st_mode & 0600) != 0600) fchmod(fd_, 0600);
  device_ = info.st_dev;
  inode_ = info.st_ino;
  return Status();
}

Status LedgerFile::Prepare(bool table_locked) {
  struct stat info;
  if (fstat(fd_, &info) != 0) return Status(Code::kSystem, "cannot examine the ledger", errno);
  LedgerHeader header;
  ReadOrZero(fd_, &header, sizeof header, 0);
  const LedgerHeader blank = {};
  const bool fresh = std::memcmp(&header, &blank, sizeof header) == 0 && info.st_size <= kLedgerBytes;
  const bool ours = std::memcmp(header.magic, kLedgerMagic, sizeof kLedgerMagic) == 0;
  if (!fresh && !ours) {
    return Status(Code::kInvalidArgument,
                  "the file is not a gpuroom ledger; remove it or set GPUROOM_LEDGER to another path");
  }
  const bool current = ours && header.version == kLedgerVersion && header.slots == kLedgerSlots;
  if (current && info.st_size >= kLedgerBytes) return Status();
  if (!table_locked) return Status(Code::kBusy, "the ledger is being set up by a process that does not run");
  if (ours && !current) return Rebuild();
  // New, or cut short. Neither step below disturbs a process that uses the file.
  const Status extended = Extend(fd_);
  return extended.ok() ? WriteHeader() : extended;
}

// Every version locks slot bytes while it uses the file, so a lock on all of them
// proves that nobody does. Death on the way leaves an empty file: a fresh one.
Status LedgerFile::Rebuild() {
  if (!Lock(F_WRLCK, kLedgerSlotLock, 0)) {
    return Status(Code::kBusy, "another version of gpuroom uses the ledger; set GPUROOM_LEDGER");
  }
  Status status = ftruncate(fd_, 0) == 0 ? Extend(fd_) : SizeError(errno);
  if (status.ok()) status = WriteHeader();
  Lock(F_UNLCK, kLedgerSlotLock, 0);
  return status;
}

Status LedgerFile::WriteHeader() {
  LedgerHeader header = {};
  std::memcpy(header.magic, kLedgerMagic, sizeof kLedgerMagic);
  header.version = kLedgerVersion;
  header.slots = kLedgerSlots;
  return WriteWhole(fd_, &header, sizeof header, 0) ? Status() : SizeError(errno);
}

Status LedgerFile::TakeSlot() {
  for (uint32_t slot = 0; slot < kLedgerSlots; ++slot) {
    if (!Lock(F_WRLCK, kLedgerSlotLock + slot, 1)) {
      if (errno == EAGAIN || errno == EACCES) continue;
      return Status(Code::kUnsupported, "the kernel or file system lacks open-file-description locks", errno);
    }
    slot_ = slot;
    // The shares first: what a dead owner left there counts from now on.
    const Status cleared = ClearShares(slot);
    if (!cleared.ok()) return cleared;
    return WriteWhole(fd_, &self_, sizeof self_, OwnerOffset(slot)) ? Status() : SizeError(errno);
  }
  return Status(Code::kBusy, "all 1024 slots of the ledger are taken");
}

bool LedgerFile::Intact() const {
  struct stat info;
  return fd_ >= 0 && fstat(fd_, &info) == 0 && info.st_dev == device_ && info.st_ino == inode_ &&
         info.st_nlink > 0;
}

void LedgerFile::Close() {
  struct stat info;
  if (fd_ >= 0 && fstat(fd_, &info) == 0 && info.st_dev == device_ && info.st_ino == inode_) close(fd_);
  fd_ = -1;
  slot_ = kLedgerSlots;
}

void LedgerFile::DropSlot() {
  if (Intact() && slot_ < kLedgerSlots) Lock(F_UNLCK, kLedgerSlotLock + slot_, 1);
  slot_ = kLedgerSlots;
}

bool LedgerFile::Lock(short type, off_t start, off_t length) const {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return fcntl(fd_, F_OFD_SETLK, &lock) == 0;
}

// Polled, not awaited with F_OFD_SETLKW: that wait has no end if the holder was
// stopped, or died while a child had a copy of its descriptor.
bool LedgerFile::LockTable() {
  const int64_t limit = NowNs() + (holder_stuck_ ? kWaitStuckNs : kWaitNs);
  for (int tries = 0; !Lock(F_WRLCK, kLedgerTableLock, 1); ++tries) {
    if (errno != EAGAIN && errno != EACCES) return false;
    if (NowNs() > limit) {
      if (!holder_stuck_) Log(LogLevel::kWarn, "waited too long for the ledger's lock; going on without it");
      holder_stuck_ = true;
      return false;
    }
    // Sleeping, not yielding: on a busy machine a sleeper is soon run again, and
    // one that yields goes to the end of the queue.
    if (tries < kTriesAtOnce) continue;
    const timespec pause = {0, 20'000};
    nanosleep(&pause, nullptr);
  }
  holder_stuck_ = false;
  return true;
}

void LedgerFile::UnlockTable() { Lock(F_UNLCK, kLedgerTableLock, 1); }

LedgerFile::Uuids LedgerFile::ReadUuids() const {
  Uuids uuids;
  ReadOrZero(fd_, uuids.data(), sizeof uuids, kLedgerUuids);
  return uuids;
}

Result<LedgerColumn> LedgerFile::ColumnOf(const GpuUuid& uuid, bool table_locked) {
  const Uuids uuids = ReadUuids();
  for (uint32_t entry = 0; entry < kLedgerGpus; ++entry) {
    if (uuids[entry] == uuid) return LedgerColumn{entry + 1};
    if (uuids[entry] != GpuUuid{}) continue;
    if (!table_locked)
      return Status(Code::kBusy, "the ledger's GPUs are noted by a process that does not run");
    const Status added = AddGpu(entry, uuid);
    return added.ok() ? Result<LedgerColumn>(LedgerColumn{entry + 1}) : added;
  }
  return Status(Code::kBusy, "the ledger has no column left for a GPU; remove it or set GPUROOM_LEDGER");
}

// The column first: who finds the UUID may write there.
Status LedgerFile::AddGpu(uint32_t entry, const GpuUuid& uuid) {
  const Status reserved = Reserve(fd_, ColumnOffset(entry + 1), kLedgerColumnBytes);
  if (!reserved.ok()) return reserved;
  const off_t offset = kLedgerUuids + entry * off_t{sizeof uuid};
  return WriteWhole(fd_, &uuid, sizeof uuid, offset) ? Status() : SizeError(errno);
}

Status LedgerFile::Publish(LedgerColumn column, uint64_t bytes) {
  const uint64_t word = EncodeShare(slot_, bytes);
  if (!WriteWhole(fd_, &word, sizeof word, WordOffset(column, slot_))) {
    return Status(Code::kSystem, "cannot write to the ledger", errno);
  }
  return Status();
}

bool LedgerFile::SlotIsHeld(uint32_t slot) const {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = kLedgerSlotLock + slot;
  lock.l_len = 1;
  return fcntl(fd_, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

bool LedgerFile::OwnerEnded(uint32_t slot) const {
  LedgerOwner owner;
  ReadOrZero(fd_, &owner, sizeof owner, OwnerOffset(slot));
  return OwnerHasEnded(owner, self_);
}

// Only while holding the slot's lock: a new owner may be taking it just now.
void LedgerFile::ClearSlot(uint32_t slot) {
  if (!Lock(F_WRLCK, kLedgerSlotLock + slot, 1)) return;
  (void)ClearShares(slot).ok();  // words that stay count for nothing as long as nobody holds the slot
  Lock(F_UNLCK, kLedgerSlotLock + slot, 1);
}

// In the host's column and those of the GPUs, the first of which have no gaps between them.
Status LedgerFile::ClearShares(uint32_t slot) {
  const uint64_t none = 0;
  const Uuids uuids = ReadUuids();
  for (LedgerColumn column = kHostColumn; column <= kLedgerGpus; ++column) {
    if (column != kHostColumn && uuids[column - 1] == GpuUuid{}) break;
    if (!WriteWhole(fd_, &none, sizeof none, WordOffset(column, slot))) return SizeError(errno);
  }
  return Status();
}

// A word that fails its check may have been read while it was written.
uint64_t LedgerFile::ReadAgain(LedgerColumn column, uint32_t slot) const {
  uint64_t bytes = 0;
  for (int tries = 0; tries < 3 && bytes == 0; ++tries) {
    uint64_t word;
    ReadOrZero(fd_, &word, sizeof word, WordOffset(column, slot));
    bytes = DecodeShare(slot, word);
  }
  return bytes;
}

bool LedgerFile::IsLive(uint32_t slot, Witness witness, bool table_locked) {
  if (witness == Witness::kWords) return true;
  if (!SlotIsHeld(slot)) {
    if (table_locked) ClearSlot(slot);
    return false;
  }
  return witness == Witness::kLocks || !OwnerEnded(slot);
}

// This process's own slot is left out.
void LedgerFile::ReadWords(LedgerColumn column, Words* words) const {
  ReadOrZero(fd_, words->data(), sizeof *words, ColumnOffset(column));
  if (slot_ < kLedgerSlots) (*words)[slot_] = 0;
}

uint64_t LedgerFile::ShareIn(LedgerColumn column, const Words& words, uint32_t slot) const {
  const uint64_t bytes = DecodeShare(slot, words[slot]);
  return bytes != 0 ? bytes : ReadAgain(column, slot);
}

uint64_t LedgerFile::Others(LedgerColumn column, Witness witness, bool table_locked) {
  uint64_t sum = 0;
  Words words;
  ReadWords(column, &words);
  for (uint32_t slot = 0; slot < kLedgerSlots; ++slot) {
    if (words[slot] != 0 && IsLive(slot, witness, table_locked)) sum += ShareIn(column, words, slot);
  }
  return sum;
}

uint64_t LedgerFile::OthersInTurn(LedgerColumn column, bool table_locked) {
  Words words;
  ReadWords(column, &words);
  bool go_on = true;
  for (uint32_t i = 0; i < kLedgerSlots && go_on; ++i) {
    const uint32_t slot = next_checked_[column];
    next_checked_[column] = (slot + 1) % kLedgerSlots;
    if (words[slot] == 0) continue;
    const bool ended = !IsLive(slot, Witness::kProcesses, table_locked);
    go_on = ended && !ended_[slot];
    ended_[slot] = ended;
  }
  uint64_t sum = 0;
  for (uint32_t slot = 0; slot < kLedgerSlots; ++slot) {
    if (words[slot] != 0 && !ended_[slot]) sum += ShareIn(column, words, slot);
  }
  return sum;
}

}  // namespace gpuroom
