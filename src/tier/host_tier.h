// HostTier: host memory on one NUMA node, as physical chunks that the GPU maps.
// Creating it runs at 2-5 GB/s where copying runs at 55 (docs/measurements.md),
// so released chunks are kept and handed out again by size. Any thread.
//
// The limit is shared by the node's processes through the ledger; without one
// (no shared memory) it holds for this process alone. Kept chunks stay claimed.
// A GPU that has a part of its own (topology/host_part.h) has a tier of its own as well.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "driver/driver.h"
#include "tier/budget.h"
#include "tier/chunk.h"
#include "tier/host_place.h"
#include "tier/host_views.h"
#include "tier/ledger_look.h"

namespace gpuroom {

class HostTier;

// What the host tiers of this process share: what one keeps is in the way of the others, and is given back
// for them. `ledger` is null where there is no shared memory; `local` then stands in for it.
struct HostShare {
  HostShare(uint64_t limit_bytes, uint64_t keep_bytes, Ledger* node_ledger)
      : limit(limit_bytes), keep_limit(keep_bytes), ledger(node_ledger), local(limit_bytes) {
    if (ledger != nullptr) look_.emplace(*ledger, Ledger::kHost);
  }
  // A part of `part_bytes` of the `node_limit` bytes that the node's processes have together, for one GPU
  // alone. What others do changes nothing of it once it is promised.
  HostShare(uint64_t part_bytes, uint64_t keep_bytes, Ledger* node_ledger, uint64_t node_limit)
      : limit(part_bytes),
        keep_limit(keep_bytes),
        ledger(nullptr),
        local(part_bytes),
        promise_ledger_(node_ledger),
        node_limit_(node_limit) {}

  // Gives what was promised back.
  ~HostShare();

  const uint64_t limit;       // bytes, of all the node's processes together, or of one GPU alone
  const uint64_t keep_limit;  // bytes of released chunks that a tier keeps for reuse
  Ledger* const ledger;
  Budget local;

  // Bytes of the limit that nobody has claimed, as LedgerLook sees the other processes' claims.
  uint64_t Unclaimed();
  // Has the next Unclaimed() look again.
  void Refresh() {
    if (look_) look_->Refresh();
  }
  // Claims a part from the ledger in one piece, once, when its GPU is used. Where other processes have left
  // less, the part is so much smaller, and one warning says so. Does nothing without a part.
  void Promise() GPUROOM_EXCLUDES(promise_mutex_);

 private:
  uint64_t ClaimPart();

  std::optional<LedgerLook> look_;          // where there is a ledger
  Ledger* const promise_ledger_ = nullptr;  // of a part
  const uint64_t node_limit_ = 0;
  Mutex promise_mutex_;
  std::atomic<bool> promised_{false};  // written under promise_mutex_
  uint64_t claimed_part_ = 0;          // bytes, from when it is promised on

  friend HostTier;
  // Held while the driver creates chunks to be kept or destroys such: who finds no room waits for that.
  Mutex stock_mutex_;
  std::vector<HostTier*> tiers_ GPUROOM_GUARDED_BY(stock_mutex_);
  // What is claimed for kept chunks: of those, and of one that is just created or destroyed.
  std::atomic<uint64_t> stock_bytes_{0};
};

class HostTier {
 public:
  HostTier(const Driver& driver, int numa_node, HostShare& share);
  ~HostTier();
  HostTier(const HostTier&) = delete;
  HostTier& operator=(const HostTier&) = delete;

  // Looks for a place where the driver creates host memory (FindHostPlace), if there is any to be had by the
  // limit. Once, before other threads use the tier.
  // `other_nodes`, by their distance, is also asked when the node has no more.
  void FindPlace(std::function<std::vector<int>()> other_nodes);

