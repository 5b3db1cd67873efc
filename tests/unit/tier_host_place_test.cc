#include <gtest/gtest.h>

#include "tier/host_place.h"
#include "tier/host_tier.h"
#include "tier_fake_driver.h"

namespace gpuroom {
namespace {

bool IsNode(const CUmemAllocationProp& prop, int node) {
  return prop.location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA && prop.location.id == node;
}

class HostPlaceTest : public testing::Test {
 protected:
  HostPlace Find() {
    return FindHostPlace(driver_, 1, [this] {
      ++asked_;
      return std::vector<int>{2, 0};
    });
  }
  void TearDown() override { EXPECT_TRUE(Fake().live.empty()); }

  const Driver driver_ = FakeDriver();
  int asked_ = 0;  // how often for other nodes
};

TEST_F(HostPlaceTest, OnePieceOfTheGpusOwnNodeIsTriedAndNothingElse) {
  const HostPlace place = Find();
  EXPECT_EQ(place.type, CU_MEM_LOCATION_TYPE_HOST_NUMA);
  EXPECT_EQ(place.node, 1);
  EXPECT_FALSE(place.refused);
  EXPECT_EQ(Fake().creates, 1);
  EXPECT_EQ(asked_, 0);
}

TEST_F(HostPlaceTest, ANodeWithoutMemoryIsLeftForTheNextThatHasSome) {
  Fake().refuse = [](const CUmemAllocationProp& prop) {
    return IsNode(prop, 0) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
  };
  const HostPlace place = Find();
  EXPECT_EQ(place.type, CU_MEM_LOCATION_TYPE_HOST_NUMA);
  EXPECT_EQ(place.node, 0);
  EXPECT_FALSE(place.refused);
}

TEST_F(HostPlaceTest, WhereNoNodeMayBeNamedTheDriverChoosesAndNothingIsExported) {
  Fake().refuse = [](const CUmemAllocationProp& prop) {
    if (prop.location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA) return CUDA_ERROR_NOT_PERMITTED;
    return prop.requestedHandleTypes == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  };
  const HostPlace place = Find();
  EXPECT_EQ(place.type, CU_MEM_LOCATION_TYPE_HOST);
  EXPECT_EQ(place.shareable, CU_MEM_HANDLE_TYPE_NONE);
  EXPECT_FALSE(place.refused);
}

TEST_F(HostPlaceTest, RefusedEverywhereItSaysSo) {
  for (const CUresult result : {CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_NOT_PERMITTED,
                                CUDA_ERROR_NOT_SUPPORTED, CUDA_ERROR_OPERATING_SYSTEM}) {
    Fake().refuse = [result](const CUmemAllocationProp&) { return result; };
    EXPECT_TRUE(Find().refused) << result;
  }
}

TEST_F(HostPlaceTest, WhatSaysNothingOfMemoryIsNoRefusal) {
  for (const CUresult result : {CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_NOT_INITIALIZED}) {
    Fake().refuse = [result](const CUmemAllocationProp&) { return result; };
    EXPECT_FALSE(Find().refused) << result;
  }
  EXPECT_EQ(asked_, 0);
}

TEST_F(HostPlaceTest, ATierWithoutAPlaceHasNothingForChunksAndItsLimitForTheRest) {
  HostShare share(64 * kMiB, 0, nullptr);
  HostTier tier(driver_, 1, share);
  Fake().refuse = [](const CUmemAllocationProp&) { return CUDA_ERROR_NOT_PERMITTED; };
  tier.FindPlace([] { return std::vector<int>{}; });
  EXPECT_EQ(tier.Free(), 0u);
  EXPECT_EQ(tier.chunk_limit(), 0u);
  EXPECT_EQ(tier.Create(2 * kMiB).status().code(), Code::kOutOfMemory);
  EXPECT_FALSE(tier.CreateKept(2 * kMiB));
  EXPECT_EQ(tier.FreeOfLimit(), 64 * kMiB);
  EXPECT_TRUE(tier.ClaimOther(32 * kMiB));
  tier.ReleaseOther(32 * kMiB);
}

TEST_F(HostPlaceTest, ATierWithoutAPlaceTakesNothingFromOthers) {
  HostShare share(64 * kMiB, 64 * kMiB, nullptr);
  HostTier other(driver_, 0, share);
  HostTier tier(driver_, 1, share);
  ASSERT_TRUE(other.CreateKept(8 * kMiB));
  Fake().refuse = [](const CUmemAllocationProp&) { return CUDA_ERROR_NOT_PERMITTED; };
  tier.FindPlace([] { return std::vector<int>{}; });
  EXPECT_FALSE(tier.Create(64 * kMiB).ok());
  EXPECT_EQ(other.kept_bytes(), 8 * kMiB);
  other.Trim();
}

TEST_F(HostPlaceTest, ATierCreatesWhereItsPlaceIs) {
  HostShare share(64 * kMiB, 0, nullptr);
  HostTier tier(driver_, 1, share);
  Fake().refuse = [](const CUmemAllocationProp& prop) {
    return IsNode(prop, 1) ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
  };
  tier.FindPlace([] { return std::vector<int>{3}; });
  const Result<Chunk> chunk = tier.Create(4 * kMiB);
  ASSERT_TRUE(chunk.ok());
  EXPECT_TRUE(IsNode(Fake().last, 3));
  EXPECT_EQ(chunk->place, 3);
  EXPECT_EQ(tier.numa_node(), 3);
  EXPECT_EQ(tier.home_node(), 1);
  EXPECT_TRUE(tier.Release(*chunk).ok());
}

}  // namespace
}  // namespace gpuroom
