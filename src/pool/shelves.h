// Arena: a family of segments and, in shelves, their free blocks. A shelf holds
// those of one kind (small or large segments) and one stream, by size, so that
// the best fit is one look-up. Under Central's lock.
#pragma once

#include <map>
#include <set>
#include <unordered_set>
#include <utility>

#include "pool/block.h"

namespace gpuroom {

struct SmallerBlock {
  struct Size {
    uint64_t bytes;
  };
  using is_transparent = void;
  bool operator()(const Block* a, const Block* b) const {
    return a->bytes != b->bytes
               ? a->bytes < b->bytes
               : a->va.load(std::memory_order_relaxed) < b->va.load(std::memory_order_relaxed);
  }
  bool operator()(const Block* block, Size size) const { return block->bytes < size.bytes; }
};
using Shelf = std::set<Block*, SmallerBlock>;

enum class Kind : uint8_t { kSmall, kLarge };

inline Kind KindOf(uint64_t rounded) { return rounded <= kSmallMost ? Kind::kSmall : Kind::kLarge; }
inline Kind KindOf(const Segment& segment) {
  return segment.bytes <= kSmallSegment ? Kind::kSmall : Kind::kLarge;
}

struct Arena {
  using ShelfName = std::pair<Kind, StreamKey>;

  std::map<ShelfName, Shelf> shelves;
  std::unordered_set<Segment*> segments;
  bool is_shared = false;

  void Insert(Block* block);
  void Erase(Block* block);
  // The smallest block of at least `bytes`; null: none. It stays on its shelf.
  Block* Best(Kind kind, StreamKey key, uint64_t bytes) const;
};

}  // namespace gpuroom
