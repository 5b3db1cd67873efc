#include "range/range.h"

#include <algorithm>
#include <atomic>

#include "base/undo.h"
#include "driver/scrap.h"

namespace gpuroom {
namespace {

constexpr int kMaxPeers = 64;  // bits of an access mask

uint64_t NextOrder() {
  static std::atomic<uint64_t> next{0};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

Placed::Placed() : order(NextOrder()) {}

void Placed::CountTiers() {
  host_bytes = BytesIn(Tier::kHost, chunks);
  peer_bytes = BytesIn(Tier::kPeer, chunks);
}

RangeBuilder::RangeBuilder(const Driver& driver, ChunkSource& source, CUdevice device)
    : driver_(driver), source_(source), device_(device), accessors_(uint64_t{1} << device) {}

Result<std::unique_ptr<Range>> RangeBuilder::Build(const RangeRequest& request) {
  return Make(request, [&](Range& range) {
    PlanRequest plan = request.plan;
    plan.bytes = range.bytes;
    return source_.Create(plan, &range.chunks);
  });
}

Result<std::unique_ptr<Range>> RangeBuilder::BuildFrom(const RangeRequest& request, const Plan& plan) {
  return Make(request, [&](Range& range) { return source_.CreateFrom(plan, &range.chunks); });
}

template <typename CreateChunks>
Result<std::unique_ptr<Range>> RangeBuilder::Make(const RangeRequest& request, CreateChunks create) {
  RetryScrap();
  if (request.bytes > UINT64_MAX - kGranularity) return Status(Code::kOutOfMemory, "larger than any memory");
  auto range = std::make_unique<Range>();
  range->bytes = RoundUp(request.bytes, kGranularity);
  range->requested = request.bytes;
  range->context = request.context;
  range->device = device_;
  range->hint = request.plan.hint;
  // Also where the host has no memory for the records, and an exception ends this.
  Undo give_back([&] { Discard(std::move(range)); });
  Status status = create(*range);
  if (status.ok()) status = Map(*range);
  if (!status.ok()) return status;
  give_back.Dismiss();
  return range;
}

Status RangeBuilder::Map(Range& range) {
  range.CountTiers();
  const CUresult reserved = driver_.MemAddressReserve(&range.va, range.bytes, 0, 0, 0);
  if (reserved != CUDA_SUCCESS) return DriverStatus(reserved, "cuMemAddressReserve");
  const Status status = MapChunks(driver_, range.va, range.chunks, &range.mapped);
  if (!status.ok()) return status;
  range.windows = {{range.va, 0, 0}};
  MutexLock lock(access_mutex_);
  return Open(range);
}

// Lets the devices that may access the range do so. One that sleeps opens to them when it wakes.
Status RangeBuilder::Open(Range& range) {
  const Status status = range.awake() ? SetAccess(driver_, range.va, range.mapped, accessors_) : Status();
  if (status.ok()) range.windows[0].writers = accessors_;
  return status;
}

uint64_t RangeBuilder::Accessors() {
  MutexLock lock(access_mutex_);
  return accessors_;
}

Status RangeBuilder::CatchUp(Range& range) {
  MutexLock lock(access_mutex_);
  return range.windows[0].writers == accessors_ ? Status() : Open(range);
}

Status RangeBuilder::Unmap(Range& range) {
  if (range.mapped == 0) return Status();
  const CUresult result = range.awake() ? driver_.MemUnmap(range.va, range.mapped) : CUDA_SUCCESS;
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemUnmap");
  range.mapped = 0;
  range.windows.clear();
  range.asleep.reset();
  return Status();
}

bool RangeBuilder::GiveBack(Range& range) {
  if (!Unmap(range).ok() || !source_.Release(&range.chunks).ok()) return false;
  if (range.va == 0) return true;
  if (driver_.MemAddressFree(range.va, range.bytes) != CUDA_SUCCESS) return false;
  range.va = 0;
  return true;
}

void RangeBuilder::Discard(std::unique_ptr<Range> range) {
  if (!GiveBack(*range))
    KeepScrap([this, kept = std::shared_ptr<Range>(std::move(range))] { return GiveBack(*kept); });
}

Status RangeBuilder::AllowPeer(CUdevice peer, const std::vector<Range*>& existing) {
  if (peer < 0 || peer >= kMaxPeers) return Status(Code::kInvalidArgument, "no such device");
  MutexLock lock(access_mutex_);
  const uint64_t before = accessors_;
  accessors_ |= uint64_t{1} << peer;
  for (Range* range : existing) {
    const Status status = Open(*range);
    if (status.ok()) continue;
    accessors_ = before;
    return status;
  }
  return Status();
}

}  // namespace gpuroom
