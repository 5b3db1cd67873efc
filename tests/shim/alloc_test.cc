// cuMemAlloc, cuMemAllocPitch and cuMemFree: where allocations go and that they come back.
#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

using AllocTest = ShimTest;

TEST_F(AllocTest, SmallOnesStayTheDriversOwn) {
  const uint64_t creates = GetSim().call_count("cuMemCreate");
  const CUdeviceptr p = Alloc(kThreshold - 1);
  EXPECT_EQ(PlacementOf(p).device_bytes, 0u);  // no range
  EXPECT_EQ(GetSim().call_count("cuMemCreate"), creates);
  EXPECT_EQ(MemInfo().free, before_.free - (kThreshold - 1));
  Free(p);
}

TEST_F(AllocTest, FromTheThresholdOnTheyAreRangesInHbm) {
  for (const uint64_t bytes : {kThreshold, kThreshold + 1, 33 * kMiB + 12345}) {
    const CUdeviceptr p = Alloc(bytes);
    EXPECT_EQ(PlacementOf(p).device_bytes, RoundUp(bytes, 2 * kMiB)) << bytes;
    EXPECT_EQ(PlacementOf(p).host_bytes, 0u);
    Fill(p, bytes / 8 * 8, bytes);
    EXPECT_EQ(CountBad(p, bytes / 8 * 8, bytes), 0u);
    Free(p);
  }
}

TEST_F(AllocTest, WhatDoesNotFitLiesOnTheHost) {
  const CUdeviceptr p = Alloc(kSpilled);
  EXPECT_EQ(PlacementOf(p).host_bytes, kSpilled - kForRanges);
  EXPECT_EQ(PlacementOf(p).device_bytes, kForRanges);
  EXPECT_EQ(GetSim().used(-1), kSpilled - kForRanges);
  EXPECT_EQ(MemInfo().free, before_.free - kSpilled);
  Free(p);
  EXPECT_EQ(GetSim().used(-1), 0u);
}

TEST_F(AllocTest, WhatNeitherTierHoldsAloneLiesInBoth) {
  const CUdeviceptr p = Alloc(kMixed);
  EXPECT_EQ(PlacementOf(p).device_bytes, kForRanges);
  EXPECT_EQ(PlacementOf(p).host_bytes, kMixed - kForRanges);
  Free(p);
}

TEST_F(AllocTest, TheReserveServesSmallOnesWhenRangesFillTheRest) {
  const CUdeviceptr large = Alloc(kForRanges);
  EXPECT_EQ(PlacementOf(large).device_bytes, kForRanges);
  const CUdeviceptr small = Alloc(kReserve - kMiB);
  EXPECT_EQ(PlacementOf(small).host_bytes, 0u);
  Free(small);
  Free(large);
}

TEST_F(AllocTest, SmallOnesSpillWhenTheBudgetIsFullAndNothingGivesWay) {
  const CUdeviceptr large = Alloc(kForRanges);
  ASSERT_EQ(gpuroom_set_hint(large, GPUROOM_HINT_HOT), GPUROOM_OK);
  const CUdeviceptr filler = Alloc(15 * kMiB);
  const CUdeviceptr small = Alloc(3 * kMiB);
  EXPECT_EQ(PlacementOf(small).host_bytes, 4 * kMiB);
  Fill(small, 3 * kMiB, 9);
  EXPECT_EQ(CountBad(small, 3 * kMiB, 9), 0u);
  Free(small);
  Free(filler);
  Free(large);
}

TEST_F(AllocTest, TooLargeIsOutOfMemoryAndTheProgramGoesOn) {
  for (const uint64_t bytes : {kHbm + kHost, uint64_t{1} << 40, UINT64_MAX - 1, UINT64_MAX}) {
    CUdeviceptr p = 0;
    EXPECT_CU_IS(Cu().MemAlloc(&p, bytes), CUDA_ERROR_OUT_OF_MEMORY) << bytes;
    EXPECT_EQ(MemInfo(), before_);
    EXPECT_EQ(Leaks(), "");
  }
  const CUdeviceptr p = Alloc(kSpilled);
  Fill(p, kMiB, 1);
  EXPECT_EQ(CountBad(p, kMiB, 1), 0u);
  Free(p);
}

