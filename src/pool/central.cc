#include "pool/central.h"

#include <algorithm>

namespace gpuroom {
namespace {

// Whether two free neighbours may be one block: it would have `*key`.
bool CanJoin(const Block& a, const Block& b, StreamKey* key) {
  if (a.state.load(std::memory_order_relaxed) != BlockState::kFree ||
      b.state.load(std::memory_order_relaxed) != BlockState::kFree) {
    return false;
  }
  if (a.stream() != b.stream() && a.stream() != kIdleKey && b.stream() != kIdleKey) return false;
  *key = a.stream() == kIdleKey ? b.stream() : a.stream();
  return true;
}

uint64_t UnitOf(uint64_t segment_bytes) { return segment_bytes <= kSmallSegment ? kUnitBytes : kLargeUnit; }

}  // namespace

// Makes one block of `block` and the one after it where that may be, both off their
// shelves; the result is `block`.
Block* Central::JoinAfter(Block* block) {
  Block* next = block->after;
  StreamKey key = kIdleKey;
  if (next == nullptr || !CanJoin(*block, *next, &key)) return block;
  block->segment->arena->Erase(next);
  block->key.store(key, std::memory_order_relaxed);
  block->bytes += next->bytes;
  block->freed_at = std::max(block->freed_at, next->freed_at);
  block->after = next->after;
  if (next->after != nullptr) next->after->before = block;
  objects_.DropBlock(next);
  return block;
}

// Puts a free block that is on no shelf where it belongs, joined with its neighbours.
void Central::Shelve(Block* block) {
  block = JoinAfter(block);
  StreamKey key = kIdleKey;
  if (block->before != nullptr && CanJoin(*block->before, *block, &key)) {
    Block* before = block->before;
    before->segment->arena->Erase(before);
    before->segment->arena->Insert(block);  // where JoinAfter looks for it
    block = JoinAfter(before);
  }
  block->segment->arena->Insert(block);
}

void Central::PutLocked(Block* block) {
  Segment& segment = *block->segment;
  if (segment.after_graph) block->key.store(kUnorderedKey, std::memory_order_relaxed);
  block->freed_at = Tick();
  block->asked = 0;
  block->next_held = nullptr;
  block->front = false;
  block->shared.store(false, std::memory_order_relaxed);
  block->state.store(BlockState::kFree, std::memory_order_relaxed);
  --segment.out;
  stats_.used -= block->bytes;
  Shelve(block);
}

void Central::Put(Block* block) {
  const MutexLock lock(mutex_);
  PutLocked(block);
}

void Central::PutAll(Block* chain) {
  if (chain == nullptr) return;
  const MutexLock lock(mutex_);
  while (chain != nullptr) {
    Block* next = chain->next_held;
    PutLocked(chain);
    chain = next;
  }
}

void Central::PutIdle(Block* chain) {
  if (chain == nullptr) return;
  const MutexLock lock(mutex_);
  while (chain != nullptr) {
    Block* next = chain->next_held;
    // A private pool's graphs may be launched again.
    if (chain->segment->arena->is_shared) chain->key.store(kIdleKey, std::memory_order_relaxed);
    PutLocked(chain);
    chain = next;
  }
}

// Takes a free block off its shelf and cuts it to size; what remains stays free.
Block* Central::Cut(Block* block, const Want& want) {
  Segment& segment = *block->segment;
  segment.arena->Erase(block);
  if (block->bytes > want.bytes) {
    const CUdeviceptr va = block->va.load(std::memory_order_relaxed);
    Block* rest = objects_.NewBlock(&segment, va + want.bytes, block->bytes - want.bytes);
    if (rest == nullptr) {
      segment.arena->Insert(block);
      return nullptr;
    }
    rest->key.store(block->stream(), std::memory_order_relaxed);
    rest->state.store(BlockState::kFree, std::memory_order_relaxed);
    rest->freed_at = block->freed_at;
    rest->before = block;
    rest->after = block->after;
    if (rest->after != nullptr) rest->after->before = rest;
    block->after = rest;
    block->bytes = want.bytes;
    segment.arena->Insert(rest);
  }
  block->state.store(BlockState::kHeld, std::memory_order_relaxed);
  block->front = segment.arena->is_shared && !segment.after_graph && block->bytes <= kClassMost;
  if (block->front) block->size_class = static_cast<uint8_t>(ClassOf(block->bytes));
  ++segment.out;
  stats_.used += block->bytes;
  stats_.peak_used = std::max(stats_.peak_used, stats_.used);
  return block;
}

Block* Central::Take(const Want& want) {
  const MutexLock lock(mutex_);
  const Kind kind = KindOf(want.bytes);
  Block* best = want.arena->Best(kind, want.key, want.bytes);
  Block* idle = want.arena->Best(kind, kIdleKey, want.bytes);
  if (best == nullptr || (idle != nullptr && idle->bytes < best->bytes)) best = idle;
  if (best == nullptr) return nullptr;
  Block* block = Cut(best, want);
  if (block != nullptr) block->key.store(want.key, std::memory_order_relaxed);
  return block;
}

Block* Central::TakeForeign(const Want& want, const std::vector<StreamKey>& except) {
  const MutexLock lock(mutex_);
  Block* best = nullptr;
  for (const auto& [name, shelf] : shared_.shelves) {
    CUstream unused = nullptr;
    if (name.first != KindOf(want.bytes) || !RecordableHandle(name.second, &unused)) continue;
    if (std::find(except.begin(), except.end(), name.second) != except.end()) continue;
    Block* here = shared_.Best(name.first, name.second, want.bytes);
    if (here != nullptr && (best == nullptr || here->bytes < best->bytes)) best = here;
  }
  return best == nullptr ? nullptr : Cut(best, want);
}

bool Central::Reserve(uint64_t bytes) {
  const MutexLock lock(mutex_);
  if (stats_.reserved > limit_ || bytes > limit_ - stats_.reserved) return false;
  stats_.reserved += bytes;
  stats_.peak_reserved = std::max(stats_.peak_reserved, stats_.reserved);
  return true;
}

void Central::Unreserve(uint64_t bytes) {
  const MutexLock lock(mutex_);
  stats_.reserved -= bytes;
}

void Central::SetLimit(uint64_t bytes) {
  const MutexLock lock(mutex_);
  limit_ = bytes;
}

bool Central::Adopt(CUdeviceptr va, uint64_t bytes, const Want& want, bool spilled, Block** block) {
  const MutexLock lock(mutex_);
  Segment* segment = objects_.NewSegment(va, bytes, UnitOf(bytes));
  if (segment == nullptr) return false;
  segment->arena = want.arena;
  segment->spilled = spilled;
  Block* whole = objects_.NewBlock(segment, va, bytes);
  if (whole == nullptr || !pages_.Set(va, bytes, segment)) {
    if (whole != nullptr) objects_.DropBlock(whole);
    objects_.DropSegment(segment);
    return false;
  }
  whole->key.store(want.key, std::memory_order_relaxed);
  whole->freed_at = Tick();
  segment->first = whole;
  want.arena->segments.insert(segment);
  ++stats_.segments;
  stats_.spilled_segments += spilled ? 1 : 0;
  want.arena->Insert(whole);
  *block = Cut(whole, want);
  return true;
}

bool Central::Around(CUdeviceptr at, CUdeviceptr* base, uint64_t* bytes, bool whole_segment) const {
  const MutexLock lock(mutex_);
  const Segment* segment = pages_.Find(at);
  if (segment == nullptr) return false;
  const Block* block = segment->first;
  while (block != nullptr && at - block->va.load(std::memory_order_relaxed) >= block->bytes) {
    block = block->after;
  }
  if (block == nullptr || block->state.load(std::memory_order_acquire) != BlockState::kLive) return false;
  *base =
      whole_segment ? segment->va.load(std::memory_order_relaxed) : block->va.load(std::memory_order_relaxed);
  *bytes = whole_segment ? segment->bytes : block->bytes;
  return true;
}

CentralStats Central::Stats() const {
  const MutexLock lock(mutex_);
  return stats_;
}

}  // namespace gpuroom
