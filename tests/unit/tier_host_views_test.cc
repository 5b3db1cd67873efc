#include <gtest/gtest.h>

#include "tier/host_tier.h"
#include "tier_fake_driver.h"

namespace gpuroom {
namespace {

class HostViewsTest : public testing::Test {
 protected:
  Chunk Make(uint64_t mib) {
    const Result<Chunk> chunk = tier_.Create(mib * kMiB);
    EXPECT_TRUE(chunk.ok());
    return *chunk;
  }
  HostViews& views() { return tier_.views(); }

  const Driver driver_ = FakeDriver();
  HostShare share_{100 * kMiB, 30 * kMiB, nullptr};
  HostTier tier_{driver_, 0, share_};
};

TEST_F(HostViewsTest, ShowsSideBySideByOneCall) {
  const std::vector<Chunk> chunks = {Make(2), Make(4), Make(8)};
  EXPECT_EQ(views().Find(chunks[0], 3), 0U);
  ASSERT_TRUE(views().Show(chunks, 3).ok());
  const CUdeviceptr va = views().Find(chunks[0], 3);
  ASSERT_NE(va, 0U);
  EXPECT_EQ(views().Find(chunks[1], 3), va + 2 * kMiB);
  EXPECT_EQ(views().Find(chunks[2], 3), va + 6 * kMiB);
  EXPECT_EQ(Fake().accesses, 1);
  EXPECT_EQ(Fake().last_device, 3);
  EXPECT_EQ(Fake().reserved, 1);
  for (const Chunk& chunk : chunks) EXPECT_EQ(Fake().mapped[views().Find(chunk, 3)], chunk.handle);
}

TEST_F(HostViewsTest, ShowsOnlyWhatIsNotSeenYet) {
  const std::vector<Chunk> chunks = {Make(2), Make(4)};
  ASSERT_TRUE(views().Show({chunks[0]}, 0).ok());
  const CUdeviceptr first = views().Find(chunks[0], 0);
  ASSERT_TRUE(views().Show(chunks, 0).ok());
  EXPECT_EQ(views().Find(chunks[0], 0), first);
  EXPECT_EQ(Fake().mapped.size(), 2U);
  ASSERT_TRUE(views().Show(chunks, 0).ok());
  EXPECT_EQ(Fake().accesses, 2);
}

TEST_F(HostViewsTest, AKeptChunkStaysShownUntilTheDriverHasItBack) {
  const Chunk chunk = Make(20);
  ASSERT_TRUE(views().Show({chunk}, 0).ok());
  const CUdeviceptr va = views().Find(chunk, 0);
  ASSERT_TRUE(tier_.Release(chunk).ok());
  EXPECT_EQ(Fake().mapped.size(), 1U);
  Chunk again;
  ASSERT_TRUE(tier_.TakeKeptUpTo(20 * kMiB, &again));
  EXPECT_EQ(views().Find(again, 0), va);
  ASSERT_TRUE(tier_.Release(again).ok());
  tier_.Trim();
  EXPECT_TRUE(Fake().mapped.empty());
  EXPECT_EQ(Fake().reserved, 0);
  EXPECT_TRUE(Fake().live.empty());
}

TEST_F(HostViewsTest, OneThatIsNotKeptLosesItsViewFirst) {
  const Chunk chunk = Make(40);
  ASSERT_TRUE(views().Show({chunk}, 0).ok());
  Fake().fail_unmaps = 1;
  EXPECT_EQ(tier_.Release(chunk).code(), Code::kDriver);
  EXPECT_NE(views().Find(chunk, 0), 0U);
  EXPECT_EQ(tier_.in_use().used(), 40 * kMiB);
  ASSERT_TRUE(tier_.Release(chunk).ok());
  EXPECT_TRUE(Fake().mapped.empty());
  EXPECT_TRUE(Fake().live.empty());
}

TEST_F(HostViewsTest, AnotherDeviceTakesTheViewOver) {
  const Chunk chunk = Make(2);
  ASSERT_TRUE(views().Show({chunk}, 0).ok());
  ASSERT_TRUE(views().Show({chunk}, 1).ok());
  EXPECT_EQ(views().Find(chunk, 0), 0U);
  EXPECT_NE(views().Find(chunk, 1), 0U);
  EXPECT_EQ(Fake().mapped.size(), 1U);
  EXPECT_EQ(Fake().reserved, 1);
}

TEST_F(HostViewsTest, NoneIsShownWhenOneCallFails) {
  const std::vector<Chunk> chunks = {Make(2), Make(4)};
  Fake().fail_accesses = 1;
  EXPECT_EQ(views().Show(chunks, 0).code(), Code::kDriver);
  for (const Chunk& chunk : chunks) EXPECT_EQ(views().Find(chunk, 0), 0U);
  EXPECT_TRUE(Fake().mapped.empty());
  EXPECT_EQ(Fake().reserved, 0);
}

// What a driver that fails for long leaves mapped is unmapped before the chunk goes.
TEST_F(HostViewsTest, WhatCouldNotBeTakenBackGoesWithTheChunk) {
  const Chunk chunk = Make(40);
  Fake().fail_accesses = 1;
  Fake().fail_unmaps = 16;
  EXPECT_EQ(views().Show({chunk}, 0).code(), Code::kDriver);
  EXPECT_EQ(views().Find(chunk, 0), 0U);
  EXPECT_EQ(Fake().mapped.size(), 1U);
  ASSERT_TRUE(tier_.Release(chunk).ok());
  EXPECT_TRUE(Fake().mapped.empty());
  EXPECT_TRUE(Fake().live.empty());
}

TEST_F(HostViewsTest, CreatedAheadAndShown) {
  ASSERT_TRUE(tier_.CreateKept(4 * kMiB, 2));
  EXPECT_EQ(Fake().last_device, 2);
  Fake().fail_accesses = 1;
  ASSERT_TRUE(tier_.CreateKept(8 * kMiB, 2));  // of use all the same
  EXPECT_EQ(tier_.kept_bytes(), 12 * kMiB);
  Chunk chunk;
  ASSERT_TRUE(tier_.TakeKeptUpTo(8 * kMiB, &chunk));
  EXPECT_EQ(views().Find(chunk, 2), 0U);
  ASSERT_TRUE(tier_.TakeSmallestKept(&chunk));
  EXPECT_NE(views().Find(chunk, 2), 0U);
}

}  // namespace
}  // namespace gpuroom
