#include "range/plan.h"

#include <algorithm>
#include <array>

#include "range/interleave.h"

namespace gpuroom {
namespace {

__extension__ typedef unsigned __int128 Wide;

// 63 peers and one GPU are all that an access mask can name; the rest is for hosts.
constexpr size_t kMaxTiers = 80;

// How the tiers of one request are used up.
enum class Order {
  kDeviceFirst,  // HBM, then the others, the fastest first
  kHostFirst,    // the host, then peers, then HBM
  kSpread,       // all at once, in proportion to their speeds
};

// What is known of one tier while its share is decided. Sizes are in granules.
struct Source {
  const TierState* tier;
  uint64_t room;
  uint64_t speed;   // never 0
  uint64_t weight;  // what shares are in proportion to
  uint64_t take;
};

struct Sources {
  std::array<Source, kMaxTiers> at;
  size_t count = 0;

  Source* begin() { return at.data(); }
  Source* end() { return at.data() + count; }
};

// Where nobody measured or estimated: an H200's speeds (docs/measurements.md),
// rounded to the side that leaves more in HBM.
uint64_t AssumedSpeed(Tier tier) {
  constexpr uint64_t kGigabyte = 1'000'000'000;
  switch (tier) {
    case Tier::kDevice: return 4800 * kGigabyte;
    case Tier::kPeer: return 300 * kGigabyte;
    case Tier::kHost: return 48 * kGigabyte;
  }
  return kGigabyte;
}

Order OrderFor(const PlanRequest& request) {
  // A hint is about this very allocation, so it says more than size and policy.
  switch (request.hint) {
    case Hint::kHot: return Order::kDeviceFirst;
    case Hint::kCold: return Order::kHostFirst;
    case Hint::kStream: return Order::kSpread;
    case Hint::kNone: break;
  }
  if (request.resident || request.policy == Policy::kGpuFirst) return Order::kDeviceFirst;
  return request.policy == Policy::kCpuFirst ? Order::kHostFirst : Order::kSpread;
}

bool MayDisplace(const PlanRequest& request) {
  return request.hint == Hint::kHot || (request.hint == Hint::kNone && request.resident);
}

// As many chunks of one size, each of which may give way by itself.
constexpr uint64_t kYieldParts = 32;

bool YieldsInParts(const PlanRequest& request) {
  return request.policy == Policy::kBalanced && request.resident && request.hint == Hint::kNone &&
         request.bytes >= kDataBytes;
}

Status FillIn(const std::vector<TierState>& tiers, Sources* sources) {
  if (tiers.empty() || tiers.front().tier != Tier::kDevice || tiers.size() > kMaxTiers) {
    return Status(Code::kInvalidArgument, "a plan needs the device's own tier first, and at most 80 in all");
  }
  for (const TierState& tier : tiers) {
    const uint64_t speed = tier.bytes_per_second != 0 ? tier.bytes_per_second : AssumedSpeed(tier.tier);
    sources->at[sources->count++] = {&tier, tier.free / kGranularity, speed, speed, 0};
  }
  return Status();
}

// 0 for what is used up first. A peer behind NVLink comes before any host, since
// a host's memory and its link are shared by all GPUs and the CPU, too; no PCIe is as fast.
int Rank(const Source& source, Order order) {
  constexpr uint64_t kSlowestNvlink = 120'000'000'000;
  const Tier tier = source.tier->tier;
  if (order == Order::kHostFirst) return tier == Tier::kHost ? 0 : tier == Tier::kPeer ? 1 : 2;
  if (tier == Tier::kDevice) return 0;
  return tier == Tier::kPeer && source.speed >= kSlowestNvlink ? 1 : 2;
}

// Tiers one after the other until `need` is met.
void TakeInOrder(Order order, uint64_t need, Sources* sources) {
  std::sort(sources->begin(), sources->end(), [order](const Source& a, const Source& b) {
    const int rank_a = Rank(a, order);
    const int rank_b = Rank(b, order);
    if (rank_a != rank_b) return rank_a < rank_b;
    if (a.speed != b.speed) return a.speed > b.speed;
    if (a.tier->tier != b.tier->tier) return a.tier->tier < b.tier->tier;  // a peer before a host
    return a.tier < b.tier;                                                // as given
  });
  for (Source& source : *sources) {
    source.take = std::min(source.room, need);
    need -= source.take;
  }
}

// Splits `need` exactly by weight among [first, last), each of which has room for
// its part: whole granules first, then one more for those whose parts were cut most.
void Split(Source* first, Source* last, uint64_t need) {
  Wide weights = 0;
  for (const Source* source = first; source != last; ++source) weights += source->weight;
  uint64_t left = need;
  for (Source* source = first; source != last; ++source) {
    source->take = static_cast<uint64_t>(Wide{need} * source->weight / weights);
    left -= source->take;
  }
  std::sort(first, last, [need, weights](const Source& a, const Source& b) {
    const Wide cut_a = Wide{need} * a.weight % weights;
    const Wide cut_b = Wide{need} * b.weight % weights;
    return cut_a != cut_b ? cut_a > cut_b : a.tier < b.tier;
  });
  for (Source* source = first; left > 0; ++source, --left) ++source->take;
}

// Water-filling: every tier gives in proportion to its speed until it has no
// more; what it lacks the others give, again in proportion.
void TakeBySpeed(uint64_t need, Sources* sources) {
  // By the water level at which each runs out.
  std::sort(sources->begin(), sources->end(), [](const Source& a, const Source& b) {
    const Wide level_a = Wide{a.room} * b.speed;
    const Wide level_b = Wide{b.room} * a.speed;
    return level_a != level_b ? level_a < level_b : a.tier < b.tier;
  });
  Wide speeds = 0;
  for (const Source& source : *sources) speeds += source.speed;
  Source* source = sources->begin();
  for (; source != sources->end() && source->room * speeds < Wide{need} * source->speed; ++source) {
    source->take = source->room;
    need -= source->take;
    speeds -= source->speed;
  }
  if (source != sources->end()) Split(source, sources->end(), need);
}

// The same for a request of `need` that is the first part of `all`.
void TakePartBySpeed(uint64_t need, uint64_t all, Sources* sources) {
  TakeBySpeed(all, sources);
  if (need == all) return;
  for (Source& source : *sources) source.weight = source.take;
  Split(sources->begin(), sources->end(), need);
}

// The pieces, in the tiers' order: what was sorted for the shares shows nowhere.
void Lay(Sources* sources, std::vector<Piece>* pieces) {
  std::array<Share, kMaxTiers> shares;
  size_t count = 0;
  std::sort(sources->begin(), sources->end(),
            [](const Source& a, const Source& b) { return a.tier < b.tier; });
  for (const Source& source : *sources) {
    if (source.take > 0) shares[count++] = {source.tier, source.take};
  }
  Interleave(shares.data(), count, pieces);
}

}  // namespace

Result<Plan> MakePlan(const PlanRequest& request, const std::vector<TierState>& tiers) {
  if (!IsMultiple(request.bytes, kGranularity)) {
    return Status(Code::kInvalidArgument, "a plan is for a multiple of 2 MiB");
  }
  Sources sources;
  const Status filled = FillIn(tiers, &sources);
  if (!filled.ok()) return filled;
  const uint64_t need = request.bytes / kGranularity;
  // Granules of 80 tiers add up without overflow. What gives way needs room in the
  // others, so displacing adds none to the whole.
  uint64_t room = 0;
  for (const Source& source : sources) room += source.room;
  if (need > room) return Status(Code::kOutOfMemory, "the tiers together do not have room");
  Plan plan;
  if (need == 0) return plan;
  Source& device = sources.at[0];
  if (MayDisplace(request) && need > device.room) {
    const uint64_t displace = std::min(need - device.room, request.displaceable / kGranularity);
    device.room += displace;
    plan.displace = displace * kGranularity;
  }
  if (YieldsInParts(request)) plan.device_chunk = RoundUp(request.bytes / kYieldParts, kGranularity);
  const Order order = OrderFor(request);
  if (order == Order::kDeviceFirst && need <= device.room) {  // the common case, for which nothing is sorted
    plan.pieces.push_back({Tier::kDevice, device.tier->place, request.bytes});
    return plan;
  }
  if (order == Order::kSpread) {
    TakePartBySpeed(need, std::min(need + request.ahead / kGranularity, room), &sources);
  } else {
    TakeInOrder(order, need, &sources);
  }
  Lay(&sources, &plan.pieces);
  return plan;
}

uint64_t ChunkBytes(Tier tier, uint64_t left, uint64_t device_chunk) {
  return std::min(left, tier == Tier::kHost ? kHostChunkBytes : device_chunk);
}

uint64_t DeviceChunkBytes(uint64_t budget) {
  uint64_t bytes = 32 * kMiB;
  while (bytes < 512 * kMiB && bytes < budget / 256) bytes *= 2;
  return bytes;
}

}  // namespace gpuroom
