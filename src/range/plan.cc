#include "range/plan.h"

#include <algorithm>

namespace headroom {

Result<Plan> MakePlan(const PlanRequest& request, const std::vector<TierState>& tiers) {
  const uint64_t bytes = request.bytes;
  const TierState& device = tiers.front();
  const TierState& host = tiers.back();
  const auto whole = [bytes](const TierState& tier) { return Plan{{{tier.tier, tier.place, bytes}}, 0}; };
  if (bytes <= device.free) return whole(device);
  if (bytes <= host.free) return whole(host);
  const uint64_t rest = RoundDown(device.free, kGranularity);
  if (bytes - rest > host.free) {
    return Status(Code::kOutOfMemory, "neither the device nor the host has room");
  }
  return Plan{{{device.tier, device.place, rest}, {host.tier, host.place, bytes - rest}}, 0};
}

uint64_t ChunkBytes(Tier tier, uint64_t left, uint64_t device_chunk) {
  return std::min(left, tier == Tier::kHost ? kHostChunkBytes : device_chunk);
}

uint64_t DeviceChunkBytes(uint64_t budget) {
  uint64_t bytes = 32 * kMiB;
  while (bytes < 256 * kMiB && bytes < budget / 256) bytes *= 2;
  return bytes;
}

}  // namespace headroom
