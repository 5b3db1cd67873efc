#include "measure/shares.h"

#include <algorithm>
#include <cmath>

#include "range/interleave.h"

namespace gpuroom::measure {
namespace {

void Append(Tier tier, int place, uint64_t bytes, std::vector<Piece>* pieces) {
  if (bytes > 0) pieces->push_back({tier, place, bytes});
}

}  // namespace

uint64_t SlowBytes(uint64_t bytes, double share) {
  const uint64_t granules = bytes / kGranularity;
  if (share <= 0 || granules == 0) return 0;
  const auto nearest = static_cast<uint64_t>(std::llround(share * static_cast<double>(granules)));
  return std::clamp<uint64_t>(nearest, 1, granules) * kGranularity;
}

Plan InterleavedPlan(uint64_t bytes, uint64_t slow_bytes, int device, Place slow) {
  const TierState tiers[] = {{Tier::kDevice, device}, {slow.tier, slow.place}};
  const uint64_t granules[] = {(bytes - slow_bytes) / kGranularity, slow_bytes / kGranularity};
  Share shares[2];
  size_t count = 0;
  for (size_t i = 0; i < 2; ++i) {
    if (granules[i] > 0) shares[count++] = {&tiers[i], granules[i]};
  }
  Plan plan;
  Interleave(shares, count, &plan.pieces);
  return plan;
}

Plan TailPlan(uint64_t bytes, uint64_t slow_bytes, int device, Place slow) {
  Plan plan;
  Append(Tier::kDevice, device, bytes - slow_bytes, &plan.pieces);
  Append(slow.tier, slow.place, slow_bytes, &plan.pieces);
  return plan;
}

double IdealSpeed(double fast, double link, double share) {
  if (share <= 0) return fast;
  if (share >= 1) return link;
  return std::min(fast / (1 - share), link / share);
}

}  // namespace gpuroom::measure
