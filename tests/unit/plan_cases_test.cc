// Plans picked by hand: what each policy and hint does with a small machine.
#include <gtest/gtest.h>

#include "range/plan.h"

namespace gpuroom {
namespace {

constexpr uint64_t kG = kGranularity;
constexpr uint64_t kGigabyte = 1'000'000'000;

// HBM, one peer over NVLink, the host. Sizes in granules.
std::vector<TierState> Machine(uint64_t device, uint64_t peer, uint64_t host) {
  return {{Tier::kDevice, 0, device * kG, 4560 * kGigabyte},
          {Tier::kPeer, 1, peer * kG, 375 * kGigabyte},
          {Tier::kHost, 0, host * kG, 51 * kGigabyte}};
}

PlanRequest Request(uint64_t granules, Policy policy = Policy::kGpuFirst, Hint hint = Hint::kNone) {
  PlanRequest request;
  request.bytes = granules * kG;
  request.policy = policy;
  request.hint = hint;
  return request;
}

PlanRequest Resident(uint64_t granules, uint64_t displaceable, Policy policy = Policy::kGpuFirst) {
  PlanRequest request = Request(granules, policy);
  request.resident = true;
  request.displaceable = displaceable * kG;
  return request;
}

// "D2 H1 D1 +3": the pieces in granules (D, H, or P and the peer's ordinal) and what gives way.
std::string Text(const PlanRequest& request, const std::vector<TierState>& tiers) {
  const Result<Plan> plan = MakePlan(request, tiers);
  if (!plan.ok()) return CodeName(plan.status().code());
  std::string text;
  for (const Piece& piece : plan->pieces) {
    if (!text.empty()) text += ' ';
    text += piece.tier == Tier::kDevice ? "D" : piece.tier == Tier::kHost ? "H" : "P";
    if (piece.tier == Tier::kPeer) text += std::to_string(piece.place) + ":";
    text += std::to_string(piece.bytes / kG);
  }
  if (plan->displace > 0) text += " +" + std::to_string(plan->displace / kG);
  return text;
}

TEST(Plan, WhatFitsInHbmIsOnePieceThere) {
  EXPECT_EQ(Text(Request(8), Machine(8, 8, 8)), "D8");
  EXPECT_EQ(Text(Resident(8, 100), Machine(8, 8, 8)), "D8");
}

TEST(Plan, GpuFirstTakesWhatHbmHasAndThenTheFastest) {
  EXPECT_EQ(Text(Request(4), Machine(2, 2, 8)), "D1 P1:1 D1 P1:1");
  EXPECT_EQ(Text(Request(2), Machine(0, 2, 8)), "P1:2");
  EXPECT_EQ(Text(Request(3), Machine(0, 0, 8)), "H3");
  // Peer memory ends, the host gives the rest.
  EXPECT_EQ(Text(Request(9), Machine(0, 3, 8)), "H1 P1:1 H2 P1:1 H2 P1:1 H1");
}

TEST(Plan, APeerBehindNvlinkComesBeforeTheFastestHost) {
  std::vector<TierState> tiers = Machine(0, 8, 8);
  tiers[2].bytes_per_second = 400 * kGigabyte;  // NVLink-C2C
  EXPECT_EQ(Text(Request(4), tiers), "P1:4");
}

TEST(Plan, APeerBehindPcieIsTakenBySpeed) {
  std::vector<TierState> tiers = Machine(0, 8, 8);
  tiers[1].bytes_per_second = 20 * kGigabyte;
  EXPECT_EQ(Text(Request(4), tiers), "H4");
  tiers[1].bytes_per_second = tiers[2].bytes_per_second;
  EXPECT_EQ(Text(Request(4), tiers), "P1:4");
}

TEST(Plan, OfSeveralPeersTheFasterComesFirstAndOfEqualsTheFirst) {
  std::vector<TierState> tiers = Machine(0, 2, 8);
  tiers.insert(tiers.begin() + 2, {Tier::kPeer, 2, 2 * kG, 400 * kGigabyte});
  EXPECT_EQ(Text(Request(2), tiers), "P2:2");
  tiers[2].bytes_per_second = tiers[1].bytes_per_second;
  EXPECT_EQ(Text(Request(2), tiers), "P1:2");
}

TEST(Plan, ResidentDataMakesLargeDataGiveWay) {
  EXPECT_EQ(Text(Resident(4, 100), Machine(1, 0, 8)), "D4 +3");
  EXPECT_EQ(Text(Resident(4, 100, Policy::kCpuFirst), Machine(1, 0, 8)), "D4 +3");
  EXPECT_EQ(Text(Resident(4, 100, Policy::kBalanced), Machine(1, 0, 8)), "D4 +3");
  // As far as there is something to give way.
  EXPECT_EQ(Text(Resident(4, 1), Machine(1, 0, 8)), "D1 H1 D1 H1 +1");
  EXPECT_EQ(Text(Resident(4, 0), Machine(0, 0, 8)), "H4");
}

TEST(Plan, WhatGivesWayNeedsRoomElsewhere) {
  EXPECT_EQ(Text(Resident(4, 100), Machine(1, 1, 2)), "D4 +3");
  EXPECT_EQ(Text(Resident(4, 100), Machine(1, 1, 1)), "out_of_memory");
  // The request's own pieces take some of that room.
  EXPECT_EQ(Text(Resident(4, 2), Machine(1, 0, 3)), "D2 H1 D1 +2");
  EXPECT_EQ(Text(Resident(4, 2), Machine(1, 0, 2)), "out_of_memory");
}

TEST(Plan, OnlyHotAndResidentDataDisplace) {
  PlanRequest request = Request(4);
  request.displaceable = 100 * kG;
  EXPECT_EQ(Text(request, Machine(1, 0, 8)), "H1 D1 H2");
  request.hint = Hint::kHot;
  EXPECT_EQ(Text(request, Machine(1, 0, 8)), "D4 +3");
}

TEST(Plan, BalancedFollowsTheSpeeds) {
  std::vector<TierState> tiers = Machine(1000, 1000, 1000);
  tiers[0].bytes_per_second = 300;
  tiers[1].bytes_per_second = 200;
  tiers[2].bytes_per_second = 100;
  const Result<Plan> plan = MakePlan(Request(600, Policy::kBalanced), tiers);
  ASSERT_TRUE(plan.ok());
  uint64_t bytes[3] = {};
  for (const Piece& piece : plan->pieces) bytes[static_cast<int>(piece.tier)] += piece.bytes / kG;
  EXPECT_EQ(bytes[0], 300u);
  EXPECT_EQ(bytes[1], 200u);
  EXPECT_EQ(bytes[2], 100u);
}

// How many granules of each request lie in HBM when so many are asked for one after the other, and
// all of them were foreseen.
std::vector<uint64_t> DeviceShares(uint64_t device, uint64_t foreseen,
                                   const std::vector<uint64_t>& requests) {
  std::vector<TierState> tiers = Machine(device, 0, 1000);
  std::vector<uint64_t> shares;
  for (const uint64_t granules : requests) {
    PlanRequest request = Request(granules, Policy::kBalanced);
    foreseen -= std::min(foreseen, granules);
    request.ahead = foreseen * kG;
    const Result<Plan> plan = MakePlan(request, tiers);
    EXPECT_TRUE(plan.ok());
    shares.push_back(0);
    for (const Piece& piece : plan->pieces) {
      tiers[piece.tier == Tier::kHost ? 2 : 0].free -= piece.bytes;
      if (piece.tier == Tier::kDevice) shares.back() += piece.bytes / kG;
    }
  }
  return shares;
}

TEST(Plan, BalancedLeavesWhatIsAheadItsPart) {
  const std::vector<uint64_t> row = {100, 100, 100, 100};
  EXPECT_EQ(DeviceShares(300, 400, row), (std::vector<uint64_t>{75, 75, 75, 75}));
  EXPECT_EQ(DeviceShares(200, 400, {40, 160, 200}), (std::vector<uint64_t>{20, 80, 100}));
  // Where all of it fits, by speed: a hundredth on the host.
  EXPECT_EQ(DeviceShares(1000, 400, row), (std::vector<uint64_t>{99, 99, 99, 99}));
  // Less comes than was foreseen, and more.
  EXPECT_EQ(DeviceShares(300, 600, row), (std::vector<uint64_t>{50, 50, 50, 50}));
  EXPECT_EQ(DeviceShares(150, 200, row), (std::vector<uint64_t>{75, 75, 0, 0}));
  // More is foreseen than there is memory at all.
  EXPECT_EQ(DeviceShares(250, 1u << 30, row), (std::vector<uint64_t>{20, 20, 20, 20}));
}

TEST(Plan, WhatIsAheadConcernsNothingButWhatIsSpread) {
  for (const Policy policy : {Policy::kGpuFirst, Policy::kCpuFirst}) {
    PlanRequest request = Request(10, policy);
    const std::string alone = Text(request, Machine(20, 0, 20));
    request.ahead = 30 * kG;
    EXPECT_EQ(Text(request, Machine(20, 0, 20)), alone);
  }
  PlanRequest resident = Resident(10, 0, Policy::kBalanced);
  resident.ahead = 30 * kG;
  EXPECT_EQ(Text(resident, Machine(20, 0, 20)), "D10");
}

TEST(Plan, BalancedGivesOnWhatATierLacks) {
  std::vector<TierState> tiers = Machine(2, 1000, 1000);
  tiers[1].bytes_per_second = tiers[2].bytes_per_second;
  EXPECT_EQ(Text(Request(2, Policy::kBalanced), tiers), "D2");
  const Result<Plan> plan = MakePlan(Request(12, Policy::kBalanced), tiers);
  ASSERT_TRUE(plan.ok());
  uint64_t bytes[3] = {};
  for (const Piece& piece : plan->pieces) bytes[static_cast<int>(piece.tier)] += piece.bytes / kG;
  EXPECT_EQ(bytes[0], 2u);
  EXPECT_EQ(bytes[1], 5u);
  EXPECT_EQ(bytes[2], 5u);
}

TEST(Plan, CpuFirstLeavesHbmToOthers) {
  EXPECT_EQ(Text(Request(8, Policy::kCpuFirst), Machine(100, 100, 8)), "H8");
  EXPECT_EQ(Text(Request(2, Policy::kCpuFirst), Machine(100, 1, 1)), "P1:1 H1");
  EXPECT_EQ(Text(Request(3, Policy::kCpuFirst), Machine(100, 1, 1)), "D1 P1:1 H1");
}

TEST(Plan, HintsOutweighPolicyAndSize) {
  const auto machine = Machine(100, 100, 100);
  EXPECT_EQ(Text(Request(4, Policy::kGpuFirst, Hint::kCold), machine), "H4");
  EXPECT_EQ(Text(Request(4, Policy::kCpuFirst, Hint::kHot), machine), "D4");
  PlanRequest cold = Resident(4, 100);
  cold.hint = Hint::kCold;
  EXPECT_EQ(Text(cold, machine), "H4");
  cold.hint = Hint::kStream;
  std::vector<TierState> equal = Machine(100, 0, 100);
  equal[0].bytes_per_second = equal[2].bytes_per_second;
  EXPECT_EQ(Text(cold, equal), "D1 H1 D1 H1");
}

TEST(Plan, UnknownSpeedsAreTakenForAnH200s) {
  std::vector<TierState> tiers = Machine(1000, 0, 1000);
  for (TierState& tier : tiers) tier.bytes_per_second = 0;
  const Result<Plan> plan = MakePlan(Request(202, Policy::kBalanced), tiers);
  ASSERT_TRUE(plan.ok());
  uint64_t host = 0;
  for (const Piece& piece : plan->pieces) host += piece.tier == Tier::kHost ? piece.bytes / kG : 0;
  EXPECT_EQ(host, 2u);  // 48 of 4848
}

TEST(Plan, PartsOfGranulesAreNoRoom) {
  std::vector<TierState> tiers = Machine(1, 0, 1);
  tiers[0].free += kG - 1;
  EXPECT_EQ(Text(Request(2), tiers), "D1 H1");
  EXPECT_EQ(Text(Request(3), tiers), "out_of_memory");
  PlanRequest request = Resident(2, 0);
  request.displaceable = kG - 1;
  EXPECT_EQ(Text(request, tiers), "D1 H1");
}

TEST(Plan, NothingIsPlacedNowhere) {
  EXPECT_EQ(Text(Request(0), Machine(0, 0, 0)), "");
  EXPECT_EQ(Text(Request(1), Machine(0, 0, 0)), "out_of_memory");
}

TEST(Plan, UnlimitedTiersDoNotOverflow) {
  std::vector<TierState> tiers = Machine(0, 0, 0);
  for (TierState& tier : tiers) tier.free = tier.bytes_per_second = UINT64_MAX;
  for (const Policy policy : {Policy::kGpuFirst, Policy::kCpuFirst}) {
    EXPECT_TRUE(MakePlan(Request((uint64_t{1} << 43) - 1, policy), tiers).ok());
  }
  const Result<Plan> plan = MakePlan(Request(3000, Policy::kBalanced), tiers);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->pieces.size(), 3000u);
}

TEST(Plan, WhatMakesNoSenseIsRefused) {
  PlanRequest request = Request(1);
  request.bytes += 1;
  EXPECT_EQ(Text(request, Machine(8, 8, 8)), "invalid_argument");
  EXPECT_EQ(Text(Request(1), {}), "invalid_argument");
  EXPECT_EQ(Text(Request(1), {{Tier::kHost, 0, kG, 1}}), "invalid_argument");
  std::vector<TierState> many(81, TierState{Tier::kPeer, 1, kG, 1});
  many[0].tier = Tier::kDevice;
  EXPECT_EQ(Text(Request(2), many), "invalid_argument");
  many.pop_back();
  EXPECT_EQ(MakePlan(Request(80), many)->pieces.size(), 80u);
}

TEST(Plan, AGh200sWholePoolIsPlanned) {
  const std::vector<TierState> tiers = {{Tier::kDevice, 0, 90 * kGiB, 3700 * kGigabyte},
                                        {Tier::kHost, 0, 400 * kGiB, 350 * kGigabyte}};
  PlanRequest request;
  request.bytes = 475 * kGiB;
  const Result<Plan> plan = MakePlan(request, tiers);
  ASSERT_TRUE(plan.ok());
  uint64_t device = 0;
  uint64_t host = 0;
  for (const Piece& piece : plan->pieces) (piece.tier == Tier::kDevice ? device : host) += piece.bytes;
  EXPECT_EQ(device, 90 * kGiB);
  EXPECT_EQ(host, 385 * kGiB);
}

TEST(ChunkSizes, LetAPartOfWhatIsBalancedGiveWay) {
  const std::vector<TierState> roomy = Machine(100000, 0, 100000);
  const auto most = [&](uint64_t granules, Policy policy) {
    return MakePlan(Resident(granules, 0, policy), roomy)->device_chunk;
  };
  EXPECT_EQ(most(32, Policy::kBalanced), kG);
  EXPECT_EQ(most(33, Policy::kBalanced), 2 * kG);
  EXPECT_EQ(most(32 * 16, Policy::kBalanced), 16 * kG);
  EXPECT_EQ(most(31, Policy::kBalanced), UINT64_MAX);  // not data
  EXPECT_EQ(most(320, Policy::kGpuFirst), UINT64_MAX);
  EXPECT_EQ(MakePlan(Request(320, Policy::kBalanced), roomy)->device_chunk, UINT64_MAX);  // spread at once
}

TEST(ChunkSizes, AreLargeWhereAPieceIs) {
  EXPECT_EQ(DeviceChunkBytes(4 * kGiB), 32 * kMiB);
  EXPECT_EQ(DeviceChunkBytes(16 * kGiB), 64 * kMiB);
  EXPECT_EQ(DeviceChunkBytes(UINT64_MAX), 512 * kMiB);
  EXPECT_EQ(ChunkBytes(Tier::kHost, kGiB, 32 * kMiB), 512 * kMiB);
  EXPECT_EQ(ChunkBytes(Tier::kPeer, kGiB, 32 * kMiB), 32 * kMiB);
  EXPECT_EQ(ChunkBytes(Tier::kDevice, kG, 32 * kMiB), kG);
}

}  // namespace
}  // namespace gpuroom
