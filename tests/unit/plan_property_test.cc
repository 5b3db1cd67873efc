// Plans of millions of random machines and requests, each checked against what
// plan.h promises. The checks compute their own answers: they share no code with the planner.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "range/plan.h"

namespace gpuroom {
namespace {

constexpr uint64_t kG = kGranularity;
constexpr size_t kMost = 6;  // tiers of a random machine

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__x86_64__)
constexpr int kCases = 100'000;  // checked builds and emulators are slow
#else
constexpr int kCases = 1'000'000;
#endif

// xorshift64*: the library's generators take longer than the planner.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 2685821657736338717u;
  }
  uint64_t Below(uint64_t bound) { return (Next() >> 32) * bound >> 32; }

 private:
  uint64_t state_;
};

struct Case {
  PlanRequest request;
  std::vector<TierState> tiers;
};

uint64_t RandomSpeed(Random& random) {
  constexpr uint64_t kTypical[] = {4'560'000'000'000, 375'000'000'000, 51'300'000'000,  350'000'000'000,
                                   20'000'000'000,    120'000'000'000, 119'999'999'999, 0};
  switch (random.Below(4)) {
    case 0: return 1 + random.Below(1'000'000);
    case 1: return 1 + (random.Next() >> random.Below(40));
    default: return kTypical[random.Below(std::size(kTypical))];
  }
}

uint64_t RandomRoom(Random& random, uint64_t most) {
  const uint64_t granules = random.Below(4) == 0 ? 0 : random.Below(most + 1);
  return granules * kG + (random.Below(2) == 0 ? 0 : random.Below(kG));
}

// Sizes of about `most` granules a tier.
void Draw(Random& random, uint64_t most, Case* out) {
  const size_t peers = random.Below(kMost - 1);
  out->tiers.clear();
  out->tiers.push_back({Tier::kDevice, 0, RandomRoom(random, most), RandomSpeed(random)});
  for (size_t i = 0; i < peers; ++i) {
    out->tiers.push_back(
        {Tier::kPeer, static_cast<int>(i) + 1, RandomRoom(random, most), RandomSpeed(random)});
  }
  out->tiers.push_back({Tier::kHost, 0, RandomRoom(random, most), RandomSpeed(random)});
  PlanRequest& request = out->request;
  request.bytes = random.Below(most * (peers == 0 ? 2 : 3)) * kG;
  request.policy = static_cast<Policy>(random.Below(3));
  request.hint = random.Below(2) == 0 ? Hint::kNone : static_cast<Hint>(random.Below(4));
  request.resident = random.Below(3) == 0;
  request.ahead = random.Below(3) == 0 ? RandomRoom(random, 2 * most) : 0;
  request.displaceable = random.Below(2) == 0 ? 0 : RandomRoom(random, 2 * most);
}

struct Tally {
  std::array<uint64_t, kMost> room{};  // granules
  std::array<uint64_t, kMost> used{};
  uint64_t total = 0;
  uint64_t all_room = 0;
};

size_t IndexOf(const Piece& piece, const std::vector<TierState>& tiers) {
  for (size_t i = 0; i < tiers.size(); ++i) {
    if (tiers[i].tier == piece.tier && tiers[i].place == piece.place) return i;
  }
  return tiers.size();
}

// Everything below returns what is broken, or null.

const char* Count(const Case& c, const Plan& plan, Tally* tally) {
  size_t last = kMost;
  for (const Piece& piece : plan.pieces) {
    const size_t i = IndexOf(piece, c.tiers);
    if (i == c.tiers.size()) return "a piece in no tier";
    if (piece.bytes == 0 || piece.bytes % kG != 0) return "a piece of no whole granules";
    if (i == last) return "neighbours in one tier are two pieces";
    tally->used[i] += piece.bytes / kG;
    tally->total += piece.bytes;
    last = i;
  }
  return tally->total == c.request.bytes ? nullptr : "sizes do not add up";
}

const char* CheckBudgets(const Case& c, const Plan& plan, const Tally& tally) {
  if (plan.displace % kG != 0 || plan.displace > c.request.displaceable) return "more gives way than can";
  const uint64_t displaced = plan.displace / kG;
  if (tally.used[0] > tally.room[0] + displaced) return "HBM's budget is exceeded";
  uint64_t left = 0;
  for (size_t i = 1; i < c.tiers.size(); ++i) {
    if (tally.used[i] > tally.room[i]) return "a budget is exceeded";
    left += tally.room[i] - tally.used[i];
  }
  return displaced <= left ? nullptr : "what gives way finds no room";
}

bool BelongsInHbm(const PlanRequest& request) {
  return request.hint == Hint::kHot || (request.resident && request.hint == Hint::kNone);
}

const char* CheckResidence(const Case& c, const Plan& plan, const Tally& tally) {
  if (!BelongsInHbm(c.request)) return plan.displace == 0 ? nullptr : "it displaces without a claim to HBM";
  const uint64_t need = c.request.bytes / kG;
  const uint64_t lacking = need - std::min(need, tally.room[0]);
  if (plan.displace / kG > lacking) return "more gives way than is needed";
  if (tally.used[0] == need) return nullptr;
  if (tally.used[0] < tally.room[0] + plan.displace / kG) return "on the slow side while HBM has room";
  return plan.displace / kG == c.request.displaceable / kG
             ? nullptr
             : "on the slow side while something could give way";
}

// At the ends of pieces the error is greatest.
const char* CheckInterleaving(const Case& c, const Plan& plan, const Tally& tally) {
  std::array<int64_t, kMost> got{};
  const auto total = static_cast<int64_t>(tally.total / kG);
  int64_t at = 0;
  for (const Piece& piece : plan.pieces) {
    const auto granules = static_cast<int64_t>(piece.bytes / kG);
    got[IndexOf(piece, c.tiers)] += granules;
    at += granules;
    for (size_t i = 0; i < c.tiers.size(); ++i) {
      const int64_t error = got[i] * total - static_cast<int64_t>(tally.used[i]) * at;
      if (error >= total || error <= -total) return "a prefix is a granule or more off";
    }
  }
  return nullptr;
}

long double SpeedOf(const TierState& tier) {
  if (tier.bytes_per_second != 0) return static_cast<long double>(tier.bytes_per_second);
  return tier.tier == Tier::kDevice ? 4800e9L : tier.tier == Tier::kPeer ? 300e9L : 48e9L;
}

// Fills tiers that run out until none does; then the rest is in proportion. Of what is ahead, too: the
// request gets its part of that.
const char* CheckBalance(const Case& c, const Tally& tally) {
  std::array<bool, kMost> full{};
  const uint64_t all = std::min(c.request.bytes / kG + c.request.ahead / kG, tally.all_room);
  const bool whole = all == c.request.bytes / kG;
  auto need = static_cast<long double>(all);
  long double level = 0;
  for (bool again = true; again;) {
    again = false;
    long double speeds = 0;
    for (size_t i = 0; i < c.tiers.size(); ++i) speeds += full[i] ? 0 : SpeedOf(c.tiers[i]);
    if (speeds == 0) break;
    level = need / speeds;
    for (size_t i = 0; i < c.tiers.size(); ++i) {
      if (full[i] || level * SpeedOf(c.tiers[i]) <= static_cast<long double>(tally.room[i])) continue;
      full[i] = again = true;
      need -= static_cast<long double>(tally.room[i]);
    }
  }
  for (size_t i = 0; i < c.tiers.size(); ++i) {
    long double ideal = full[i] ? static_cast<long double>(tally.room[i]) : level * SpeedOf(c.tiers[i]);
    if (!whole) ideal *= static_cast<long double>(c.request.bytes / kG) / static_cast<long double>(all);
    const long double off = static_cast<long double>(tally.used[i]) - ideal;
    const long double most = whole ? 1.000001L : 2.000001L;
    if (off > most || off < -most) return "a share is too far off its balance";
  }
  return nullptr;
}

// Whether `a` is to be used up before `b` is touched, after HBM.
bool Before(const TierState& a, const TierState& b, bool host_first) {
  if (host_first) {
    if (a.tier != b.tier) return a.tier == Tier::kHost || (a.tier == Tier::kPeer && b.tier == Tier::kDevice);
    return SpeedOf(a) > SpeedOf(b);
  }
  if (a.tier == Tier::kDevice || b.tier == Tier::kDevice) return a.tier == Tier::kDevice && a.tier != b.tier;
  if (a.tier == Tier::kPeer && b.tier == Tier::kHost && SpeedOf(a) >= 120e9L) return true;
  if (a.tier == Tier::kHost && b.tier == Tier::kPeer && SpeedOf(b) >= 120e9L) return false;
  if (SpeedOf(a) != SpeedOf(b)) return SpeedOf(a) > SpeedOf(b);
  return a.tier == Tier::kPeer && b.tier == Tier::kHost;
}

const char* CheckOrder(const Case& c, const Plan& plan, const Tally& tally, bool host_first) {
  for (size_t a = 0; a < c.tiers.size(); ++a) {
    const bool used_up = tally.used[a] == tally.room[a] + (a == 0 ? plan.displace / kG : 0);
    if (used_up) continue;
    for (size_t b = 0; b < c.tiers.size(); ++b) {
      if (tally.used[b] > 0 && Before(c.tiers[a], c.tiers[b], host_first)) return "a tier was passed over";
    }
  }
  return nullptr;
}

const char* CheckPolicy(const Case& c, const Plan& plan, const Tally& tally) {
  const PlanRequest& request = c.request;
  if (BelongsInHbm(request)) return CheckOrder(c, plan, tally, false);
  if (request.hint == Hint::kCold) return CheckOrder(c, plan, tally, true);
  if (request.hint == Hint::kStream) return CheckBalance(c, tally);
  if (request.policy == Policy::kBalanced) return CheckBalance(c, tally);
  return CheckOrder(c, plan, tally, request.policy == Policy::kCpuFirst);
}

bool Same(const Plan& a, const Plan& b) {
  return a.displace == b.displace && std::equal(a.pieces.begin(), a.pieces.end(), b.pieces.begin(),
                                                b.pieces.end(), [](const Piece& x, const Piece& y) {
                                                  return x.tier == y.tier && x.place == y.place &&
                                                         x.bytes == y.bytes;
                                                });
}

const char* Check(const Case& c, bool twice) {
  const Result<Plan> plan = MakePlan(c.request, c.tiers);
  Tally tally;
  for (size_t i = 0; i < c.tiers.size(); ++i) {
    tally.room[i] = c.tiers[i].free / kG;
    tally.all_room += tally.room[i];
  }
  if (!plan.ok() && plan.status().code() != Code::kOutOfMemory) return "another failure than lack of memory";
  if (plan.ok() != (c.request.bytes / kG <= tally.all_room))
    return "it fits if, and only if, all together have room";
  if (!plan.ok()) return nullptr;
  const char* broken = Count(c, *plan, &tally);
  if (broken == nullptr) broken = CheckBudgets(c, *plan, tally);
  if (broken == nullptr) broken = CheckResidence(c, *plan, tally);
  if (broken == nullptr) broken = CheckInterleaving(c, *plan, tally);
  if (broken == nullptr) broken = CheckPolicy(c, *plan, tally);
  if (broken != nullptr || !twice) return broken;
  const Case elsewhere = c;  // other addresses, the same input
  return Same(*plan, *MakePlan(elsewhere.request, elsewhere.tiers)) ? nullptr
                                                                    : "the same input, another plan";
}

std::string Describe(const Case& c) {
  const PlanRequest& r = c.request;
  std::string text =
      std::to_string(r.bytes / kG) + " granules, policy " + std::to_string(static_cast<int>(r.policy)) +
      ", hint " + std::to_string(static_cast<int>(r.hint)) + (r.resident ? ", resident" : "") + ", ahead " +
      std::to_string(r.ahead) + ", displaceable " + std::to_string(r.displaceable) + "; tiers:";
  for (const TierState& tier : c.tiers) {
    text += " " + std::to_string(static_cast<int>(tier.tier)) + ":" + std::to_string(tier.free) + "@" +
            std::to_string(tier.bytes_per_second);
  }
  return text;
}

void Try(uint64_t seed, int cases, uint64_t most) {
  Random random(seed);
  Case c;
  int placed = 0;
  for (int i = 0; i < cases; ++i) {
    Draw(random, most, &c);
    const char* broken = Check(c, i % 8 == 0);
    ASSERT_EQ(broken, nullptr) << broken << " in case " << i << ": " << Describe(c);
    if (MakePlan(c.request, c.tiers).ok()) ++placed;
  }
  EXPECT_GT(placed, cases / 3);  // or most cases tried nothing
}

TEST(PlanProperty, TinyMachines) { Try(0x9e3779b97f4a7c15, kCases, 3); }
TEST(PlanProperty, SmallMachines) { Try(0xbf58476d1ce4e5b9, kCases, 12); }
TEST(PlanProperty, MiddlingMachines) { Try(0x94d049bb133111eb, kCases / 25, 200); }
TEST(PlanProperty, LargeMachines) { Try(0xd6e8feb86659fd93, kCases / 5000, 20'000); }

}  // namespace
}  // namespace gpuroom