  // A chunk of `bytes` (a multiple of kGranularity), kept or new, that can be
  // exported as a POSIX descriptor where the driver can do that. Where the driver has no more on the tier's
  // node, it comes from another. kOutOfMemory when the limit or the driver has no more, kept chunks given
  // back. Contents are undefined.
  Result<Chunk> Create(uint64_t bytes) { return Get(bytes, bytes); }
  // The same, but rather than create memory it hands out a smaller chunk that is
  // kept. For pieces that may consist of several.
  Result<Chunk> CreateUpTo(uint64_t bytes) { return Get(0, bytes); }
  // A chunk that is kept, none created: the largest of at most `bytes`, or the smallest there is.
  // False: no such one.
  bool TakeKeptUpTo(uint64_t bytes, Chunk* chunk) { return TakeKept(0, bytes, chunk); }
  bool TakeSmallestKept(Chunk* chunk);
  // Takes the chunk back, unmapped by now: keeps it, unless it was exported, or gives
  // it to the driver. On failure nothing changed; try again.
  Status Release(const Chunk& chunk);
  // Gives every kept chunk back to the driver.
  void Trim();
  // Creates a chunk of `bytes` to be kept, and shows it to `device` (views()) unless that is -1. False: no
  // room for it now.
  bool CreateKept(uint64_t bytes, CUdevice device = -1);
  uint64_t kept_bytes() const { return kept_bytes_.load(std::memory_order_relaxed); }
  // Notes chunks that were handed out to hold backups for a while, and come back to be kept.
  void Lend(uint64_t bytes) { lent_bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  void EndLoan(uint64_t bytes) { lent_bytes_.fetch_sub(bytes, std::memory_order_relaxed); }
  uint64_t lent_bytes() const { return lent_bytes_.load(std::memory_order_relaxed); }

  // As HostShare's.
  void Promise() { share_.Promise(); }

  // Counts host memory that is no chunk, such as managed memory's. False: no room, kept chunks given back.
  bool ClaimOther(uint64_t bytes);
  void ReleaseOther(uint64_t bytes) { ReleaseShare(bytes); }

  // Bytes that may still be handed out as chunks, kept ones included, those of other nodes, too. 0 where the
  // driver gives no host memory.
  uint64_t Free() const { return place_.refused ? 0 : FreeOfLimit(); }
  // Bytes of the limit that may still be claimed, whatever the driver says to chunks.
  uint64_t FreeOfLimit() const;
  // Has the next Free() look again at what other processes hold.
  void Refresh() { share_.Refresh(); }
  // Bytes handed out now and at most.
  const Budget& in_use() const { return in_use_; }
  uint64_t limit() const { return share_.limit; }
  // Bytes that chunks may take: the limit, or 0 where the driver gives no host memory.
  uint64_t chunk_limit() const { return place_.refused ? 0 : share_.limit; }
  // Where the memory is asked for, and where it comes from.
  int home_node() const { return home_node_; }
  int numa_node() const { return place_.node; }
  // Where devices reach chunks of this tier, kept and handed out. A chunk is in it until the driver has it
  // back.
  HostViews& views() { return views_; }

 private:
  using Kept = std::multimap<uint64_t, Chunk>;  // by size

  Result<Chunk> Get(uint64_t at_least, uint64_t bytes);
  template <typename Take>
  Status WithRoom(uint64_t bytes, Take take);
  bool TakeKept(uint64_t at_least, uint64_t at_most, Chunk* chunk);
  Kept::node_type TakeToDestroy(uint64_t bytes);
  void NoteInUse(uint64_t bytes);
  void HandOut(Kept::iterator kept, Chunk* chunk) GPUROOM_REQUIRES(mutex_);
  Kept::node_type TakeOut(Kept::iterator kept) GPUROOM_REQUIRES(mutex_);
  // False: the process has no memory to note the chunk.
  bool Keep(const Chunk& chunk) GPUROOM_REQUIRES(mutex_);
  uint64_t MakeRoom(uint64_t bytes, const Status& why) GPUROOM_REQUIRES(share_.stock_mutex_);
  uint64_t TrimBy(uint64_t bytes);
  Status CreateNew(uint64_t bytes, Chunk* chunk);
  Status CreateClaimed(const HostPlace& place, uint64_t bytes, Chunk* chunk);
  Status CreateElsewhere(uint64_t bytes, Chunk* chunk);
  Status Destroy(const Chunk& chunk);
  Status ClaimShare(uint64_t bytes);
  void ReleaseShare(uint64_t bytes);

  const Driver& driver_;
  const int home_node_;
  HostShare& share_;
  HostPlace place_;
  std::function<std::vector<int>()> other_nodes_;
  Budget in_use_{Budget::kUnlimited};
  mutable Mutex mutex_;  // never held during a driver call
  Kept kept_ GPUROOM_GUARDED_BY(mutex_);
  std::atomic<uint64_t> kept_bytes_{0};  // written under mutex_
  std::atomic<uint64_t> lent_bytes_{0};
  HostViews views_;
};

}  // namespace gpuroom
