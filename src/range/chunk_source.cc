#include "range/chunk_source.h"

namespace headroom {

Status ChunkSource::Create(uint64_t bytes, std::vector<Chunk>* out) {
  const Status status = CreatePlanned(bytes, out);
  if (status.code() != Code::kOutOfMemory || !Release(out).ok()) return status;
  // The plan rests on a look at other processes' shares that may be old, in either direction.
  host_.Refresh();
  return CreatePlanned(bytes, out);
}

Status ChunkSource::CreatePlanned(uint64_t bytes, std::vector<Chunk>* out) {
  const Result<Plan> plan = MakePlan(bytes, {DeviceFree(), host_.Free()});
  if (!plan.ok()) return plan.status();
  for (const Piece& piece : *plan) {
    const uint64_t before = BytesIn(piece.tier, *out);
    Status status = CreatePiece(piece, out);
    if (status.code() == Code::kOutOfMemory && piece.tier == Tier::kDevice) {
      // Another process, or another thread, took what the plan counted on. What
      // was got stays; the rest of the piece goes to the host.
      const uint64_t got = BytesIn(Tier::kDevice, *out) - before;
      status = CreatePiece({Tier::kHost, piece.bytes - got}, out);
    }
    if (!status.ok()) return status;
  }
  return Status();
}

Status ChunkSource::CreatePiece(const Piece& piece, std::vector<Chunk>* out) {
  for (uint64_t left = piece.bytes; left > 0;) {
    const uint64_t bytes = ChunkBytes(piece.tier, left);
    const Result<Chunk> chunk = piece.tier == Tier::kDevice ? device_.Create(bytes) : host_.Create(bytes);
    if (!chunk.ok()) return chunk.status();
    out->push_back(*chunk);
    left -= bytes;
  }
  return Status();
}

Status ChunkSource::Release(std::vector<Chunk>* chunks) {
  while (!chunks->empty()) {
    const Chunk& chunk = chunks->back();
    const Status status = chunk.tier == Tier::kDevice ? device_.Release(chunk) : host_.Release(chunk);
    if (!status.ok()) return status;
    chunks->pop_back();
  }
  return Status();
}

uint64_t ChunkSource::DeviceFree() const {
  // Without a limit the budget never says no, and HBM must not be filled to the brim:
  // libraries and kernel launches need some that no program asked for. There the
  // driver knows what is free.
  size_t free = 0;
  size_t total = 0;
  if (device_.budget().limited() || driver_.MemGetInfo(&free, &total) != CUDA_SUCCESS) {
    return device_.FreeForChunks();
  }
  const uint64_t keep = device_.ReserveLeft();
  return free > keep ? free - keep : 0;
}

Status MapChunks(const Driver& driver, CUdeviceptr va, const std::vector<Chunk>& chunks, uint64_t* mapped) {
  *mapped = 0;
  for (const Chunk& chunk : chunks) {
    const CUresult result = driver.MemMap(va + *mapped, chunk.bytes, 0, chunk.handle, 0);
    if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemMap");
    *mapped += chunk.bytes;
  }
  return Status();
}

uint64_t BytesIn(Tier tier, const std::vector<Chunk>& chunks) {
  uint64_t sum = 0;
  for (const Chunk& chunk : chunks) sum += chunk.tier == tier ? chunk.bytes : 0;
  return sum;
}

}  // namespace headroom
