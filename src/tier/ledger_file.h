// The node ledger's file: one open description of it, holding one slot.
//
// Layout: a header, the UUIDs of the GPUs that are counted, the host's column,
// an identity per slot, and a column for each of these GPUs. A column has a word per
// slot: the owner's share of that memory. So a look at one memory is one read of
// 8 KiB. The file takes 44 KiB and 8 KiB more for each GPU; a GPU keeps its column
// as long as the file is there.
// It is read and written with pread and pwrite, never mapped: a file that somebody
// truncates is short, not a SIGBUS. A share is one word that checks itself and is
// written whole, so there is no half-written state.
//
// A slot belongs to whoever holds the kernel's lock on its byte: byte 0 of the
// file's lock space is the table's, byte 1 + i is slot i's. The locks are those of
// the open description (F_OFD_SETLK), not of the process (F_SETLK), because
//  - a process lock goes when anything in the process closes any descriptor of
//    the file, and two copies of this code in one process would not see each other;
//  - the price, that a forked child keeps the lock alive until it closes the
//    descriptor, is met twice: Close() in the child, and the owner's identity.
// Both kinds go when the process dies or execs (the descriptor is close-on-exec).
//
// Not thread-safe: Ledger holds a mutex. Nothing here allocates.
#pragma once

#include <sys/types.h>

#include <array>
#include <bitset>
#include <cstdint>

#include "base/status.h"
#include "tier/ledger_owner.h"

namespace gpuroom {

inline constexpr char kLedgerMagic[8] = {'h', 'd', 'r', 'm', 'l', 'd', 'g', 'r'};
inline constexpr uint32_t kLedgerVersion = 2;
inline constexpr uint32_t kLedgerSlots = 1024;
inline constexpr uint32_t kLedgerGpus = 64;  // at most; parts of a GPU (MIG) count as GPUs
inline constexpr off_t kLedgerUuids = 1024;
inline constexpr off_t kLedgerWords = 4096;  // the host's column
inline constexpr off_t kLedgerOwners = kLedgerWords + kLedgerSlots * off_t{sizeof(uint64_t)};
inline constexpr off_t kLedgerBytes = kLedgerOwners + kLedgerSlots * off_t{sizeof(LedgerOwner)};
// The columns of the GPUs lie behind what every ledger has.
inline constexpr off_t kLedgerColumnBytes = kLedgerSlots * off_t{sizeof(uint64_t)};
inline constexpr off_t kLedgerTableLock = 0;
inline constexpr off_t kLedgerSlotLock = 1;  // + slot

// Largest share of one process: 256 TiB less a byte. 1024 of them do not overflow.
inline constexpr uint64_t kMaxLedgerShare = (uint64_t{1} << 48) - 1;

struct LedgerHeader {
  char magic[8];
  uint32_t version;
  uint32_t slots;
};

// Which memory is counted: the host's, or that of the GPU whose UUID is entry `column` - 1 of the table.
using LedgerColumn = uint32_t;
inline constexpr LedgerColumn kHostColumn = 0;
inline constexpr LedgerColumn kNoColumn = UINT32_MAX;
// As the driver gives it; all zeros is none.
using GpuUuid = std::array<char, 16>;

// A share and its check in one word; 0 is the word of no share. Decoding a word
// that was not encoded for this slot gives 0.
uint64_t EncodeShare(uint32_t slot, uint64_t bytes);
uint64_t DecodeShare(uint32_t slot, uint64_t word);

class LedgerFile {
 public:
  enum class Witness {
    kWords,      // a slot counts while it has a share, also a dead one's: two system calls for all
    kLocks,      // and while its lock is held: one system call a slot, which looks at all locks of the file
    kProcesses,  // and its owner has not ended: three more, and certain
  };

  LedgerFile() = default;
  ~LedgerFile() { Close(); }
  LedgerFile(const LedgerFile&) = delete;
  LedgerFile& operator=(const LedgerFile&) = delete;

  // Opens or creates the file and takes a slot whose shares are all 0. Refuses what is not
  // a private, regular file of this user, and a file that is no ledger; never
  // overwrites either. A ledger of another version is rebuilt if nobody uses it,
  // else kBusy. Waits at most as LockTable does.
  Status Open(const char* path);

  // Closes the descriptor if it still is this file's. The lock goes with its
  // last copy. Async-signal-safe.
  void Close();

  // Gives the slot back even where a forked child holds a copy of the descriptor.
  void DropSlot();

  // False where the program has closed (or even reused) the descriptor, or the
  // file was unlinked: then nothing may be written, and Open is due.
  bool Intact() const;

  // Waits for the table's lock, but no longer than 500 ms (1 ms while its holder
  // stays stuck: stopped, or a copy of its descriptor in a child). False: go on
  // without; that costs precision, never safety (Ledger::Claim).
  bool LockTable();
  void UnlockTable();

  // The column of a GPU, which gets one if the table is locked. kBusy: it is not, or all are taken.
  Result<LedgerColumn> ColumnOf(const GpuUuid& uuid, bool table_locked);

  // Writes this slot's share: one system call, seen whole or not at all.
  Status Publish(LedgerColumn column, uint64_t bytes);

  // Sum of the other live slots' shares. With the table locked, clears dead ones.
  uint64_t Others(LedgerColumn column, Witness witness, bool table_locked);
  // The same at a cost that does not grow with the slots: by words, and each call checks one slot more by
  // kProcesses, in turn, and goes on while those that it checks turn out to be dead. So what a dead one held
  // is counted until its turn comes.
  uint64_t OthersInTurn(LedgerColumn column, bool table_locked);

 private:
  Status CheckFile();
  Status Prepare(bool table_locked);
  Status Rebuild();
  Status WriteHeader();
  Status TakeSlot();
  bool Lock(short type, off_t start, off_t length) const;
  bool SlotIsHeld(uint32_t slot) const;
  bool OwnerEnded(uint32_t slot) const;
  bool IsLive(uint32_t slot, Witness witness, bool table_locked);
  using Words = std::array<uint64_t, kLedgerSlots>;
  using Uuids = std::array<GpuUuid, kLedgerGpus>;
  void ReadWords(LedgerColumn column, Words* words) const;
  uint64_t ShareIn(LedgerColumn column, const Words& words, uint32_t slot) const;
  Uuids ReadUuids() const;
  Status AddGpu(uint32_t entry, const GpuUuid& uuid);
  Status ClearShares(uint32_t slot);
  void ClearSlot(uint32_t slot);
  uint64_t ReadAgain(LedgerColumn column, uint32_t slot) const;

  int fd_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  uint32_t slot_ = kLedgerSlots;  // kLedgerSlots: none
  bool holder_stuck_ = false;
  LedgerOwner self_;
  std::bitset<kLedgerSlots> ended_;                       // slots whose owners OthersInTurn found dead
  std::array<uint32_t, kLedgerGpus + 1> next_checked_{};  // by column, the slot whose turn it is
};

}  // namespace gpuroom
