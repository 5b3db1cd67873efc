#include "range/plan.h"

#include <algorithm>

namespace headroom {

Result<Plan> MakePlan(uint64_t bytes, const TierStates& states) {
  if (bytes <= states.device_free) return Plan{{Tier::kDevice, bytes}};
  if (bytes <= states.host_free) return Plan{{Tier::kHost, bytes}};
  const uint64_t device = RoundDown(states.device_free, kGranularity);
  if (bytes - device > states.host_free) {
    return Status(Code::kOutOfMemory, "neither the device nor the host has room");
  }
  return Plan{{Tier::kDevice, device}, {Tier::kHost, bytes - device}};
}

uint64_t ChunkBytes(Tier tier, uint64_t left) {
  return std::min(left, tier == Tier::kDevice ? kDeviceChunkBytes : kHostChunkBytes);
}

}  // namespace headroom
