// Where a pool gets memory from when there is little: waiting, giving segments back, other streams.
#include "base/log.h"
#include "driver/in_context.h"
#include "pool/pool.h"

namespace gpuroom {

// Blocks whose events are done go to the store. Not while a private pool is being captured for.
void Pool::CollectPending() {
  if (!pending_.empty() && routes_.none()) central_.PutAll(pending_.Done());
}

Status Pool::WaitForDevice() const {
  if (options_.synchronize) return options_.synchronize();
  return DriverStatus(driver_.CtxSynchronize(), "waiting for the device");
}

// Waits until the device is idle. What was freed at or before `*cut` is then nobody's.
Status Pool::Quiet(uint64_t* cut) {
  const MutexLock lock(quiet_mutex_);
  if (!routes_.none()) return {Code::kBusy, "waiting for the device during a capture"};
  *cut = central_.Now();
  return WaitForDevice();
}

// The source may wait for the device, so this is not done while a private pool is being captured for.
bool Pool::Destroy(const Segment& segment) {
  const MutexLock lock(quiet_mutex_);
  return routes_.none() && source_.Destroy(segment.va.load(std::memory_order_relaxed)).ok();
}

uint64_t Pool::DestroyIdle() {
  if (!routes_.none()) return 0;
  uint64_t bytes = 0;
  for (Segment* segment : central_.TakeIdleSegments()) {
    if (!Destroy(*segment)) {
      central_.Restore(segment);
      continue;
    }
    bytes += segment->bytes;
    destroys_.fetch_add(1, std::memory_order_relaxed);
    central_.Forget(segment);
  }
  return bytes;
}

// Gives back what nobody uses, on any thread.
uint64_t Pool::Reclaim(Effort effort) {
  central_.PutAll(fronts_.TakeAll());
  CollectPending();
  uint64_t cut = 0;
  const bool wait = effort == Effort::kAll || !pending_.empty() || central_.WouldGainFromIdle();
  if (wait && Quiet(&cut).ok()) {
    central_.MarkIdle(cut);
    central_.PutIdle(pending_.DoneBefore(cut));
  }
  return DestroyIdle();
}

uint64_t Pool::Trim() {
  const InContext here(driver_, options_.context);
  return Reclaim(Effort::kAll);
}

// Another stream's free block: the wanting stream waits for what the other one has now.
Block* Pool::TakeOver(const Want& want) {
  if (!want.arena->is_shared || !routes_.none()) return nullptr;
  std::vector<StreamKey> refused;
  while (Block* block = central_.TakeForeign(want, refused)) {
    if (pending_.Order(block->stream(), want.stream)) {
      block->key.store(want.key, std::memory_order_relaxed);
      handovers_.fetch_add(1, std::memory_order_relaxed);
      return block;
    }
    refused.push_back(block->stream());
    central_.Put(block);
  }
  return nullptr;
}

void Pool::BeginAllocateTo(PoolId id, StreamFilter filter) {
  const MutexLock lock(quiet_mutex_);
  routes_.Begin(id, std::move(filter));
}

Status Pool::StreamEnds(CUstream stream) {
  const InContext here(driver_, options_.context);
  const StreamKey key = KeyOf(stream);
  central_.PutAll(fronts_.TakeAll());
  CollectPending();
  const uint64_t cut = central_.Now();
  const Status waited = pending_.Synchronize(stream);
  if (!waited.ok()) return waited;
  central_.PutAll(pending_.DoneWith(key, cut));
  central_.MarkIdle(cut, &key);
  central_.Orphan(key);
  return {};
}

Pool::~Pool() {
  const InContext here(driver_, options_.context);
  const std::vector<CUdeviceptr> segments = central_.AllSegments();
  if (segments.empty()) return;
  if (!WaitForDevice().ok()) {
    Log(LogLevel::kWarn, "a memory pool keeps %zu segments: the device could not be waited for",
        segments.size());
    return;
  }
  for (const CUdeviceptr va : segments) {
    const auto destroyed = [&] { return source_.Destroy(va).ok() ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN; };
    if (Insist(destroyed) != CUDA_SUCCESS) {
      Log(LogLevel::kWarn, "a memory pool could not give a segment back at 0x%llx", va);
    }
  }
}

}  // namespace gpuroom
