// Central: all segments, cut into blocks, and the store of the free ones. Splits
// and joins; knows nothing of the driver, of threads or of pending uses.
//
// A free block carries the key of the stream in whose order it was freed. It
// joins its neighbours of the same key, and idle ones, which are fit for any
// order; the result has that key. Once the device was idle, MarkIdle makes what
// was free before it fit for every stream, and a segment that is one idle block
// can go back to the source.
//
// Any thread; one lock, taken on slow paths only. Look-ups take none.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "pool/page_table.h"
#include "pool/segments.h"
#include "pool/shelves.h"

namespace gpuroom {

struct Want {
  uint64_t bytes = 0;  // rounded
  StreamKey key = kIdleKey;
  CUstream stream = nullptr;
  Arena* arena = nullptr;
};

struct CentralStats {
  uint64_t reserved = 0;
  uint64_t peak_reserved = 0;
  uint64_t used = 0;  // bytes of blocks that are not free
  uint64_t peak_used = 0;
  uint64_t segments = 0;
  uint64_t spilled_segments = 0;
};

class Central {
 public:
  Central() { shared_.is_shared = true; }

  Arena& shared() { return shared_; }
  Block* FindBlock(CUdeviceptr va) const { return pages_.FindBlock(va); }
  // The block, or the segment, around an address; false: not ours, or not the program's now.
  bool Around(CUdeviceptr at, CUdeviceptr* base, uint64_t* bytes, bool whole_segment) const;

  // The best fit of the key's own and idle blocks, as kHeld; null: none.
  Block* Take(const Want& want);
  // The best fit of other streams' blocks, in the shared arena. It keeps its key.
  Block* TakeForeign(const Want& want, const std::vector<StreamKey>& except);
  void Put(Block* block);
  void PutAll(Block* chain);   // by next_held
  void PutIdle(Block* chain);  // the same, of blocks whose uses are all over

  // Announces a segment; false: the limit is in the way. Then either Adopt or Unreserve.
  bool Reserve(uint64_t bytes);
  void Unreserve(uint64_t bytes);
  // Makes the segment known and takes the wanted block from it, before others can (null: no host
  // memory for the rest's block). false: the segment is not known.
  bool Adopt(CUdeviceptr va, uint64_t bytes, const Want& want, bool spilled, Block** block);
  void SetLimit(uint64_t bytes);

  // Whether an idle device would free a whole segment, or what no event can free.
  bool WouldGainFromIdle() const;
  // The shared arena's blocks freed at or before `cut` become idle: all, or those of one key.
  void MarkIdle(uint64_t cut, const StreamKey* only = nullptr);
  // A stream has ended and all its work is done: blocks in use that belonged to it are no stream's.
  void Orphan(StreamKey key);
  // Takes out the segments that are one idle block. Each then goes to Forget or Restore.
  std::vector<Segment*> TakeIdleSegments();
  void Forget(Segment* segment);
  void Restore(Segment* segment);

  // A private pool's arena. Release makes its segments shared ones; graphs may still use what is
  // free in them, so that it waits for an idle device. The arena is then another's to be.
  Arena* NewArena();
  void Release(Arena* arena);
  // For the pool's end: all segments there are.
  std::vector<CUdeviceptr> AllSegments() const;

  // Counts frees, so that what was freed before an instant can be told. See Block::freed_at.
  uint64_t Tick() { return clock_.fetch_add(1, std::memory_order_acq_rel) + 1; }
  uint64_t Now() const { return clock_.load(std::memory_order_acquire); }
  CentralStats Stats() const;

 private:
  void PutLocked(Block* block) GPUROOM_REQUIRES(mutex_);
  void Shelve(Block* block) GPUROOM_REQUIRES(mutex_);
  Block* JoinAfter(Block* block) GPUROOM_REQUIRES(mutex_);
  Block* Cut(Block* block, const Want& want) GPUROOM_REQUIRES(mutex_);
  void JoinIdle(Segment* segment) GPUROOM_REQUIRES(mutex_);
  void Unorder(Segment* segment, Arena& from) GPUROOM_REQUIRES(mutex_);

  PageTable pages_;
  std::atomic<uint64_t> clock_{1};
  mutable Mutex mutex_;
  Segments objects_ GPUROOM_GUARDED_BY(mutex_);
  Arena shared_;  // its contents, as every arena's: under mutex_
  std::vector<std::unique_ptr<Arena>> arenas_ GPUROOM_GUARDED_BY(mutex_);
  std::vector<Arena*> spare_arenas_ GPUROOM_GUARDED_BY(mutex_);
  CentralStats stats_ GPUROOM_GUARDED_BY(mutex_);
  uint64_t limit_ GPUROOM_GUARDED_BY(mutex_) = UINT64_MAX;
};

}  // namespace gpuroom
