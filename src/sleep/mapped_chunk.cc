#include "sleep/mapped_chunk.h"

#include "range/chunk_source.h"
#include "sleep/scrap.h"

namespace headroom {

Result<std::shared_ptr<Scratch>> Scratch::Reserve(const Driver& driver, uint64_t bytes) {
  CUdeviceptr va = 0;
  const CUresult result = driver.MemAddressReserve(&va, bytes, 0, 0, 0);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemAddressReserve");
  return std::make_shared<Scratch>(driver, va, bytes);
}

Scratch::~Scratch() {
  GiveBack([&driver = driver_, va = va_, bytes = bytes_] {
    return driver.MemAddressFree(va, bytes) == CUDA_SUCCESS;
  });
}

Status MappedChunk::MapTogether(const std::vector<MappedChunk*>& chunks) {
  if (chunks.empty()) return Status();
  uint64_t bytes = 0;
  for (const MappedChunk* chunk : chunks) bytes += chunk->chunk_.bytes;
  const Result<std::shared_ptr<Scratch>> scratch = Scratch::Reserve(chunks.front()->driver_, bytes);
  if (!scratch.ok()) return scratch.status();
  const Status status = MapAt(*scratch, chunks, bytes);
  if (status.ok()) return status;
  for (MappedChunk* chunk : chunks) chunk->Unmap();
  return status;
}

Status MappedChunk::MapAt(const std::shared_ptr<Scratch>& scratch, const std::vector<MappedChunk*>& chunks,
                          uint64_t bytes) {
  const Driver& driver = chunks.front()->driver_;
  CUdeviceptr va = scratch->va();
  for (MappedChunk* chunk : chunks) {
    const CUresult mapped = driver.MemMap(va, chunk->chunk_.bytes, 0, chunk->chunk_.handle, 0);
    if (mapped != CUDA_SUCCESS) return DriverStatus(mapped, "cuMemMap");
    chunk->va_ = va;
    chunk->scratch_ = scratch;
    va += chunk->chunk_.bytes;
  }
  return SetAccess(driver, scratch->va(), bytes, uint64_t{1} << chunks.front()->device_);
}

void MappedChunk::Unmap() {
  if (va_ == 0) return;
  GiveBack([&driver = driver_, va = va_, bytes = chunk_.bytes, scratch = std::move(scratch_)]() mutable {
    if (driver.MemUnmap(va, bytes) != CUDA_SUCCESS) return false;
    scratch.reset();
    return true;
  });
  va_ = 0;
}

void MappedChunk::Forget() { owned_ = false; }

MappedChunk::~MappedChunk() {
  Unmap();
  if (owned_) GiveBack([&tier = tier_, chunk = chunk_] { return tier.Release(chunk).ok(); });
}

}  // namespace headroom
