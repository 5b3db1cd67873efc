#include "tier/host_tier.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/undo.h"
#include "tier/device_tier.h"

namespace headroom {

namespace {

constexpr uint64_t kOthersMaxAge = 20000000;  // nanoseconds

}  // namespace

uint64_t HostShare::Unclaimed() {
  if (ledger == nullptr) return local.free();
  const uint64_t now = CoarseNanoseconds();
  if (now - others_time_.load(std::memory_order_relaxed) > kOthersMaxAge) {
    const uint64_t own = ledger->Own();
    const uint64_t total = ledger->Total();
    others_.store(total > own ? total - own : 0, std::memory_order_relaxed);
    others_time_.store(now, std::memory_order_relaxed);
  }
  const uint64_t claimed = others_.load(std::memory_order_relaxed) + ledger->Own();
  return limit > claimed ? limit - claimed : 0;
}

HostTier::HostTier(const Driver& driver, int numa_node, HostShare& share)
    : driver_(driver),
      numa_node_(numa_node),
      share_(share),
      exportable_(ExportableHandleType(driver, 0)),
      views_(driver) {}

Result<Chunk> HostTier::Create(uint64_t bytes) {
  Chunk chunk;
  if (!TakeKept(bytes, bytes, &chunk)) {
    Status status = CreateNew(bytes, &chunk);
    if (status.code() == Code::kOutOfMemory) {
      Trim();  // kept chunks of other sizes may be what is in the way
      status = CreateNew(bytes, &chunk);
    }
    if (!status.ok()) return status;
  }
  in_use_.Claim(chunk.bytes);
  return chunk;
}

Result<Chunk> HostTier::CreateUpTo(uint64_t bytes) {
  Chunk chunk;
  if (TakeKeptUpTo(bytes, &chunk)) return chunk;
  return Create(bytes);
}

bool HostTier::TakeKeptUpTo(uint64_t bytes, Chunk* chunk) {
  if (!TakeKept(0, bytes, chunk)) return false;
  in_use_.Claim(chunk->bytes);
  return true;
}

bool HostTier::TakeSmallestKept(Chunk* chunk) {
  {
    MutexLock lock(mutex_);
    if (kept_.empty()) return false;
    HandOut(kept_.begin(), chunk);
  }
  in_use_.Claim(chunk->bytes);
  return true;
}

Status HostTier::Release(const Chunk& chunk) {
  bool kept = false;
  if (!chunk.exported) {
    MutexLock lock(mutex_);
    if (kept_bytes_ + chunk.bytes <= share_.keep_limit) {
      kept_.emplace(chunk.bytes, chunk);
      kept_bytes_ += chunk.bytes;
      kept = true;
    }
  }
  if (!kept) {
    const Status status = Destroy(chunk);
    if (!status.ok()) return status;
  }
  in_use_.Release(chunk.bytes);
  return Status();
}

void HostTier::Trim() {
  std::multimap<uint64_t, Chunk> kept;
  {
    MutexLock lock(mutex_);
    kept.swap(kept_);
    kept_bytes_ = 0;
  }
  for (const auto& [bytes, chunk] : kept) {
    if (Destroy(chunk).ok()) continue;
    MutexLock lock(mutex_);  // still ours: keep it for the next try
    kept_.emplace(bytes, chunk);
    kept_bytes_ += bytes;
  }
}

// One that cannot be shown is of use all the same.
bool HostTier::CreateKept(uint64_t bytes, CUdevice device) {
  Chunk chunk;
  if (!CreateNew(bytes, &chunk).ok()) return false;
  if (device >= 0) (void)views_.Show({chunk}, device);
  MutexLock lock(mutex_);
  kept_.emplace(chunk.bytes, chunk);
  kept_bytes_ += chunk.bytes;
  return true;
}

uint64_t HostTier::Free() const { return share_.Unclaimed() + kept_bytes_.load(std::memory_order_relaxed); }

// The largest kept chunk of `at_least` to `at_most` bytes.
bool HostTier::TakeKept(uint64_t at_least, uint64_t at_most, Chunk* chunk) {
  MutexLock lock(mutex_);
  auto next = kept_.upper_bound(at_most);
  if (next == kept_.begin() || std::prev(next)->first < at_least) return false;
  HandOut(std::prev(next), chunk);
  return true;
}

void HostTier::HandOut(std::multimap<uint64_t, Chunk>::iterator kept, Chunk* chunk) {
  *chunk = kept->second;
  kept_.erase(kept);
  kept_bytes_ -= chunk->bytes;
}

Status HostTier::CreateNew(uint64_t bytes, Chunk* chunk) {
  if (!ClaimShare(bytes)) return Status(Code::kOutOfMemory, "the host budget is used up");
  Undo give_back([&] { ReleaseShare(bytes); });
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
  properties.location.id = numa_node_;
  properties.requestedHandleTypes = exportable_;
  *chunk = {0, bytes, Tier::kHost, numa_node_};
  const CUresult result = driver_.MemCreate(&chunk->handle, bytes, &properties, 0);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemCreate on the host");
  give_back.Dismiss();
  return Status();
}

Status HostTier::Destroy(const Chunk& chunk) {
  const Status dropped = views_.Drop(chunk);
  if (!dropped.ok()) return dropped;
  const CUresult result = driver_.MemRelease(chunk.handle);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemRelease of a host chunk");
  ReleaseShare(chunk.bytes);
  return Status();
}

bool HostTier::ClaimShare(uint64_t bytes) {
  if (share_.ledger == nullptr) return share_.local.Claim(bytes);
  const Status status = share_.ledger->Claim(bytes, share_.limit);
  if (!status.ok() && status.code() != Code::kOutOfMemory) {
    Log(LogLevel::kWarn, "the node ledger failed (%s); no more host memory is taken", status.what());
  }
  return status.ok();
}

void HostTier::ReleaseShare(uint64_t bytes) {
  if (share_.ledger == nullptr) {
    share_.local.Release(bytes);
  } else {
    share_.ledger->Release(bytes);
  }
}

}  // namespace headroom
