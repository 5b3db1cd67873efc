#include <gtest/gtest.h>

#include "tier/device_tier.h"
#include "tier_fake_driver.h"

namespace gpuroom {
namespace {

constexpr uint64_t kLimit = 100 * kMiB;
constexpr uint64_t kReserve = 20 * kMiB;

class DeviceTierTest : public testing::Test {
 protected:
  const Driver driver_ = FakeDriver();
  DeviceTier tier_{driver_, 0, kLimit, kReserve};
};

TEST_F(DeviceTierTest, ChunksLeaveTheReserveFree) {
  EXPECT_EQ(tier_.FreeForChunks(), kLimit - kReserve);
  EXPECT_EQ(tier_.Create(82 * kMiB).status().code(), Code::kOutOfMemory);
  EXPECT_EQ(Fake().creates, 0);
  const Result<Chunk> chunk = tier_.Create(80 * kMiB);
  ASSERT_TRUE(chunk.ok());
  EXPECT_EQ(chunk->tier, Tier::kDevice);
  EXPECT_EQ(tier_.FreeForChunks(), 0u);
  EXPECT_FALSE(tier_.Create(2 * kMiB).ok());
  EXPECT_TRUE(tier_.Release(*chunk).ok());
  EXPECT_EQ(tier_.budget().used(), 0u);
}

TEST_F(DeviceTierTest, SmallOnesUseTheReserveUpAndThenTheRest) {
  ASSERT_TRUE(tier_.ClaimSmall(15 * kMiB));
  EXPECT_EQ(tier_.ReserveLeft(), 5 * kMiB);
  EXPECT_EQ(tier_.FreeForChunks(), 80 * kMiB);  // what the reserve lost, small ones have
  ASSERT_TRUE(tier_.ClaimSmall(25 * kMiB));
  EXPECT_EQ(tier_.ReserveLeft(), 0u);
  EXPECT_EQ(tier_.FreeForChunks(), 60 * kMiB);
  EXPECT_FALSE(tier_.ClaimSmall(61 * kMiB));
  tier_.ReleaseSmall(40 * kMiB);
  EXPECT_EQ(tier_.ReserveLeft(), kReserve);
  EXPECT_EQ(tier_.FreeForChunks(), kLimit - kReserve);
}

TEST_F(DeviceTierTest, WhatTheDriverRefusesIsNotCounted) {
  Fake().device_capacity = 10 * kMiB;
  EXPECT_EQ(tier_.Create(20 * kMiB).status().code(), Code::kOutOfMemory);
  EXPECT_EQ(tier_.budget().used(), 0u);
}

TEST_F(DeviceTierTest, AReleaseThatFailsKeepsTheClaim) {
  const Result<Chunk> chunk = tier_.Create(8 * kMiB);
  ASSERT_TRUE(chunk.ok());
  Fake().fail_releases = 1;
  EXPECT_EQ(tier_.Release(*chunk).code(), Code::kDriver);
  EXPECT_EQ(tier_.budget().used(), 8 * kMiB);
  EXPECT_TRUE(tier_.Release(*chunk).ok());
  EXPECT_EQ(tier_.budget().used(), 0u);
  EXPECT_TRUE(Fake().live.empty());
}

TEST(DeviceTier, AReserveBeyondTheLimitLeavesNothingForChunks) {
  const Driver driver = FakeDriver();
  DeviceTier tier(driver, 0, 10 * kMiB, kReserve);
  EXPECT_EQ(tier.FreeForChunks(), 0u);
  EXPECT_FALSE(tier.ClaimChunk(2 * kMiB));
  EXPECT_TRUE(tier.ClaimSmall(10 * kMiB));
}

TEST(DeviceTier, WithoutALimitTheDriverDecides) {
  const Driver driver = FakeDriver();
  DeviceTier tier(driver, 3, Budget::kUnlimited, kReserve);
  const Result<Chunk> chunk = tier.Create(uint64_t{1} << 40);
  ASSERT_TRUE(chunk.ok());
  EXPECT_EQ(Fake().last.location.type, CU_MEM_LOCATION_TYPE_DEVICE);
  EXPECT_EQ(Fake().last.location.id, 3);
  EXPECT_TRUE(tier.Release(*chunk).ok());
}

}  // namespace
}  // namespace gpuroom
