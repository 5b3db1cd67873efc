#include <algorithm>

#include "sim_test.h"

namespace gpuroom::sim {
namespace {

using InjectTest = SimTest;

CUresult Query() {
  size_t free_bytes = 0;
  size_t total = 0;
  return cuMemGetInfo(&free_bytes, &total);
}

TEST_F(InjectTest, FailsTheNthCallOnce) {
  gpuroom_sim_fail("cuMemGetInfo:2");
  EXPECT_EQ(Query(), CUDA_SUCCESS);
  EXPECT_EQ(Query(), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Query(), CUDA_SUCCESS);
}

TEST_F(InjectTest, TakesResultsByNameAndNumberAndSeveralRules) {
  gpuroom_sim_fail("cuMemGetInfo:1:CUDA_ERROR_UNKNOWN,cuMemGetInfo:2:801");
  EXPECT_EQ(Query(), CUDA_ERROR_UNKNOWN);
  EXPECT_EQ(Query(), CUDA_ERROR_NOT_SUPPORTED);
  gpuroom_sim_fail("");
  EXPECT_EQ(Query(), CUDA_SUCCESS);
}

TEST_F(InjectTest, ARuleCanHoldFromACallOn) {
  gpuroom_sim_fail("cuMemGetInfo:2+:801");
  EXPECT_EQ(Query(), CUDA_SUCCESS);
  EXPECT_EQ(Query(), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(Query(), CUDA_ERROR_NOT_SUPPORTED);
}

TEST_F(InjectTest, ARuleCanBeAboutMemoryOfOneKind) {
  gpuroom_sim_fail("cuMemCreate.HOST_NUMA:1+:CUDA_ERROR_NOT_PERMITTED");
  CUmemAllocationProp prop = {};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  CUmemGenericAllocationHandle handle = 0;
  for (const auto type : {CU_MEM_LOCATION_TYPE_DEVICE, CU_MEM_LOCATION_TYPE_HOST}) {
    prop.location.type = type;
    ASSERT_EQ(cuMemCreate(&handle, kChunk, &prop, 0), CUDA_SUCCESS);
    EXPECT_EQ(cuMemRelease(handle), CUDA_SUCCESS);
  }
  prop.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
  EXPECT_EQ(cuMemCreate(&handle, kChunk, &prop, 0), CUDA_ERROR_NOT_PERMITTED);
}

TEST_F(InjectTest, TheStarCountsEveryFunction) {
  gpuroom_sim_fail("*:2");
  CUdevice device = 0;
  EXPECT_EQ(cuCtxGetDevice(&device), CUDA_SUCCESS);
  EXPECT_EQ(Query(), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Query(), CUDA_SUCCESS);
}

TEST_F(InjectTest, ASeedFailsTheSameCallsAgain) {
  std::vector<CUresult> first;
  std::vector<CUresult> second;
  gpuroom_sim_fail("seed:9:50");
  for (int i = 0; i < 64; ++i) first.push_back(Query());
  gpuroom_sim_fail("seed:9:50");
  for (int i = 0; i < 64; ++i) second.push_back(Query());
  EXPECT_EQ(first, second);
  EXPECT_NE(std::count(first.begin(), first.end(), CUDA_SUCCESS), 0);
  EXPECT_NE(std::count(first.begin(), first.end(), CUDA_SUCCESS), 64);
}

TEST_F(InjectTest, AFailedCallDoesNothing) {
  gpuroom_sim_fail("cuMemAlloc:1");
  CUdeviceptr address = 0;
  EXPECT_EQ(cuMemAlloc(&address, kChunk), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(gpuroom_sim_used(0), 0U);
}

TEST_F(InjectTest, CallsAreCountedByNameAndInAll) {
  const uint64_t before = gpuroom_sim_call_count("cuMemGetInfo");
  const uint64_t all = gpuroom_sim_call_count("*");
  EXPECT_EQ(Query(), CUDA_SUCCESS);
  EXPECT_EQ(gpuroom_sim_call_count("cuMemGetInfo"), before + 1);
  EXPECT_EQ(gpuroom_sim_call_count("*"), all + 1);
}

}  // namespace
}  // namespace gpuroom::sim
