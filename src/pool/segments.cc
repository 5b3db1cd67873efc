#include "pool/segments.h"

#include <bit>
#include <cstdlib>
#include <new>

namespace gpuroom {

Segments::~Segments() {
  for (const auto& segment : segments_) std::free(static_cast<void*>(segment->slots));
}

Segment* Segments::MakeSegment(uint64_t capacity) {
  // Zeros that the system provides as they are touched: a large segment with few
  // blocks costs little.
  void* slots = std::calloc(capacity, sizeof(std::atomic<Block*>));
  if (slots == nullptr) return nullptr;
  segments_.push_back(std::make_unique<Segment>());
  Segment* segment = segments_.back().get();
  segment->capacity = capacity;
  segment->slots = static_cast<std::atomic<Block*>*>(slots);
  return segment;
}

Segment* Segments::NewSegment(CUdeviceptr va, uint64_t bytes, uint64_t unit) {
  const uint64_t capacity = std::bit_ceil((bytes + unit - 1) / unit);
  std::vector<Segment*>& spare = spare_segments_[capacity];
  Segment* segment = nullptr;
  if (!spare.empty()) {
    segment = spare.back();
    spare.pop_back();
  } else {
    segment = MakeSegment(capacity);
  }
  if (segment == nullptr) return nullptr;
  segment->va.store(va, std::memory_order_relaxed);
  segment->shift.store(static_cast<uint32_t>(std::countr_zero(unit)), std::memory_order_relaxed);
  segment->bytes = bytes;
  segment->first = nullptr;
  segment->out = 0;
  segment->after_graph = false;
  segment->spilled = false;
  return segment;
}

void Segments::DropSegment(Segment* segment) { spare_segments_[segment->capacity].push_back(segment); }

Block* Segments::NewBlock(Segment* segment, CUdeviceptr va, uint64_t bytes) {
  if (spare_blocks_ == nullptr) {
    std::unique_ptr<Block[]> slab(new (std::nothrow) Block[kSlab]);
    if (slab == nullptr) return nullptr;
    for (size_t i = 0; i < kSlab; ++i) {
      slab[i].next_held = spare_blocks_;
      spare_blocks_ = &slab[i];
    }
    slabs_.push_back(std::move(slab));
  }
  Block* block = spare_blocks_;
  spare_blocks_ = block->next_held;
  block->bytes = bytes;
  block->asked = 0;
  block->next_held = block->before = block->after = nullptr;
  block->segment = segment;
  block->freed_at = 0;
  block->va.store(va, std::memory_order_relaxed);
  segment->Slot(va).store(block, std::memory_order_release);
  return block;
}

void Segments::DropBlock(Block* block) {
  block->segment->Slot(block->va.load(std::memory_order_relaxed)).store(nullptr, std::memory_order_relaxed);
  block->va.store(0, std::memory_order_relaxed);
  block->next_held = spare_blocks_;
  spare_blocks_ = block;
}

}  // namespace gpuroom
