#include "pool/front_cache.h"

#include "pool/central.h"

namespace headroom {

FrontCache::Bins* FrontCache::Search(StreamKey key) {
  for (size_t i = 0; i < kStreams; ++i) {
    if (streams_[i] == nullptr || streams_[i]->key != key) continue;
    last_ = i;
    return streams_[i].get();
  }
  return nullptr;
}

// The first block of a stream here: it takes an unused place, or that of another stream.
Block* FrontCache::PutInNew(Block* block) {
  size_t place = 0;
  while (place < kStreams && streams_[place] != nullptr) ++place;
  Block* evicted = nullptr;
  if (place == kStreams) {
    place = next_victim_++ % kStreams;
    evicted = Empty(*streams_[place], nullptr);
  } else {
    streams_[place] = std::make_unique<Bins>();
  }
  Bins& bins = *streams_[place];
  last_ = place;
  bins.key = block->stream();
  bins.bytes = block->bytes;
  Add(cached_, static_cast<int64_t>(block->bytes));
  block->next_held = nullptr;
  bins.bins[static_cast<size_t>(ClassOf(block->bytes))] = {block, 1};
  return evicted;
}

// Half of a bin that is full; all of the stream's bins where they hold too much together.
Block* FrontCache::Overflow(Bins& bins, Bin& bin, uint64_t block_bytes) {
  if (bins.bytes > kMostBytes) return Empty(bins, nullptr);
  Block* chain = nullptr;
  const uint64_t keep = BinMost(block_bytes) / 2;
  while (bin.count > keep) {
    Block* block = bin.head;
    bin.head = block->next_held;
    --bin.count;
    bins.bytes -= block_bytes;
    Add(cached_, -static_cast<int64_t>(block_bytes));
    block->next_held = chain;
    chain = block;
  }
  return chain;
}

Block* FrontCache::Empty(Bins& bins, Block* chain) {
  for (Bin& bin : bins.bins) {
    while (bin.head != nullptr) {
      Block* block = bin.head;
      bin.head = block->next_held;
      block->next_held = chain;
      chain = block;
    }
    bin.count = 0;
  }
  Add(cached_, -static_cast<int64_t>(bins.bytes));
  bins.bytes = 0;
  return chain;
}

void FrontCache::CountAllocation(Block* block, uint64_t asked) {
  const SpinGuard guard(lock_);
  Count(block, asked);
}

void FrontCache::CountFree(const Block* block) {
  const SpinGuard guard(lock_);
  Uncount(block);
}

Block* FrontCache::TakeAll() {
  const SpinGuard guard(lock_);
  Block* chain = nullptr;
  for (const auto& bins : streams_) {
    if (bins != nullptr && bins->bytes != 0) chain = Empty(*bins, chain);
  }
  return chain;
}

void FrontCache::AddTo(FrontStats* stats) const {
  stats->asked += asked_.load(std::memory_order_relaxed);
  stats->allocated += allocated_.load(std::memory_order_relaxed);
  stats->cached += static_cast<uint64_t>(cached_.load(std::memory_order_relaxed));
  stats->allocations += allocations_.load(std::memory_order_relaxed);
  stats->frees += frees_.load(std::memory_order_relaxed);
}

void FrontCache::Leave() {
  const SpinGuard guard(lock_);
  // Under the lock, so that the pool, whose end comes by here, is still there.
  if (central_ != nullptr) {
    Block* chain = nullptr;
    for (const auto& bins : streams_) {
      if (bins != nullptr) chain = Empty(*bins, chain);
    }
    central_->PutAll(chain);
  }
  left_.store(true, std::memory_order_release);
}

void FrontCache::Detach() {
  const SpinGuard guard(lock_);
  central_ = nullptr;
  detached_.store(true, std::memory_order_release);
}

}  // namespace headroom
