// Segments: the objects that stand for segments and blocks, recycled and kept
// until the pool ends (block.h says why). Under Central's lock.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "pool/block.h"

namespace gpuroom {

class Segments {
 public:
  Segments() = default;
  ~Segments();
  Segments(const Segments&) = delete;
  Segments& operator=(const Segments&) = delete;

  // One that has a slot for each unit of `bytes`, all of them empty; null: no host memory.
  Segment* NewSegment(CUdeviceptr va, uint64_t bytes, uint64_t unit);
  void DropSegment(Segment* segment);  // with all slots empty

  // A block of the segment in its slot, without neighbours; null: no host memory.
  Block* NewBlock(Segment* segment, CUdeviceptr va, uint64_t bytes);
  void DropBlock(Block* block);  // also empties its slot

 private:
  static constexpr size_t kSlab = 64;

  Segment* MakeSegment(uint64_t capacity);

  std::vector<std::unique_ptr<Segment>> segments_;
  std::map<uint64_t, std::vector<Segment*>> spare_segments_;  // by capacity
  std::vector<std::unique_ptr<Block[]>> slabs_;
  Block* spare_blocks_ = nullptr;  // chained by next_held
};

}  // namespace gpuroom
