// ChunkSource: physical memory for one device, taken from its tiers by plan. It
// owns nothing: chunks belong to whoever asked. Any thread.
#pragma once

#include <vector>

#include "range/plan.h"
#include "tier/device_tier.h"
#include "tier/host_tier.h"

namespace headroom {

class ChunkSource {
 public:
  ChunkSource(const Driver& driver, DeviceTier& device, HostTier& host)
      : driver_(driver), device_(device), host_(host) {}

  // Chunks for `bytes` (a multiple of kGranularity) in `out`, empty before, in address
  // order. On failure `out` holds what was got; Release gives it back. Blocks
  // while host chunks are created (2-5 GB/s).
  Status Create(uint64_t bytes, std::vector<Chunk>* out);
  // Gives back the chunks of `chunks`, unmapped by now, from the last on. On
  // failure those that are left are in it; call again.
  Status Release(std::vector<Chunk>* chunks);
  // Bytes of the device that chunks may take now, the reserve left free.
  uint64_t DeviceFree() const;

 private:
  Status CreatePlanned(uint64_t bytes, std::vector<Chunk>* out);
  Status CreatePiece(const Piece& piece, std::vector<Chunk>* out);

  const Driver& driver_;
  DeviceTier& device_;
  HostTier& host_;
};

// Maps chunks side by side from `va` on. *mapped is how many bytes are mapped
// afterwards, on failure too; there the caller unmaps them.
Status MapChunks(const Driver& driver, CUdeviceptr va, const std::vector<Chunk>& chunks, uint64_t* mapped);

uint64_t BytesIn(Tier tier, const std::vector<Chunk>& chunks);

}  // namespace headroom
