// What Central does when work is known to be over: idle blocks, whole segments, private pools.
#include <algorithm>

#include "pool/central.h"

namespace gpuroom {
namespace {

bool IsFree(const Block& block) { return block.state.load(std::memory_order_relaxed) == BlockState::kFree; }

bool IsIdle(const Block* block) { return block != nullptr && IsFree(*block) && block->stream() == kIdleKey; }

bool IsWholeAndIdle(const Segment& segment) {
  return IsIdle(segment.first) && segment.first->after == nullptr;
}

}  // namespace

// Joins idle blocks with idle neighbours alone: others would take away what was gained.
void Central::JoinIdle(Segment* segment) {
  for (Block* block = segment->first; block != nullptr; block = block->after) {
    if (!IsIdle(block) || !IsIdle(block->after)) continue;
    segment->arena->Erase(block);
    while (IsIdle(block->after)) JoinAfter(block);
    segment->arena->Insert(block);
  }
}

void Central::MarkIdle(uint64_t cut, const StreamKey* only) {
  const MutexLock lock(mutex_);
  for (Segment* segment : shared_.segments) {
    for (Block* block = segment->first; block != nullptr; block = block->after) {
      if (!IsFree(*block) || block->freed_at > cut || block->stream() == kIdleKey) continue;
      if (only != nullptr && *only != block->stream()) continue;
      shared_.Erase(block);
      block->key.store(kIdleKey, std::memory_order_relaxed);
      shared_.Insert(block);
    }
    if (only == nullptr && segment->released_at <= cut) segment->after_graph = false;
    JoinIdle(segment);
  }
}

void Central::Orphan(StreamKey key) {
  const MutexLock lock(mutex_);
  for (const Segment* segment : shared_.segments) {
    for (Block* block = segment->first; block != nullptr; block = block->after) {
      if (!IsFree(*block) && block->stream() == key) block->key.store(kIdleKey, std::memory_order_relaxed);
    }
  }
}

bool Central::WouldGainFromIdle() const {
  const MutexLock lock(mutex_);
  const auto no_event = [](const auto& entry) {
    CUstream unused = nullptr;
    return entry.first.second != kIdleKey && !RecordableHandle(entry.first.second, &unused);
  };
  const auto whole = [](const Segment* segment) { return segment->out == 0 && !IsWholeAndIdle(*segment); };
  return std::any_of(shared_.segments.begin(), shared_.segments.end(), whole) ||
         std::any_of(shared_.shelves.begin(), shared_.shelves.end(), no_event);
}

std::vector<Segment*> Central::TakeIdleSegments() {
  const MutexLock lock(mutex_);
  std::vector<Segment*> taken;
  for (Segment* segment : shared_.segments) {
    if (IsWholeAndIdle(*segment)) taken.push_back(segment);
  }
  for (Segment* segment : taken) {
    shared_.Erase(segment->first);
    segment->first->state.store(BlockState::kHeld, std::memory_order_relaxed);
    shared_.segments.erase(segment);
    pages_.Clear(segment->va.load(std::memory_order_relaxed), segment->bytes);
    --stats_.segments;
  }
  return taken;
}

void Central::Forget(Segment* segment) {
  const MutexLock lock(mutex_);
  stats_.reserved -= segment->bytes;
  stats_.spilled_segments -= segment->spilled ? 1 : 0;
  objects_.DropBlock(segment->first);
  segment->first = nullptr;
  objects_.DropSegment(segment);
}

void Central::Restore(Segment* segment) {
  const MutexLock lock(mutex_);
  // Its levels of the table are there from before, so that this cannot fail.
  pages_.Set(segment->va.load(std::memory_order_relaxed), segment->bytes, segment);
  shared_.segments.insert(segment);
  segment->first->state.store(BlockState::kFree, std::memory_order_relaxed);
  shared_.Insert(segment->first);
  ++stats_.segments;
}

Arena* Central::NewArena() {
  const MutexLock lock(mutex_);
  if (spare_arenas_.empty()) {
    arenas_.push_back(std::make_unique<Arena>());
    return arenas_.back().get();
  }
  Arena* arena = spare_arenas_.back();
  spare_arenas_.pop_back();
  return arena;
}

void Central::Unorder(Segment* segment, Arena& from) {
  segment->after_graph = true;
  segment->released_at = Tick();
  for (Block* block = segment->first; block != nullptr; block = block->after) {
    if (IsFree(*block)) from.Erase(block);
  }
  segment->arena = &shared_;
  for (Block* block = segment->first; block != nullptr; block = block->after) {
    if (!IsFree(*block)) continue;
    block->key.store(kUnorderedKey, std::memory_order_relaxed);
    block->freed_at = segment->released_at;
    shared_.Insert(block);
  }
  shared_.segments.insert(segment);
}

void Central::Release(Arena* arena) {
  const MutexLock lock(mutex_);
  for (Segment* segment : arena->segments) Unorder(segment, *arena);
  arena->segments.clear();
  arena->shelves.clear();
  spare_arenas_.push_back(arena);
}

std::vector<CUdeviceptr> Central::AllSegments() const {
  const MutexLock lock(mutex_);
  std::vector<CUdeviceptr> all;
  const auto add = [&all](const Arena& arena) {
    for (const Segment* segment : arena.segments) all.push_back(segment->va.load(std::memory_order_relaxed));
  };
  add(shared_);
  for (const auto& arena : arenas_) add(*arena);
  return all;
}

}  // namespace gpuroom
