// ChunkSource: physical memory for one device, taken from its tiers by plan. It
// owns nothing: chunks belong to whoever asked. Any thread.
#pragma once

#include <vector>

#include "driver/access.h"
#include "range/plan.h"
#include "tier/device_tier.h"
#include "tier/host_tier.h"
#include "tier/peer_tier.h"
#include "topology/link_speeds.h"

namespace gpuroom {

class ChunkSource {
 public:
  ChunkSource(const Driver& driver, DeviceTier& device, HostTier& host, const LinkSpeeds& speeds);

  // Lets this device use a peer's memory from now on. Before other threads use this
  // object; `peer` outlives it.
  void AddPeer(PeerTier* peer) { peers_.push_back(peer); }

  // The tiers as they are now, the device's own first, the reserve left out.
  std::vector<TierState> States() const;
  // What MakePlan says of `request` now.
  Result<Plan> MakePlanFor(const PlanRequest& request) const;

  // Chunks by plan in `out`, empty before, in address order. Where the device or a
  // peer turns out to have less than planned, the host stands in. On failure
  // `out` holds what was got; Release gives it back. Blocks while host chunks are
  // created (2-5 GB/s).
  Status Create(const PlanRequest& request, std::vector<Chunk>* out);
  Status CreateFrom(const Plan& plan, std::vector<Chunk>* out);
  // `bytes` in one tier, appended to `out`, no other standing in, in chunks of `most`
  // bytes at most. Leaves in `out` what was got when it fails.
  Status CreateIn(Tier tier, int place, uint64_t bytes, std::vector<Chunk>* out, uint64_t most = UINT64_MAX);
  // One chunk of exactly `bytes`, no other tier standing in.
  Result<Chunk> CreateChunk(Tier tier, int place, uint64_t bytes);
  // Gives back the chunks of `chunks`, unmapped by now, from the last on. On
  // failure those that are left are in it; call again.
  Status Release(std::vector<Chunk>* chunks);
  // One chunk. On failure nothing changed; call again.
  Status Release(const Chunk& chunk);

  // Bytes of the device that chunks may take now, the reserve left free; whichever device is current.
  uint64_t DeviceFree() const;
  // Bytes of peers: that may be used at most, that chunks may still take, that they hold.
  uint64_t PeerLimit() const;
  uint64_t PeerFree() const;
  uint64_t PeerUsed() const;
  uint64_t device_chunk_bytes() const { return device_chunk_bytes_; }

 private:
  PeerTier* Peer(int place) const;

  const Driver& driver_;
  DeviceTier& device_;
  HostTier& host_;
  std::vector<PeerTier*> peers_;
  const LinkSpeeds speeds_;
  const uint64_t device_chunk_bytes_;
};

// Maps chunks side by side from `va` on. *mapped is how many bytes are mapped
// afterwards, on failure too; there the caller unmaps them.
Status MapChunks(const Driver& driver, CUdeviceptr va, const std::vector<Chunk>& chunks, uint64_t* mapped);

uint64_t BytesOf(const std::vector<Chunk>& chunks);
uint64_t BytesIn(Tier tier, const std::vector<Chunk>& chunks);

}  // namespace gpuroom
