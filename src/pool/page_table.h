// PageTable: from any address to the segment that covers it, without a lock. Two
// levels over 2 MiB pages of a 57-bit address space; a level is 2 MiB of zeros
// that the system provides as they are touched.
//
// Find from any thread. Set and Clear one at a time (Central's lock).
#pragma once

#include <atomic>

#include "pool/block.h"

namespace gpuroom {

class PageTable {
 public:
  PageTable();
  ~PageTable();
  PageTable(const PageTable&) = delete;
  PageTable& operator=(const PageTable&) = delete;

  // false: no host memory for it; nothing changed that Find could see.
  bool Set(CUdeviceptr va, uint64_t bytes, Segment* segment);
  void Clear(CUdeviceptr va, uint64_t bytes);

  Segment* Find(CUdeviceptr at) const {
    if (root_ == nullptr || at >> kAddressBits != 0) return nullptr;
    const Leaf leaf = root_[at >> (kPageBits + kLevelBits)].load(std::memory_order_acquire);
    if (leaf == nullptr) return nullptr;
    return leaf[(at >> kPageBits) & (kEntries - 1)].load(std::memory_order_acquire);
  }

  // The block that begins at `va`, in whatever state; null: none does.
  Block* FindBlock(CUdeviceptr va) const {
    Segment* segment = Find(va);
    if (segment == nullptr) return nullptr;
    const uint64_t offset = va - segment->va.load(std::memory_order_relaxed);
    const uint64_t slot = offset >> segment->shift.load(std::memory_order_relaxed);
    if (slot >= segment->capacity) return nullptr;
    Block* block = segment->slots[slot].load(std::memory_order_acquire);
    if (block == nullptr || block->va.load(std::memory_order_relaxed) != va) return nullptr;
    return block;
  }

 private:
  static constexpr int kAddressBits = 57;
  static constexpr int kPageBits = 21;
  static constexpr int kLevelBits = 18;
  static constexpr uint64_t kEntries = uint64_t{1} << kLevelBits;
  using Leaf = std::atomic<Segment*>*;

  bool MakeLeaf(uint64_t index);

  std::atomic<Leaf>* root_ = nullptr;
};

}  // namespace gpuroom
