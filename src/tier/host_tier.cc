#include "tier/host_tier.h"

#include <algorithm>
#include <vector>

#include "base/log.h"
#include "base/no_memory.h"
#include "base/size.h"
#include "tier/device_tier.h"
#include "tier/slow_memory.h"

namespace gpuroom {

uint64_t HostShare::Unclaimed() {
  if (ledger == nullptr) return local.free();
  const uint64_t claimed = look_->Others() + ledger->Own();
  return limit > claimed ? limit - claimed : 0;
}

void HostShare::Promise() {
  if (promise_ledger_ == nullptr || promised_.load(std::memory_order_acquire)) return;
  MutexLock lock(promise_mutex_);
  if (promised_.load(std::memory_order_relaxed)) return;
  claimed_part_ = ClaimPart();
  const uint64_t missing = limit - claimed_part_;
  if (missing > 0) {
    local.Claim(missing);
    Log(LogLevel::kWarn, "of a GPU's part of the host memory, %s, other processes hold %s already",
        FormatSize(limit).c_str(), FormatSize(missing).c_str());
  }
  promised_.store(true, std::memory_order_release);
}

HostShare::~HostShare() {
  if (claimed_part_ > 0) promise_ledger_->Release(claimed_part_);
}

// The bytes that it got. A ledger that fails promises nothing, and the process goes on as if it were alone.
uint64_t HostShare::ClaimPart() {
  uint64_t wanted = limit;
  for (int tries = 0; tries < 3 && wanted > 0; ++tries) {
    if (promise_ledger_->Claim(wanted, node_limit_).code() != Code::kOutOfMemory) return wanted;
    const uint64_t claimed = promise_ledger_->Others() + promise_ledger_->Own();
    wanted = std::min(limit, RoundDown(node_limit_ - std::min(node_limit_, claimed), kGranularity));
  }
  return 0;
}

HostTier::HostTier(const Driver& driver, int numa_node, HostShare& share)
    : driver_(driver),
      home_node_(numa_node),
      share_(share),
      place_(NodePlace(driver, numa_node)),
      views_(driver) {
  MutexLock lock(share_.stock_mutex_);
  share_.tiers_.push_back(this);
}

HostTier::~HostTier() {
  MutexLock lock(share_.stock_mutex_);
  share_.tiers_.erase(std::find(share_.tiers_.begin(), share_.tiers_.end(), this));
}

void HostTier::FindPlace(std::function<std::vector<int>()> other_nodes) {
  other_nodes_ = std::move(other_nodes);
  if (share_.limit > 0) place_ = FindHostPlace(driver_, home_node_, other_nodes_);
}

// A kept chunk of `at_least` to `bytes` bytes, or a new one of `bytes`.
Result<Chunk> HostTier::Get(uint64_t at_least, uint64_t bytes) {
  Chunk chunk;
  Status status = WithRoom(bytes, [&] {
    if (TakeKept(at_least, bytes, &chunk)) return Status();
    const Status made = CreateNew(bytes, &chunk);
    if (made.ok()) NoteInUse(bytes);
    return made;
  });
  // It was the driver that had no more, on one node of several.
  if (status.code() == Code::kOutOfMemory && status.native() != 0) status = CreateElsewhere(bytes, &chunk);
  if (!status.ok()) return status;
  return chunk;
}

bool HostTier::ClaimOther(uint64_t bytes) {
  return WithRoom(bytes, [&] { return ClaimShare(bytes); }).ok();
}

// What `take` gives. Where that has no room, kept chunks that it cannot use may be what is in the way.
template <typename Take>
Status HostTier::WithRoom(uint64_t bytes, Take take) {
  Status status = take();
  if (status.code() != Code::kOutOfMemory) return status;
  MutexLock lock(share_.stock_mutex_);
  do {
    status = take();
  } while (status.code() == Code::kOutOfMemory && MakeRoom(bytes, status) > 0);
  return status;
}

// Other nodes' chunks are in the way of the limit alone, not of this node's memory.
uint64_t HostTier::MakeRoom(uint64_t bytes, const Status& why) {
  uint64_t back = TrimBy(bytes);
  for (HostTier* tier : share_.tiers_) {
    if (back < bytes && tier != this && why.native() == 0) back += tier->TrimBy(bytes - back);
  }
  return back;
}

bool HostTier::TakeSmallestKept(Chunk* chunk) {
  MutexLock lock(mutex_);
  if (kept_.empty()) return false;
  HandOut(kept_.begin(), chunk);
  return true;
}

Status HostTier::Release(const Chunk& chunk) {
  bool kept = false;
  if (!chunk.exported) {
    MutexLock lock(mutex_);
    kept = kept_bytes_ + chunk.bytes <= share_.keep_limit;
    if (kept) {
      share_.stock_bytes_ += chunk.bytes;
      kept = Keep(chunk);
      if (!kept) share_.stock_bytes_ -= chunk.bytes;
    }
  }
  if (!kept) {
    const Status status = Destroy(chunk);
    if (!status.ok()) return status;
  }
  in_use_.Release(chunk.bytes);
  SlowMemory::Remove(chunk.bytes);
  return Status();
}

void HostTier::Trim() {
  MutexLock lock(share_.stock_mutex_);
  TrimBy(UINT64_MAX);
}

// Destroys kept chunks, one after the other, until `bytes` came back or none is left; returns how many did.
// The share's stock_mutex_ is held.
uint64_t HostTier::TrimBy(uint64_t bytes) {
  uint64_t back = 0;
  uint64_t failed_bytes = 0;
  Kept failed;
  while (back < bytes) {
    Kept::node_type kept = TakeToDestroy(bytes - back);
    if (kept.empty()) break;
    const Chunk chunk = kept.mapped();
    if (Destroy(chunk).ok()) {
      share_.stock_bytes_ -= chunk.bytes;
      back += chunk.bytes;
    } else {
      failed_bytes += chunk.bytes;
      failed.insert(std::move(kept));
    }
  }
  MutexLock lock(mutex_);
  kept_.merge(failed);  // still ours, for the next try
  kept_bytes_ += failed_bytes;
  return back;
}

// The smallest kept chunk of at least `bytes`; where there is none, the largest. Nothing, if none is kept.
HostTier::Kept::node_type HostTier::TakeToDestroy(uint64_t bytes) {
  MutexLock lock(mutex_);
  if (kept_.empty()) return {};
  const auto enough = kept_.lower_bound(bytes);
  return TakeOut(enough != kept_.end() ? enough : std::prev(enough));
}

// The chunk's note is made before the chunk. One that cannot be shown is of use all the same.
bool HostTier::CreateKept(uint64_t bytes, CUdevice device) try {
  Kept note;
  Chunk& chunk = note.emplace(bytes, Chunk())->second;
  MutexLock making(share_.stock_mutex_);
  if (!ClaimShare(bytes).ok()) return false;
  share_.stock_bytes_ += bytes;
  if (!CreateClaimed(place_, bytes, &chunk).ok()) {
    share_.stock_bytes_ -= bytes;
    return false;
  }
  if (device >= 0) (void)OrNoMemory([&] { return views_.Show({chunk}, device); });
  MutexLock lock(mutex_);
  kept_.merge(note);
  kept_bytes_ += bytes;
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

// What is claimed or given back between the looks is counted twice rather than not at all: who asked for
// too much is told so by Create, and who was told too little would not ask.
uint64_t HostTier::FreeOfLimit() const {
  const uint64_t before = share_.stock_bytes_;
  const uint64_t unclaimed = share_.Unclaimed();
  return std::min(share_.limit, unclaimed + std::max<uint64_t>(before, share_.stock_bytes_));
}

// The largest kept chunk of `at_least` to `at_most` bytes.
bool HostTier::TakeKept(uint64_t at_least, uint64_t at_most, Chunk* chunk) {
  MutexLock lock(mutex_);
  const auto next = kept_.upper_bound(at_most);
  if (next == kept_.begin() || std::prev(next)->first < at_least) return false;
  HandOut(std::prev(next), chunk);
  return true;
}

void HostTier::HandOut(Kept::iterator kept, Chunk* chunk) {
  *chunk = TakeOut(kept).mapped();
  share_.stock_bytes_ -= chunk->bytes;
  NoteInUse(chunk->bytes);
}

HostTier::Kept::node_type HostTier::TakeOut(Kept::iterator kept) {
  kept_bytes_ -= kept->second.bytes;
  return kept_.extract(kept);
}

void HostTier::NoteInUse(uint64_t bytes) {
  in_use_.Claim(bytes);
  SlowMemory::Add(bytes);
}

bool HostTier::Keep(const Chunk& chunk) {
  try {
    kept_.emplace(chunk.bytes, chunk);
  } catch (const std::bad_alloc&) {
    return false;
  }
  kept_bytes_ += chunk.bytes;
  return true;
}

Status HostTier::CreateNew(uint64_t bytes, Chunk* chunk) {
  // The driver's word, not the limit's: what other tiers keep is not in the way.
  if (place_.refused) return DriverStatus(CUDA_ERROR_OUT_OF_MEMORY, "host memory, which the driver refuses");
  const Status claimed = ClaimShare(bytes);
  return claimed.ok() ? CreateClaimed(place_, bytes, chunk) : claimed;
}

// On the nearest other node that has so much.
Status HostTier::CreateElsewhere(uint64_t bytes, Chunk* chunk) {
  Status status = DriverStatus(CUDA_ERROR_OUT_OF_MEMORY, "cuMemCreate on the host");
  const bool on_node = !place_.refused && place_.type == CU_MEM_LOCATION_TYPE_HOST_NUMA;
  if (!on_node || !other_nodes_) return status;
  for (const int node : other_nodes_()) {
    if (node == place_.node) continue;
    status = ClaimShare(bytes);
    if (status.ok()) status = CreateClaimed(NodePlace(driver_, node), bytes, chunk);
    if (status.ok()) NoteInUse(bytes);
    if (status.code() != Code::kOutOfMemory || status.native() == 0) return status;
  }
  return status;
}

// On failure the claim is given back. Whatever the driver has against it, there is no memory here.
Status HostTier::CreateClaimed(const HostPlace& place, uint64_t bytes, Chunk* chunk) {
  *chunk = {0, bytes, Tier::kHost, place.node};
  const CUresult result = CreateAt(driver_, place, bytes, &chunk->handle);
  if (result == CUDA_SUCCESS) return Status();
  ReleaseShare(bytes);
  if (RefusesMemory(result)) return Status(Code::kOutOfMemory, "cuMemCreate on the host", result);
  return DriverStatus(result, "cuMemCreate on the host");
}

Status HostTier::Destroy(const Chunk& chunk) {
  const Status dropped = views_.Drop(chunk);
  if (!dropped.ok()) return dropped;
  const CUresult result = driver_.MemRelease(chunk.handle);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemRelease of a host chunk");
  ReleaseShare(chunk.bytes);
  return Status();
}

Status HostTier::ClaimShare(uint64_t bytes) {
  const Status full(Code::kOutOfMemory, "the host budget is used up");
  share_.Promise();
  if (share_.ledger == nullptr) return share_.local.Claim(bytes) ? Status() : full;
  const Status status = share_.ledger->Claim(bytes, share_.limit);
  if (status.ok()) return status;
  if (status.code() != Code::kOutOfMemory) {
    Log(LogLevel::kWarn, "the node ledger failed (%s); no more host memory is taken", status.what());
  }
  return full;
}

void HostTier::ReleaseShare(uint64_t bytes) {
  if (share_.ledger == nullptr) {
    share_.local.Release(bytes);
  } else {
    share_.ledger->Release(bytes);
  }
}

}  // namespace gpuroom
