#include "pool/shelves.h"

namespace gpuroom {

void Arena::Insert(Block* block) { shelves[{KindOf(*block->segment), block->stream()}].insert(block); }

void Arena::Erase(Block* block) {
  const auto found = shelves.find({KindOf(*block->segment), block->stream()});
  if (found == shelves.end()) return;
  found->second.erase(block);
  // Threads come and go, and their streams' shelves with them.
  if (found->second.empty()) shelves.erase(found);
}

Block* Arena::Best(Kind kind, StreamKey key, uint64_t bytes) const {
  const auto found = shelves.find({kind, key});
  if (found == shelves.end()) return nullptr;
  const auto best = found->second.lower_bound(SmallerBlock::Size{bytes});
  return best == found->second.end() ? nullptr : *best;
}

}  // namespace gpuroom
