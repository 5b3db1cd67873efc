#include <gtest/gtest.h>

#include <random>

#include "range/plan.h"

namespace headroom {
namespace {

uint64_t Sum(const Plan& plan, Tier tier) {
  uint64_t sum = 0;
  for (const Piece& piece : plan) sum += piece.tier == tier ? piece.bytes : 0;
  return sum;
}

TEST(MakePlan, PrefersTheDeviceThenTheHostThenBoth) {
  const TierStates states{10 * kMiB, 20 * kMiB};
  EXPECT_EQ(Sum(*MakePlan(10 * kMiB, states), Tier::kDevice), 10 * kMiB);
  EXPECT_EQ(Sum(*MakePlan(12 * kMiB, states), Tier::kHost), 12 * kMiB);
  const Plan both = *MakePlan(30 * kMiB, states);
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[0].tier, Tier::kDevice);
  EXPECT_EQ(both[0].bytes, 10 * kMiB);
  EXPECT_EQ(both[1].bytes, 20 * kMiB);
  EXPECT_EQ(MakePlan(32 * kMiB, states).status().code(), Code::kOutOfMemory);
}

TEST(MakePlan, HoldsForAMillionCases) {
  std::mt19937_64 random(20261121);
  int planned = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    // Magnitudes from nothing to petabytes, so that every branch is met often.
    const auto bytes_up_to = [&random](int bits) {
      return random() >> (64 - 1 - random() % static_cast<unsigned>(bits));
    };
    const uint64_t bytes = RoundUp(bytes_up_to(50) + 1, kGranularity);
    TierStates states{bytes_up_to(50), bytes_up_to(50)};
    if (i % 7 == 0) states.device_free = bytes - kGranularity;
    if (i % 11 == 0) states.host_free = bytes - std::min(bytes, RoundDown(states.device_free, kGranularity));
    const Result<Plan> plan = MakePlan(bytes, states);
    const uint64_t room = RoundDown(states.device_free, kGranularity);
    if (!plan.ok()) {
      ASSERT_EQ(plan.status().code(), Code::kOutOfMemory);
      ASSERT_GT(bytes, states.host_free);
      ASSERT_TRUE(bytes > room && bytes - room > states.host_free) << bytes;
      continue;
    }
    ++planned;
    const uint64_t device = Sum(*plan, Tier::kDevice);
    const uint64_t host = Sum(*plan, Tier::kHost);
    ASSERT_EQ(device + host, bytes);
    ASSERT_LE(device, states.device_free);
    ASSERT_LE(host, states.host_free);
    ASSERT_TRUE(host == 0 || bytes > states.device_free);  // what fits in HBM stays there
    for (const Piece& piece : *plan) {
      ASSERT_GT(piece.bytes, 0u);
      ASSERT_TRUE(IsMultiple(piece.bytes, kGranularity));
    }
    const Plan again = *MakePlan(bytes, states);
    ASSERT_EQ(again.size(), plan->size());
    for (size_t k = 0; k < again.size(); ++k) {
      ASSERT_EQ(again[k].tier, (*plan)[k].tier);
      ASSERT_EQ(again[k].bytes, (*plan)[k].bytes);
    }
  }
  EXPECT_GT(planned, 300'000);
  EXPECT_LT(planned, 900'000);
}

TEST(ChunkBytes, CutsAPieceIntoWholeChunksAndARest) {
  for (const Tier tier : {Tier::kDevice, Tier::kHost}) {
    const uint64_t chunk = ChunkBytes(tier, UINT64_MAX);
    EXPECT_TRUE(IsMultiple(chunk, kGranularity));
    EXPECT_EQ(ChunkBytes(tier, chunk), chunk);
    EXPECT_EQ(ChunkBytes(tier, chunk + kGranularity), chunk);
    EXPECT_EQ(ChunkBytes(tier, kGranularity), kGranularity);
  }
}

}  // namespace
}  // namespace headroom
