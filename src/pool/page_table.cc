#include "pool/page_table.h"

#include <sys/mman.h>

namespace gpuroom {
namespace {

// Zeros read as null atomics; that is what makes a fresh level valid.
static_assert(sizeof(std::atomic<void*>) == sizeof(void*) && std::atomic<void*>::is_always_lock_free);

void* MapZeros(uint64_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : at;
}

}  // namespace

PageTable::PageTable() : root_(static_cast<std::atomic<Leaf>*>(MapZeros(kEntries * sizeof(Leaf)))) {}

PageTable::~PageTable() {
  if (root_ == nullptr) return;
  for (uint64_t i = 0; i < kEntries; ++i) {
    const Leaf leaf = root_[i].load(std::memory_order_relaxed);
    if (leaf != nullptr) munmap(static_cast<void*>(leaf), kEntries * sizeof(leaf[0]));
  }
  munmap(static_cast<void*>(root_), kEntries * sizeof(Leaf));
}

bool PageTable::MakeLeaf(uint64_t index) {
  if (root_[index].load(std::memory_order_relaxed) != nullptr) return true;
  const auto leaf = static_cast<Leaf>(MapZeros(kEntries * sizeof(std::atomic<Segment*>)));
  if (leaf == nullptr) return false;
  root_[index].store(leaf, std::memory_order_release);
  return true;
}

bool PageTable::Set(CUdeviceptr va, uint64_t bytes, Segment* segment) {
  const uint64_t first = va >> kPageBits;
  const uint64_t last = (va + bytes - 1) >> kPageBits;
  if (root_ == nullptr || last >> (2 * kLevelBits) != 0) return false;
  for (uint64_t i = first >> kLevelBits; i <= last >> kLevelBits; ++i) {
    if (!MakeLeaf(i)) return false;
  }
  for (uint64_t page = first; page <= last; ++page) {
    const Leaf leaf = root_[page >> kLevelBits].load(std::memory_order_relaxed);
    leaf[page & (kEntries - 1)].store(segment, std::memory_order_release);
  }
  return true;
}

void PageTable::Clear(CUdeviceptr va, uint64_t bytes) { Set(va, bytes, nullptr); }

}  // namespace gpuroom
