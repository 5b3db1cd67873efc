#include "cumem/allocations.h"

#include <algorithm>

#include "base/size.h"

namespace gpuroom::cumem {
namespace {

// No GPU has more; what is above would overflow when it is rounded up.
constexpr uint64_t kMostBytes = uint64_t{1} << 56;

unsigned long long Number(uint64_t value) { return value; }

uint64_t HandleAddress(const Chunk& chunk) { return reinterpret_cast<uint64_t>(&chunk.handle); }

void Cut(const Operations& gpu, uint64_t granularity, Record* record) {
  const uint64_t most = gpu.chunk_bytes() == 0 ? record->bytes : RoundUp(gpu.chunk_bytes(), granularity);
  record->chunks.reserve((record->bytes + most - 1) / most);
  for (uint64_t at = 0; at < record->bytes; at += most) {
    Chunk chunk;
    chunk.bytes = std::min(most, record->bytes - at);
    record->chunks.push_back(chunk);
  }
}

}  // namespace

bool Allocations::Start(int device, Error* error) {
  if (gpu_ == nullptr) gpu_ = SelectOperations(error);
  if (gpu_ == nullptr) return false;
  const int code = gpu_->Enter(device);
  if (code != 0) GPUROOM_CUMEM_FAIL(error, gpu_->Text(code), "entering the context of device %d", device);
  return code == 0;
}

bool Allocations::Reserve(ssize_t size, int device, Grant* grant, Error* error) {
  const MutexLock lock(mutex_);
  if (size <= 0 || static_cast<uint64_t>(size) > kMostBytes || device < 0) {
    GPUROOM_CUMEM_FAIL(error, kInvalidArgument, "%lld bytes on device %d were asked for",
                       static_cast<long long>(size), device);
    return false;
  }
  if (!Start(device, error)) return false;
  RetryFreed();
  const auto bytes = static_cast<uint64_t>(size);
  size_t granularity = 0;
  int code = gpu_->Granularity(device, &granularity);
  if (!GPUROOM_CUMEM_CALL(*gpu_, code, "GetAllocationGranularity", bytes, device, error)) return false;

  // All that takes host memory comes before the reservation.
  Records fresh;
  Record& record = fresh[0];
  record.device = device;
  record.bytes = RoundUp(bytes, granularity);
  Cut(*gpu_, granularity, &record);
  *grant = {device, record.bytes, 0, {}, gpu_->chunk_bytes() != 0};
  for (const Chunk& chunk : record.chunks) grant->pieces.push_back({HandleAddress(chunk), chunk.bytes});

  code = gpu_->Reserve(&record.va, record.bytes, gpu_->aligns() ? granularity : 0);
  if (!GPUROOM_CUMEM_CALL(*gpu_, code, "AddressReserve", record.bytes, device, error)) return false;
  grant->va = record.va;
  auto node = fresh.extract(fresh.begin());
  node.key() = grant->va;
  records_.insert(std::move(node));
  return true;
}

Record* Allocations::Find(uint64_t va, Error* error) {
  const auto found = records_.find(va);
  if (found != records_.end() && !found->second.freed) return &found->second;
  GPUROOM_CUMEM_FAIL(error, kInvalidArgument, "0x%llx is no address that my_malloc gave and that is in use",
                     Number(va));
  return nullptr;
}

Record* Allocations::Find(const Claim& claim, Error* error) {
  Record* record = Find(claim.va, error);
  if (record == nullptr) return nullptr;
  if (claim.handles == record->chunks.size() && claim.first_handle == HandleAddress(record->chunks.front())) {
    return record;
  }
  GPUROOM_CUMEM_FAIL(error, kInvalidArgument,
                     "the handles are not those that the malloc callback got for 0x%llx; they may be of an "
                     "allocation that was freed",
                     Number(claim.va));
  return nullptr;
}

bool Allocations::CreateAndMap(const Claim& claim, Error* error) {
  const MutexLock lock(mutex_);
  Record* record = Find(claim, error);
  if (record == nullptr || !Start(record->device, error)) return false;
  RetryFreed();
  if (!record->accessible) return MapMissing(*gpu_, *record, error);
  GPUROOM_CUMEM_FAIL(error, kInvalidArgument,
                     "0x%llx is mapped already; python_unmap_and_release comes first", Number(claim.va));
  return false;
}

bool Allocations::UnmapAndRelease(const Claim& claim, Error* error) {
  const MutexLock lock(mutex_);
  Record* record = Find(claim, error);
  if (record == nullptr || !Start(record->device, error)) return false;
  RetryFreed();
  if (record->has_memory()) return Withdraw(*gpu_, *record, error);
  GPUROOM_CUMEM_FAIL(error, kInvalidArgument, "0x%llx is unmapped already; python_create_and_map comes first",
                     Number(claim.va));
  return false;
}

bool Allocations::Free(uint64_t va, Error* error) {
  const MutexLock lock(mutex_);
  Record* record = Find(va, error);
  if (record == nullptr) return false;
  const bool started = Start(record->device, error);
  if (started) RetryFreed();
  // The caller is rid of it, whatever becomes of the calls.
  record->freed = true;
  ++freed_;
  if (!started || !Dispose(*gpu_, *record, error)) return false;
  records_.erase(va);
  --freed_;
  return true;
}

void Allocations::RetryFreed() {
  for (auto it = records_.begin(); freed_ > 0 && it != records_.end();) {
    Error ignored;  // it was told of when it was freed
    if (it->second.freed && Dispose(*gpu_, it->second, &ignored)) {
      it = records_.erase(it);
      --freed_;
    } else {
      ++it;
    }
  }
}

bool Allocations::Knows(uint64_t va, Error* error) {
  const MutexLock lock(mutex_);
  return Find(va, error) != nullptr;
}

size_t Allocations::count() {
  const MutexLock lock(mutex_);
  return records_.size();
}

}  // namespace gpuroom::cumem
