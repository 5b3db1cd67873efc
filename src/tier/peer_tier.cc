#include "tier/peer_tier.h"

#include <algorithm>

#include "base/undo.h"
#include "tier/slow_memory.h"

namespace gpuroom {

Result<Chunk> PeerTier::Create(uint64_t bytes) {
  if (!Lends()) return Status(Code::kOutOfMemory, "the peer is in use");
  if (!in_use_.Claim(bytes)) return Status(Code::kOutOfMemory, "the peer's budget is used up");
  Undo give_back([&] { in_use_.Release(bytes); });
  Result<Chunk> chunk = owner_.Create(bytes);
  if (!chunk.ok()) return chunk;
  chunk->tier = Tier::kPeer;
  give_back.Dismiss();
  SlowMemory::Add(bytes);
  return chunk;
}

Status PeerTier::Release(const Chunk& chunk) {
  const Status status = owner_.Release(chunk);
  if (!status.ok()) return status;
  in_use_.Release(chunk.bytes);
  SlowMemory::Remove(chunk.bytes);
  return status;
}

uint64_t PeerTier::Free() { return Lends() ? std::min(in_use_.free(), owner_.FreeForChunks()) : 0; }

}  // namespace gpuroom