TEST_F(AllocTest, BadRequestsGetTheDriversOwnAnswer) {
  CUdeviceptr p = 0;
  EXPECT_CU_IS(Cu().MemAlloc(&p, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU_IS(Cu().MemAlloc(nullptr, kSpilled), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU(Cu().MemFree(0));
  const CUdeviceptr range = Alloc(kSpilled);
  EXPECT_CU_IS(Cu().MemFree(range + 2 * kMiB), CUDA_ERROR_INVALID_VALUE);
  Free(range);
  EXPECT_CU_IS(Cu().MemFree(range), CUDA_ERROR_INVALID_VALUE);
  GetSim().clear_strict_errors();  // these were ours
}

TEST_F(AllocTest, OneByteWorks) {
  const CUdeviceptr p = Alloc(1);
  EXPECT_CU(Cu().MemsetD8(p, 7, 1));
  unsigned char byte = 0;
  EXPECT_CU(Cu().MemcpyDtoH(&byte, p, 1));
  EXPECT_EQ(byte, 7);
  Free(p);
}

TEST_F(AllocTest, PitchedOnesKeepTheirRowsApartWhereverTheyLie) {
  const size_t widths[] = {1000, 4096, 70000};
  for (const size_t width : widths) {
    for (const uint64_t bytes : {8 * kMiB, 40 * kMiB, kSpilled}) {
      const size_t height = bytes / RoundUp(width, 512);
      CUdeviceptr p = 0;
      size_t pitch = 0;
      ASSERT_CU(Cu().MemAllocPitch(&p, &pitch, width, height, 4));
      EXPECT_GE(pitch, width);
      EXPECT_EQ(pitch % 512, 0u);
      EXPECT_EQ(PlacementOf(p).host_bytes > 0, pitch * height > kForRanges);
      // The last row is there, whole.
      EXPECT_CU(Cu().MemsetD2D8(p, pitch, 3, width, height));
      unsigned char last = 0;
      EXPECT_CU(Cu().MemcpyDtoH(&last, p + pitch * (height - 1) + width - 1, 1));
      EXPECT_EQ(last, 3);
      Free(p);
    }
  }
}

TEST_F(AllocTest, BadPitchesGetTheDriversOwnAnswer) {
  CUdeviceptr p = 0;
  size_t pitch = 0;
  EXPECT_CU_IS(Cu().MemAllocPitch(&p, &pitch, 1000, 1000000, 3), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU_IS(Cu().MemAllocPitch(&p, &pitch, 0, 5, 4), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU_IS(Cu().MemAllocPitch(&p, nullptr, 1000, 1000000, 4), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU_IS(Cu().MemAllocPitch(&p, &pitch, SIZE_MAX - 1, 2, 4), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_CU_IS(Cu().MemAllocPitch(&p, &pitch, SIZE_MAX / 2, 4, 4), CUDA_ERROR_OUT_OF_MEMORY);
}

TEST_F(AllocTest, AThousandSmallOnesAreCountedAndGivenBack) {
  std::vector<CUdeviceptr> all;
  uint64_t sum = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    const uint64_t bytes = 1 + i * 37 % 20000;
    all.push_back(Alloc(bytes));
    sum += bytes;
  }
  EXPECT_EQ(MemInfo().free, before_.free - sum);
  for (size_t i = 0; i < all.size(); i += 2) Free(all[i]);
  for (size_t i = 1; i < all.size(); i += 2) Free(all[i]);
}

TEST_F(AllocTest, FreeWaitsForTheKernelsThatUseARange) {
  for (const uint64_t bytes : {kForRanges, kSpilled, kMixed}) {
    const CUdeviceptr p = Alloc(bytes);
    Spin(2'000'000);
    Fill(p, bytes, 1);
    Free(p);  // had it not waited, the kernel would meet unmapped addresses
    EXPECT_CU(Cu().CtxSynchronize());
  }
}

// Golden numbers: what one allocation and its free may cost in driver calls.
uint64_t Count(const char* name) { return GetSim().call_count(name); }

TEST_F(AllocTest, ADeviceRangeCostsTheseDriverCalls) {
  const uint64_t all = Count("*");
  const uint64_t create = Count("cuMemCreate");
  const uint64_t set_access = Count("cuMemSetAccess");
  const uint64_t synchronize = Count("cuCtxSynchronize");
  Free(Alloc(32 * kMiB));
  EXPECT_EQ(Count("cuMemCreate") - create, 1u);
  EXPECT_EQ(Count("cuMemSetAccess") - set_access, 1u);
  EXPECT_EQ(Count("cuCtxSynchronize") - synchronize, 1u);
  // Current device and context, context; create, reserve, map, access; context, synchronise; unmap, release,
  // free.
  EXPECT_EQ(Count("*") - all, 11u);
}

TEST_F(AllocTest, AColdRangeCostsTheseDriverCalls) {
  const uint64_t bytes = 80 * kMiB;
  const uint64_t all = Count("*");
  const uint64_t create = Count("cuMemCreate");
  const uint64_t unmap = Count("cuMemUnmap");
  Free(AllocOnHost(bytes));
  EXPECT_EQ(Count("cuMemCreate") - create, 1u);
  EXPECT_EQ(Count("cuMemUnmap") - unmap, 1u);
  EXPECT_EQ(Count("*") - all, 11u);  // as a range in HBM
}

TEST_F(AllocTest, ASmallOneCostsOneCallBesidesTheDriversOwn) {
  const uint64_t all = Count("*");
  Free(Alloc(4096));
  EXPECT_EQ(Count("*") - all, 3u);  // cuCtxGetCurrent, cuMemAlloc, cuMemFree
}

// Kernels of CUB that begin too early are right by luck in fast memory, and wrong in slow memory.
TEST_F(AllocTest, NoKernelBeginsEarlyBesideMemoryOutsideHbm) {
  EXPECT_TRUE(BeginsEarly());
  const CUdeviceptr spilled = Alloc(kSpilled);
  EXPECT_FALSE(BeginsEarly());
  Free(spilled);
  EXPECT_TRUE(BeginsEarly());
}

}  // namespace
}  // namespace gpuroom::shim_test
