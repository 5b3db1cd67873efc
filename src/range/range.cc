#include "range/range.h"

#include <algorithm>

#include "base/log.h"
#include "base/undo.h"

namespace headroom {

RangeBuilder::RangeBuilder(const Driver& driver, DeviceTier& device, HostTier& host)
    : driver_(driver), device_(device), host_(host), accessors_(uint64_t{1} << device.device()) {}

Result<std::unique_ptr<Range>> RangeBuilder::Build(uint64_t requested, CUcontext context) {
  RetryScrapped();
  if (requested > UINT64_MAX - kGranularity) return Status(Code::kOutOfMemory, "larger than any memory");
  auto range = std::make_unique<Range>();
  range->bytes = RoundUp(requested, kGranularity);
  range->requested = requested;
  range->context = context;
  range->device = device_.device();
  TierStates states = States();
  Result<Plan> plan = MakePlan(range->bytes, states);
  if (!plan.ok()) return plan.status();
  const CUresult reserved = driver_.MemAddressReserve(&range->va, range->bytes, 0, 0, 0);
  if (reserved != CUDA_SUCCESS) return DriverStatus(reserved, "cuMemAddressReserve");

  Status status = Fill(*range, *plan);
  if (status.code() == Code::kOutOfMemory && plan->front().tier == Tier::kDevice) {
    // Another process, or another thread, took what the plan counted on. What was
    // got stays; the rest goes to the host.
    const uint64_t rest = range->bytes - range->mapped;
    status = rest <= host_.Free() ? Fill(*range, {{Tier::kHost, rest}}) : status;
  }
  if (status.ok()) status = SetAccess(*range);
  if (!status.ok()) {
    if (!Unmap(*range).ok() || !Discard(*range).ok()) Scrap(std::move(range));
    return status;
  }
  return range;
}

Status RangeBuilder::Fill(Range& range, const Plan& plan) {
  for (const Piece& piece : plan) {
    for (uint64_t left = piece.bytes; left > 0;) {
      const uint64_t bytes = ChunkBytes(piece.tier, left);
      const Status status = AddChunk(range, piece.tier, bytes);
      if (!status.ok()) return status;
      left -= bytes;
    }
  }
  return Status();
}

Status RangeBuilder::AddChunk(Range& range, Tier tier, uint64_t bytes) {
  Result<Chunk> chunk = tier == Tier::kDevice ? device_.Create(bytes) : host_.Create(bytes);
  if (!chunk.ok()) return chunk.status();
  range.chunks.push_back(*chunk);  // Discard releases it, mapped or not
  const CUresult result = driver_.MemMap(range.va + range.mapped, bytes, 0, chunk->handle, 0);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemMap");
  range.mapped += bytes;
  if (tier == Tier::kHost) range.host_bytes += bytes;
  return Status();
}

Status RangeBuilder::SetAccess(const Range& range) {
  CUmemAccessDesc access[64];
  size_t count = 0;
  const uint64_t accessors = accessors_.load(std::memory_order_acquire);
  for (int device = 0; device < 64; ++device) {
    if ((accessors >> device & 1) == 0) continue;
    access[count++] = {{CU_MEM_LOCATION_TYPE_DEVICE, {device}}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  }
  return DriverStatus(driver_.MemSetAccess(range.va, range.mapped, access, count), "cuMemSetAccess");
}

Status RangeBuilder::Unmap(Range& range) {
  if (range.mapped == 0) return Status();
  const CUresult result = driver_.MemUnmap(range.va, range.mapped);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemUnmap");
  range.mapped = 0;
  return Status();
}

Status RangeBuilder::Discard(Range& range) {
  if (range.mapped != 0) return Status(Code::kBusy, "the range is still mapped");
  while (!range.chunks.empty()) {
    const Chunk& chunk = range.chunks.back();
    const Status status = chunk.tier == Tier::kDevice ? device_.Release(chunk) : host_.Release(chunk);
    if (!status.ok()) return status;
    range.chunks.pop_back();
  }
  if (range.va == 0) return Status();
  const CUresult result = driver_.MemAddressFree(range.va, range.bytes);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemAddressFree");
  range.va = 0;
  return Status();
}

void RangeBuilder::Scrap(std::unique_ptr<Range> range) {
  Log(LogLevel::kInfo, "a driver call failed while %llu bytes were given back; trying again later",
      static_cast<unsigned long long>(range->bytes));
  MutexLock lock(scrap_mutex_);
  scrap_.push_back(std::move(range));
}

void RangeBuilder::RetryScrapped() {
  MutexLock lock(scrap_mutex_);
  const auto gone = [this](const std::unique_ptr<Range>& range) {
    return Unmap(*range).ok() && Discard(*range).ok();
  };
  scrap_.erase(std::remove_if(scrap_.begin(), scrap_.end(), gone), scrap_.end());
}

Status RangeBuilder::AllowPeer(CUdevice peer, const std::vector<Range*>& existing) {
  if (peer < 0 || peer >= 64) return Status(Code::kInvalidArgument, "no such device");
  accessors_.fetch_or(uint64_t{1} << peer, std::memory_order_acq_rel);
  for (const Range* range : existing) {
    const Status status = SetAccess(*range);
    if (!status.ok()) return status;
  }
  return Status();
}

TierStates RangeBuilder::States() const {
  TierStates states{device_.FreeForChunks(), host_.Free()};
  if (!device_.budget().limited()) {
    // Without a limit the driver knows what is free; the reserve stays for small data.
    size_t free = 0;
    size_t total = 0;
    if (driver_.MemGetInfo(&free, &total) == CUDA_SUCCESS) {
      const uint64_t keep = device_.ReserveLeft();
      states.device_free = free > keep ? free - keep : 0;
    }
  }
  return states;
}

}  // namespace headroom
