#include "range/chunk_source.h"

#include <algorithm>
#include <array>

#include "base/trace.h"
#include "driver/device_context.h"

namespace gpuroom {
namespace {

// The memory that a device's chunks share: its budget, or all that it has.
uint64_t MemoryOf(const Driver& driver, const DeviceTier& device) {
  size_t total = 0;
  if (device.budget().limited()) return device.budget().limit();
  return driver.DeviceTotalMem(&total, device.device()) == CUDA_SUCCESS ? total : 0;
}

void TracePlan(int device, const Plan& plan) {
  if (!Trace::on()) return;
  std::array<uint64_t, 3> bytes{};  // by Tier
  for (const Piece& piece : plan.pieces) bytes[static_cast<size_t>(piece.tier)] += piece.bytes;
  Trace::Add(TraceKind::kPlan, device, 0, {bytes[0] + bytes[1] + bytes[2], bytes[0], bytes[1], bytes[2]});
}

}  // namespace

ChunkSource::ChunkSource(const Driver& driver, DeviceTier& device, HostTier& host, const LinkSpeeds& speeds)
    : driver_(driver),
      device_(device),
      host_(host),
      speeds_(speeds),
      device_chunk_bytes_(DeviceChunkBytes(MemoryOf(driver, device))) {}

std::vector<TierState> ChunkSource::States() const {
  std::vector<TierState> states;
  states.reserve(peers_.size() + 2);
  states.push_back({Tier::kDevice, device_.device(), DeviceFree(), speeds_.device});
  for (PeerTier* peer : peers_) {
    // However many they are, they come in by the same links.
    states.push_back({Tier::kPeer, peer->device(), peer->Free(), speeds_.peer / peers_.size()});
  }
  // A share that is a little too large costs far more than one that is too small.
  states.push_back({Tier::kHost, host_.numa_node(), host_.Free(), speeds_.host / 5 * 4});
  return states;
}

Result<Plan> ChunkSource::MakePlanFor(const PlanRequest& request) const {
  return MakePlan(request, States());
}

Status ChunkSource::Create(const PlanRequest& request, std::vector<Chunk>* out) {
  for (int tries = 0;; ++tries) {
    const Result<Plan> plan = MakePlanFor(request);
    if (plan.ok()) TracePlan(device_.device(), *plan);
    const Status status = plan.ok() ? CreateFrom(*plan, out) : plan.status();
    if (status.code() != Code::kOutOfMemory || tries == 1 || !Release(out).ok()) return status;
    // The plan rests on a look at other processes' shares that may be old, in either direction.
    host_.Refresh();
  }
}

Status ChunkSource::CreateFrom(const Plan& plan, std::vector<Chunk>* out) {
  out->reserve(out->size() + plan.pieces.size());
  for (const Piece& piece : plan.pieces) {
    const size_t before = out->size();
    const uint64_t most = piece.tier == Tier::kDevice ? plan.device_chunk : UINT64_MAX;
    Status status = CreateIn(piece.tier, piece.place, piece.bytes, out, most);
    if (status.code() == Code::kOutOfMemory && piece.tier != Tier::kHost) {
      // Another process, or another thread, took what the plan counted on. What
      // was got stays; the rest of the piece goes to the host.
      uint64_t got = 0;
      for (size_t i = before; i < out->size(); ++i) got += (*out)[i].bytes;
      status = CreateIn(Tier::kHost, host_.numa_node(), piece.bytes - got, out);
    }
    if (!status.ok()) return status;
  }
  return Status();
}

Status ChunkSource::CreateIn(Tier tier, int place, uint64_t bytes, std::vector<Chunk>* out, uint64_t most) {
  for (uint64_t left = bytes; left > 0;) {
    const uint64_t next = std::min(most, ChunkBytes(tier, left, device_chunk_bytes_));
    // Before there is a chunk to be lost.
    if (out->size() == out->capacity()) out->reserve(2 * out->size() + 1);
    // Of the host several kept chunks will do.
    const Result<Chunk> chunk = tier == Tier::kHost ? host_.CreateUpTo(next) : CreateChunk(tier, place, next);
    if (!chunk.ok()) return chunk.status();
    out->push_back(*chunk);
    left -= chunk->bytes;
  }
  return Status();
}

Result<Chunk> ChunkSource::CreateChunk(Tier tier, int place, uint64_t bytes) {
  if (tier == Tier::kDevice) return device_.Create(bytes);
  if (tier == Tier::kHost) return host_.Create(bytes);
  PeerTier* peer = Peer(place);
  if (peer == nullptr) return Status(Code::kNotFound, "no such peer");
  return peer->Create(bytes);
}

Status ChunkSource::Release(const Chunk& chunk) {
  if (chunk.tier == Tier::kDevice) return device_.Release(chunk);
  if (chunk.tier == Tier::kHost) return host_.Release(chunk);
  return Peer(chunk.place)->Release(chunk);
}

PeerTier* ChunkSource::Peer(int place) const {
  for (PeerTier* peer : peers_) {
    if (peer->device() == place) return peer;
  }
  return nullptr;
}

Status ChunkSource::Release(std::vector<Chunk>* chunks) {
  while (!chunks->empty()) {
    const Status status = Release(chunks->back());
    if (!status.ok()) return status;
    chunks->pop_back();
  }
  return Status();
}

uint64_t ChunkSource::DeviceFree() const {
  // Without a limit the budget never says no, and HBM must not be filled to the brim:
  // libraries and kernel launches need some that no program asked for. There the
  // driver knows what is free, of the device that is current.
  if (device_.budget().limited()) return device_.FreeForChunks();
  const OnDevice there(driver_, device_.device());
  size_t free = 0;
  size_t total = 0;
  const bool known = there.status().ok() && driver_.MemGetInfo(&free, &total) == CUDA_SUCCESS;
  if (!known) return device_.FreeForChunks();
  const uint64_t keep = device_.ReserveLeft();
  return free > keep ? free - keep : 0;
}

uint64_t ChunkSource::PeerLimit() const {
  uint64_t sum = 0;
  for (const PeerTier* peer : peers_) sum += peer->in_use().limit();
  return sum;
}

uint64_t ChunkSource::PeerFree() const {
  uint64_t sum = 0;
  for (PeerTier* peer : peers_) sum += peer->Free();
  return sum;
}

uint64_t ChunkSource::PeerUsed() const {
  uint64_t sum = 0;
  for (const PeerTier* peer : peers_) sum += peer->in_use().used();
  return sum;
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

uint64_t BytesOf(const std::vector<Chunk>& chunks) {
  uint64_t sum = 0;
  for (const Chunk& chunk : chunks) sum += chunk.bytes;
  return sum;
}

uint64_t BytesIn(Tier tier, const std::vector<Chunk>& chunks) {
  uint64_t sum = 0;
  for (const Chunk& chunk : chunks) sum += chunk.tier == tier ? chunk.bytes : 0;
  return sum;
}

}  // namespace gpuroom
