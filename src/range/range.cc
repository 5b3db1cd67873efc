#include "range/range.h"

#include <algorithm>

#include "base/log.h"

namespace headroom {
namespace {

constexpr int kMaxDevices = 64;  // bits of accessors_

}  // namespace

RangeBuilder::RangeBuilder(const Driver& driver, ChunkSource& source, CUdevice device)
    : driver_(driver), source_(source), device_(device), accessors_(uint64_t{1} << device) {}

Result<std::unique_ptr<Range>> RangeBuilder::Build(uint64_t requested, CUcontext context) {
  RetryScrapped();
  if (requested > UINT64_MAX - kGranularity) return Status(Code::kOutOfMemory, "larger than any memory");
  auto range = std::make_unique<Range>();
  range->bytes = RoundUp(requested, kGranularity);
  range->requested = requested;
  range->context = context;
  range->device = device_;
  const Status status = Fill(*range);
  if (status.ok()) return range;
  Discard(std::move(range));
  return status;
}

Status RangeBuilder::Fill(Range& range) {
  Status status = source_.Create(range.bytes, &range.chunks);
  if (!status.ok()) return status;
  range.host_bytes = BytesIn(Tier::kHost, range.chunks);
  const CUresult reserved = driver_.MemAddressReserve(&range.va, range.bytes, 0, 0, 0);
  if (reserved != CUDA_SUCCESS) return DriverStatus(reserved, "cuMemAddressReserve");
  status = MapChunks(driver_, range.va, range.chunks, &range.mapped);
  return status.ok() ? SetAccess(range) : status;
}

Status RangeBuilder::SetAccess(Range& range) {
  CUmemAccessDesc access[kMaxDevices];
  size_t count = 0;
  const uint64_t accessors = accessors_.load(std::memory_order_acquire);
  for (int device = 0; device < kMaxDevices; ++device) {
    if ((accessors >> device & 1) == 0) continue;
    CUmemAccessDesc& one = access[count++];
    one.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    one.location.id = device;
    one.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  }
  const CUresult result = driver_.MemSetAccess(range.va, range.mapped, access, count);
  if (result == CUDA_SUCCESS) range.accessors = accessors;
  return DriverStatus(result, "cuMemSetAccess");
}

Status RangeBuilder::CatchUp(Range& range) {
  return range.accessors == accessors_.load(std::memory_order_acquire) ? Status() : SetAccess(range);
}

Status RangeBuilder::Unmap(Range& range) {
  if (range.mapped == 0) return Status();
  const CUresult result = driver_.MemUnmap(range.va, range.mapped);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemUnmap");
  range.mapped = 0;
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
  if (GiveBack(*range)) return;
  Log(LogLevel::kInfo, "a driver call failed while %llu bytes were given back; trying again later",
      static_cast<unsigned long long>(range->bytes));
  MutexLock lock(scrap_mutex_);
  scrap_.push_back(std::move(range));
}

void RangeBuilder::RetryScrapped() {
  MutexLock lock(scrap_mutex_);
  const auto gone = [this](const std::unique_ptr<Range>& range) { return GiveBack(*range); };
  scrap_.erase(std::remove_if(scrap_.begin(), scrap_.end(), gone), scrap_.end());
}

Status RangeBuilder::AllowPeer(CUdevice peer, const std::vector<Range*>& existing) {
  if (peer < 0 || peer >= kMaxDevices) return Status(Code::kInvalidArgument, "no such device");
  accessors_.fetch_or(uint64_t{1} << peer, std::memory_order_acq_rel);
  for (Range* range : existing) {
    const Status status = SetAccess(*range);
    if (status.ok()) continue;
    accessors_.fetch_and(~(uint64_t{1} << peer), std::memory_order_acq_rel);
    return status;
  }
  return Status();
}

}  // namespace headroom
