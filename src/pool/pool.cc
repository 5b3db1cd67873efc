#include "pool/pool.h"

#include <algorithm>

#include "driver/in_context.h"

namespace gpuroom {

Pool::Pool(const Driver& driver, SegmentSource& source, PoolOptions options)
    : driver_(driver),
      source_(source),
      options_(std::move(options)),
      pending_(driver),
      routes_(central_),
      fronts_(central_) {
  central_.SetLimit(options_.limit);
}

Result<CUdeviceptr> Pool::Allocate(uint64_t bytes, CUstream stream) {
  if (bytes == 0) return Status(Code::kInvalidArgument, "a block of 0 bytes; ask for 1 or more");
  const StreamKey key = KeyOf(stream);
  if (bytes <= kClassMost && routes_.none()) {
    const Block* block = fronts_.Local().Take(key, ClassOf(bytes), bytes);
    if (block != nullptr) return block->va.load(std::memory_order_relaxed);
  }
  return AllocateSlow(bytes, key, stream);
}

// The order in which memory is looked for; each step costs more than the one before.
Result<CUdeviceptr> Pool::AllocateSlow(uint64_t bytes, StreamKey key, CUstream stream) {
  if (bytes > kRequestMost) {
    out_of_memory_.fetch_add(1, std::memory_order_relaxed);
    return Status(Code::kOutOfMemory, "more bytes than any device has");
  }
  const InContext here(driver_, options_.context);
  const Want want{RoundedBytes(bytes), key, stream, routes_.ArenaFor(stream)};
  Status why(Code::kOutOfMemory, "no memory for another segment");
  Block* block = FromStore(want);
  if (block == nullptr) block = Grow(want, SegmentSource::Where::kResident, &why);
  if (block == nullptr) block = AfterReclaim(want, Effort::kGain, &why);
  if (block == nullptr) block = TakeOver(want);
  if (block == nullptr && options_.may_spill) block = Grow(want, SegmentSource::Where::kAny, &why);
  if (block == nullptr) block = AfterReclaim(want, Effort::kAll, &why);
  if (block == nullptr) {
    out_of_memory_.fetch_add(1, std::memory_order_relaxed);
    return why;
  }
  fronts_.Local().CountAllocation(block, bytes);
  return block->va.load(std::memory_order_relaxed);
}

// Free memory that this stream may use as it is.
Block* Pool::FromStore(const Want& want) {
  CollectPending();
  Block* block = central_.Take(want);
  if (block != nullptr) return block;
  if (!want.arena->is_shared) return nullptr;
  // Small blocks of this thread's own may join to what is wanted.
  central_.PutAll(fronts_.Local().TakeAll());
  return central_.Take(want);
}

Block* Pool::Grow(const Want& want, SegmentSource::Where where, Status* why) {
  const uint64_t bytes = SegmentBytes(want.bytes);
  if (!central_.Reserve(bytes)) {
    *why = Status(Code::kOutOfMemory, "the pool's limit");
    return nullptr;
  }
  Result<CUdeviceptr> va = source_.Create(bytes, want.stream, where);
  if (!va.ok()) {
    central_.Unreserve(bytes);
    // Another error stands, whatever the next try comes to.
    if (why->code() == Code::kOutOfMemory) *why = va.status();
    return nullptr;
  }
  creates_.fetch_add(1, std::memory_order_relaxed);
  Block* block = nullptr;
  const bool aligned = IsMultiple(*va, kSegmentUnit);
  if (aligned && central_.Adopt(*va, bytes, want, where == SegmentSource::Where::kAny, &block)) return block;
  *why = aligned ? Status(Code::kOutOfMemory, "no host memory for a segment's table")
                 : Status(Code::kUnsupported, "a segment that is not at a multiple of 2 MiB");
  const auto destroy = [&] { return source_.Destroy(*va).ok() ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN; };
  if (Insist(destroy) == CUDA_SUCCESS) destroys_.fetch_add(1, std::memory_order_relaxed);
  central_.Unreserve(bytes);
  return nullptr;
}

Block* Pool::AfterReclaim(const Want& want, Effort effort, Status* why) {
  if (effort == Effort::kGain) retries_.fetch_add(1, std::memory_order_relaxed);
  Reclaim(effort);
  Block* block = central_.Take(want);
  return block != nullptr ? block : Grow(want, SegmentSource::Where::kResident, why);
}

Status Pool::Free(CUdeviceptr va, CUstream stream) {
  Block* block = central_.FindBlock(va);
  if (block == nullptr) return {Code::kNotFound, "no block of this pool begins at that address"};
  BlockState live = BlockState::kLive;
  if (!block->state.compare_exchange_strong(live, BlockState::kHeld, std::memory_order_acq_rel)) {
    return {Code::kInvalidArgument, "the block is free already"};
  }
  const StreamKey key = KeyOf(stream);
  if (!block->front || block->stream() != key || block->shared.load(std::memory_order_acquire)) {
    return FreeSlow(block, key);
  }
  Block* left = fronts_.Local().Put(block);
  if (left != nullptr) central_.PutAll(left);
  return {};
}

Status Pool::FreeSlow(Block* block, StreamKey key) {
  fronts_.Local().CountFree(block);
  std::vector<StreamKey> uses = pending_.TakeUses(block);
  if (key != block->stream()) uses.push_back(key);
  std::erase(uses, block->stream());
  std::sort(uses.begin(), uses.end());
  uses.erase(std::unique(uses.begin(), uses.end()), uses.end());
  if (uses.empty()) {
    central_.Put(block);
  } else {
    const InContext here(driver_, options_.context);
    pending_.Hold(block, std::move(uses), central_.Tick(), routes_.none());
  }
  return {};
}

Status Pool::RecordStream(CUdeviceptr va, CUstream stream) {
  Block* block = central_.FindBlock(va);
  if (block == nullptr || block->state.load(std::memory_order_acquire) != BlockState::kLive) {
    return {Code::kNotFound, "no block in use begins at that address"};
  }
  const StreamKey key = KeyOf(stream);
  if (key != block->stream()) pending_.AddUse(block, key);
  return {};
}

bool Pool::Find(CUdeviceptr inside, CUdeviceptr* base, uint64_t* bytes) const {
  return central_.Around(inside, base, bytes, true);
}

bool Pool::FindBlock(CUdeviceptr inside, CUdeviceptr* base, uint64_t* bytes) const {
  return central_.Around(inside, base, bytes, false);
}

PoolStats Pool::Stats() const {
  const auto count = [](const std::atomic<uint64_t>& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  const FrontStats front = fronts_.Stats();
  const CentralStats central = central_.Stats();
  PoolStats stats;
  stats.asked = static_cast<uint64_t>(std::max<int64_t>(front.asked, 0));
  stats.pending = pending_.bytes();
  stats.cached = front.cached;
  // What left the store and is in neither of these; others may have moved some meanwhile.
  stats.allocated = central.used - std::min(central.used, stats.pending + stats.cached);
  stats.active = stats.allocated + stats.pending;
  stats.reserved = central.reserved;
  stats.peak_reserved = central.peak_reserved;
  stats.peak_used = central.peak_used;
  stats.segments = central.segments;
  stats.spilled_segments = central.spilled_segments;
  stats.allocations = front.allocations;
  stats.frees = front.frees;
  stats.segment_creates = count(creates_);
  stats.segment_destroys = count(destroys_);
  stats.retries = count(retries_);
  stats.handovers = count(handovers_);
  stats.out_of_memory = count(out_of_memory_);
  return stats;
}

}  // namespace gpuroom
