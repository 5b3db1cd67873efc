#include "pool/front_cache.h"

#include "pool/central.h"

namespace gpuroom {

FrontCache::Bins* FrontCache::Search(StreamKey key) {
  for (size_t i = 0; i < kStreams; ++i) {
    if (keys_[i] != key) continue;
    last_ = i;
    return bins_[i].get();
  }
  return nullptr;
}

// The first block of a stream here: it takes an unused place, or that of another stream.
FrontCache::Bins* FrontCache::MakeBins(StreamKey key, Block** evicted) {
  size_t place = 0;
  while (place < kStreams && keys_[place] != 0) ++place;
  if (place == kStreams) {
    place = next_victim_++ % kStreams;
    for (Bin& bin : *bins_[place]) *evicted = Empty(bin, 0, *evicted);
  } else {
    bins_[place] = std::make_unique<Bins>();
  }
  keys_[place] = key;
  last_ = place;
  return bins_[place].get();
}

// All but `keep` blocks of the bin, before the chain.
Block* FrontCache::Empty(Bin& bin, uint64_t keep, Block* chain) {
  while (bin.count > keep) {
    Block* block = bin.head;
    bin.head = block->next_held;
    --bin.count;
    counts_.cached -= block->bytes;
    block->next_held = chain;
    chain = block;
  }
  return chain;
}

Block* FrontCache::EmptyAll(Block* chain) {
  for (const auto& bins : bins_) {
    if (bins == nullptr || counts_.cached == 0) continue;
    for (Bin& bin : *bins) chain = Empty(bin, 0, chain);
  }
  return chain;
}

// Half of a bin that is full; everything where all bins hold too much together.
Block* FrontCache::Overflow(Bin& bin, int size_class, Block* chain) {
  if (counts_.cached > kMostBytes) return EmptyAll(chain);
  return Empty(bin, kFrontMost[static_cast<size_t>(size_class)] / 2, chain);
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
  return EmptyAll(nullptr);
}

void FrontCache::AddTo(FrontStats* stats) {
  const SpinGuard guard(lock_);
  stats->asked += counts_.asked;
  stats->cached += counts_.cached;
  stats->allocations += counts_.allocations;
  stats->frees += counts_.frees;
}

void FrontCache::Leave() {
  const SpinGuard guard(lock_);
  // Under the lock, so that the pool, whose end comes by here, is still there.
  if (central_ != nullptr) central_->PutAll(EmptyAll(nullptr));
  left_.store(true, std::memory_order_release);
}

void FrontCache::Detach() {
  const SpinGuard guard(lock_);
  central_ = nullptr;
  detached_.store(true, std::memory_order_release);
}

}  // namespace gpuroom
