// A program that links libcuda: its calls meet the shim by symbol interposition.
#include <dlfcn.h>
#include <unistd.h>

#include "early_use.h"
#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

using LinkedTest = ShimTest;

TEST_F(LinkedTest, ItsCallsGoThroughTheShim) {
  CUdeviceptr p = 0;
  ASSERT_CU(::cuMemAlloc_v2(&p, kSpilled));
  EXPECT_EQ(PlacementOf(p).host_bytes, kSpilled - kForRanges);
  size_t free = 0;
  size_t total = 0;
  ASSERT_CU(::cuMemGetInfo_v2(&free, &total));
  EXPECT_EQ(total, kHbm + kHost);
  EXPECT_EQ(free, kHbm + kHost - kSpilled);
  ASSERT_CU(::cuMemsetD8_v2(p, 1, kSpilled));  // not hooked: the driver's own
  ASSERT_CU(::cuMemFree_v2(p));
}

TEST_F(LinkedTest, WhatDlsymGivesIsTheSameFunction) {
  EXPECT_EQ(Cu().MemAlloc, &::cuMemAlloc_v2);
  EXPECT_EQ(Cu().MemGetInfo, &::cuMemGetInfo_v2);
}

TEST_F(LinkedTest, ALibrarysConstructorGetsTheShimAsWell) {
  const EarlyUse& early = EarlyUseOfCuda();
  EXPECT_CU(early.result);
  EXPECT_NE(early.launch, nullptr);
  EXPECT_EQ(early.launch, dlsym(LibCuda(), "cuLaunchKernel"));
  EXPECT_EQ(early.allocate, dlsym(LibCuda(), "cuMemAlloc_v2"));
}

TEST_F(LinkedTest, AProcessWhoseLibraryUsedTheGpuInItsConstructorCanBeAsked) {
  const std::string socket = EarlyUseOfCuda().control_directory + ("/" + std::to_string(getpid()) + ".sock");
  EXPECT_EQ(access(socket.c_str(), F_OK), 0) << socket;
}

}  // namespace
}  // namespace gpuroom::shim_test
