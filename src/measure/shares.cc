#include "measure/shares.h"

#include <algorithm>
#include <cmath>

namespace headroom::measure {
namespace {

void Append(Tier tier, int place, uint64_t bytes, std::vector<Piece>* pieces) {
  if (bytes == 0) return;
  const bool same = !pieces->empty() && pieces->back().tier == tier && pieces->back().place == place;
  same ? static_cast<void>(pieces->back().bytes += bytes)
       : static_cast<void>(pieces->push_back({tier, place, bytes}));
}

}  // namespace

uint64_t SlowBytes(uint64_t bytes, double share) {
  const uint64_t granules = bytes / kGranularity;
  if (share <= 0 || granules == 0) return 0;
  const auto nearest = static_cast<uint64_t>(std::llround(share * static_cast<double>(granules)));
  return std::clamp<uint64_t>(nearest, 1, granules) * kGranularity;
}

Plan InterleavedPlan(uint64_t bytes, uint64_t slow_bytes, int device, Place slow) {
  const uint64_t granules = bytes / kGranularity;
  const uint64_t slow_granules = slow_bytes / kGranularity;
  Plan plan;
  // Granule i is slow where i * slow / all passes a whole number; the half puts
  // the slow granules in the middle of their strides.
  uint64_t sum = granules / 2;
  for (uint64_t i = 0; i < granules; ++i) {
    sum += slow_granules;
    const bool is_slow = sum >= granules;
    if (is_slow) sum -= granules;
    Append(is_slow ? slow.tier : Tier::kDevice, is_slow ? slow.place : device, kGranularity, &plan.pieces);
  }
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

}  // namespace headroom::measure
