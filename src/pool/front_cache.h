// FrontCache: one thread's freed blocks, by stream and size class, in front of
// Central; and its share of the statistics. What the hot path writes is here and
// in the block, so that threads share no cache line.
//
// The thread itself and, rarely, one that gathers cached blocks come here: a spin
// lock. Counters are written under it and read without.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "pool/block.h"
#include "pool/spin_lock.h"

namespace headroom {

class Central;

struct FrontStats {
  int64_t asked = 0;      // bytes in use as the program asked for them
  int64_t allocated = 0;  // as rounded
  uint64_t cached = 0;    // bytes in caches
  uint64_t allocations = 0;
  uint64_t frees = 0;
};

class alignas(64) FrontCache {
 public:
  explicit FrontCache(Central* central) : central_(central) {}

  // A cached block, now live and counted; null: there is none.
  Block* Take(StreamKey key, int size_class, uint64_t asked) {
    const SpinGuard guard(lock_);
    Bins* bins = Find(key);
    if (bins == nullptr) return nullptr;
    Bin& bin = bins->bins[static_cast<size_t>(size_class)];
    Block* block = bin.head;
    if (block == nullptr) return nullptr;
    bin.head = block->next_held;
    --bin.count;
    bins->bytes -= block->bytes;
    Add(cached_, -static_cast<int64_t>(block->bytes));
    Count(block, asked);
    return block;
  }

  // Counts a live block as freed and keeps it. Returns a chain of those that have to go to
  // Central instead; mostly null.
  Block* Put(Block* block) {
    const SpinGuard guard(lock_);
    Uncount(block);
    Bins* bins = Find(block->stream());
    if (bins == nullptr) return PutInNew(block);
    Add(cached_, static_cast<int64_t>(block->bytes));
    bins->bytes += block->bytes;
    Bin& bin = bins->bins[static_cast<size_t>(ClassOf(block->bytes))];
    block->next_held = bin.head;
    bin.head = block;
    ++bin.count;
    if (bin.count > BinMost(block->bytes) || bins->bytes > kMostBytes)
      return Overflow(*bins, bin, block->bytes);
    return nullptr;
  }

  // For blocks that do not come from here, or do not go here.
  void CountAllocation(Block* block, uint64_t asked);
  void CountFree(const Block* block);

  Block* TakeAll();
  void AddTo(FrontStats* stats) const;

  void Leave();   // the thread ends: what is cached goes to Central
  void Detach();  // the pool ends
  bool left() const { return left_.load(std::memory_order_acquire); }
  bool detached() const { return detached_.load(std::memory_order_acquire); }

 private:
  struct Bin {
    Block* head = nullptr;
    uint64_t count = 0;
  };
  struct Bins {
    StreamKey key = kIdleKey;
    uint64_t bytes = 0;
    std::array<Bin, kClasses> bins;
  };
  static constexpr size_t kStreams = 8;
  static constexpr uint64_t kMostBytes = 32 * kMiB;  // of one stream

  static constexpr uint64_t BinMost(uint64_t block_bytes) {
    return block_bytes >= 4 * kMiB ? 2 : block_bytes <= 128 * kKiB ? 64 : 8 * kMiB / block_bytes;
  }

  template <typename Number, typename Change>
  static void Add(std::atomic<Number>& counter, Change change) {
    counter.store(counter.load(std::memory_order_relaxed) + static_cast<Number>(change),
                  std::memory_order_relaxed);
  }

  Bins* Find(StreamKey key) HEADROOM_REQUIRES(lock_) {
    Bins* last = streams_[last_].get();
    return last != nullptr && last->key == key ? last : Search(key);
  }
  void Count(Block* block, uint64_t asked) HEADROOM_REQUIRES(lock_) {
    block->asked = asked;
    block->state.store(BlockState::kLive, std::memory_order_release);
    Add(asked_, asked);
    Add(allocated_, block->bytes);
    Add(allocations_, 1);
  }
  void Uncount(const Block* block) HEADROOM_REQUIRES(lock_) {
    Add(asked_, -static_cast<int64_t>(block->asked));
    Add(allocated_, -static_cast<int64_t>(block->bytes));
    Add(frees_, 1);
  }
  Bins* Search(StreamKey key) HEADROOM_REQUIRES(lock_);
  Block* PutInNew(Block* block) HEADROOM_REQUIRES(lock_);
  Block* Overflow(Bins& bins, Bin& bin, uint64_t block_bytes) HEADROOM_REQUIRES(lock_);
  Block* Empty(Bins& bins, Block* chain) HEADROOM_REQUIRES(lock_);

  SpinLock lock_;
  size_t last_ HEADROOM_GUARDED_BY(lock_) = 0;
  size_t next_victim_ HEADROOM_GUARDED_BY(lock_) = 0;
  std::atomic<int64_t> asked_{0};
  std::atomic<int64_t> allocated_{0};
  std::atomic<int64_t> cached_{0};
  std::atomic<uint64_t> allocations_{0};
  std::atomic<uint64_t> frees_{0};
  std::array<std::unique_ptr<Bins>, kStreams> streams_ HEADROOM_GUARDED_BY(lock_);
  Central* central_ HEADROOM_GUARDED_BY(lock_);
  std::atomic<bool> left_{false};
  std::atomic<bool> detached_{false};
};

}  // namespace headroom
