// FrontCache: one thread's freed blocks, by stream and size class, in front of
// Central; and its share of the statistics. What the hot path writes is here and
// in the block, so that threads share no cache line.
//
// The thread itself and, rarely, one that gathers cached blocks or figures come
// here: a spin lock.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>

#include "pool/block.h"
#include "pool/spin_lock.h"

namespace gpuroom {

class Central;

struct FrontStats {
  int64_t asked = 0;    // bytes in use as the program asked for them
  uint64_t cached = 0;  // bytes in caches
  uint64_t allocations = 0;
  uint64_t frees = 0;
};

// Blocks of each class that a cache keeps: few of the large ones, since others cannot have them.
constexpr std::array<uint8_t, kClasses> FrontMostOfEach() {
  std::array<uint8_t, kClasses> most{};
  for (int i = 0; i < kClasses; ++i) {
    const uint64_t fit = 4 * kMiB / ClassBytes(i);
    most[static_cast<size_t>(i)] = static_cast<uint8_t>(fit < 2 ? 2 : fit > 64 ? 64 : fit);
  }
  return most;
}
inline constexpr std::array<uint8_t, kClasses> kFrontMost = FrontMostOfEach();

class alignas(64) FrontCache {
 public:
  explicit FrontCache(Central* central) : central_(central) {}

  // A cached block, now live and counted; null: there is none.
  Block* Take(StreamKey key, int size_class, uint64_t asked) {
    const SpinGuard guard(lock_);
    Bins* bins = Find(key);
    if (bins == nullptr) return nullptr;
    Bin& bin = (*bins)[static_cast<size_t>(size_class)];
    Block* block = bin.head;
    if (block == nullptr) return nullptr;
    bin.head = block->next_held;
    --bin.count;
    counts_.cached -= block->bytes;
    Count(block, asked);
    return block;
  }

  // Counts a live block as freed and keeps it. Returns a chain of those that have to go to
  // Central instead; mostly null.
  Block* Put(Block* block) {
    const SpinGuard guard(lock_);
    Uncount(block);
    Bins* bins = Find(block->stream());
    Block* evicted = nullptr;
    if (__builtin_expect(bins == nullptr, false)) bins = MakeBins(block->stream(), &evicted);
    Bin& bin = (*bins)[block->size_class];
    block->next_held = bin.head;
    bin.head = block;
    counts_.cached += block->bytes;
    if (__builtin_expect(++bin.count > kFrontMost[block->size_class] || counts_.cached > kMostBytes, false)) {
      return Overflow(bin, block->size_class, evicted);
    }
    return evicted;
  }

  // For blocks that do not come from here, or do not go here.
  void CountAllocation(Block* block, uint64_t asked);
  void CountFree(const Block* block);

  Block* TakeAll();
  void AddTo(FrontStats* stats);

  void Leave();   // the thread ends: what is cached goes to Central
  void Detach();  // the pool ends
  bool left() const { return left_.load(std::memory_order_acquire); }
  bool detached() const { return detached_.load(std::memory_order_acquire); }

 private:
  struct Bin {
    Block* head = nullptr;
    uint64_t count = 0;
  };
  using Bins = std::array<Bin, kClasses>;
  static constexpr size_t kStreams = 8;
  static constexpr uint64_t kMostBytes = 16 * kMiB;

  Bins* Find(StreamKey key) GPUROOM_REQUIRES(lock_) {
    return keys_[last_] == key ? bins_[last_].get() : Search(key);
  }
  void Count(Block* block, uint64_t asked) GPUROOM_REQUIRES(lock_) {
    block->asked = asked;
    block->state.store(BlockState::kLive, std::memory_order_release);
    counts_.asked += static_cast<int64_t>(asked);
    ++counts_.allocations;
  }
  void Uncount(const Block* block) GPUROOM_REQUIRES(lock_) {
    counts_.asked -= static_cast<int64_t>(block->asked);
    ++counts_.frees;
  }
  Bins* Search(StreamKey key) GPUROOM_REQUIRES(lock_);
  Bins* MakeBins(StreamKey key, Block** evicted) GPUROOM_REQUIRES(lock_);
  Block* Overflow(Bin& bin, int size_class, Block* chain) GPUROOM_REQUIRES(lock_);
  Block* Empty(Bin& bin, uint64_t keep, Block* chain) GPUROOM_REQUIRES(lock_);
  Block* EmptyAll(Block* chain) GPUROOM_REQUIRES(lock_);

  SpinLock lock_;
  size_t last_ GPUROOM_GUARDED_BY(lock_) = 0;  // the stream that was found last
  FrontStats counts_ GPUROOM_GUARDED_BY(lock_);
  std::array<StreamKey, kStreams> keys_ GPUROOM_GUARDED_BY(lock_){};  // 0: none, which is no stream's
  std::array<std::unique_ptr<Bins>, kStreams> bins_ GPUROOM_GUARDED_BY(lock_);
  size_t next_victim_ GPUROOM_GUARDED_BY(lock_) = 0;
  Central* central_ GPUROOM_GUARDED_BY(lock_);
  std::atomic<bool> left_{false};
  std::atomic<bool> detached_{false};
};

}  // namespace gpuroom
