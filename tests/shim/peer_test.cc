// Two devices: each has limits of its own, both share the host's, and each reaches the
// other's ranges.
#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

using PeerTest = ShimTest;

TEST_F(PeerTest, TheSecondDeviceHasItsOwnBudgetAndSharesTheHosts) {
  const CUdeviceptr first = Alloc(kForRanges);
  const CUcontext second_context = UseDevice(1);
  EXPECT_EQ(MemInfo().total, kHbm + kHost);
  EXPECT_EQ(MemInfo().free, kHbm + kHost);
  const CUdeviceptr second = Alloc(kForRanges);
  EXPECT_EQ(PlacementOf(second).device_bytes, kForRanges);
  EXPECT_EQ(GetSim().used(1), kForRanges);
  const CUdeviceptr spilled = Alloc(kSpilled);
  EXPECT_EQ(PlacementOf(spilled).device_bytes, 0u);
  int ordinal = -1;
  EXPECT_CU(Cu().PointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, spilled));
  EXPECT_EQ(ordinal, 1);
  CUcontext context = nullptr;
  EXPECT_CU(Cu().PointerGetAttribute(&context, CU_POINTER_ATTRIBUTE_CONTEXT, spilled));
  EXPECT_EQ(context, second_context);
  Fill(spilled, kSpilled, 21);
  EXPECT_EQ(CountBad(spilled, kSpilled, 21), 0u);
  UseDevice(0);
  EXPECT_EQ(MemInfo().free, before_.free - kForRanges - kSpilled);
  Free(spilled);  // from the other context, too
  Free(second);
  Free(first);
}

TEST_F(PeerTest, CreateForTheSecondDeviceSpillsAndSaysDevice1) {
  const CUmemAllocationProp prop = DeviceMemory(1);
  CUmemGenericAllocationHandle handle = 0;
  ASSERT_CU(Cu().MemCreate(&handle, kSpilled, &prop, 0));
  CUmemAllocationProp told{};
  EXPECT_CU(Cu().MemGetAllocationPropertiesFromHandle(&told, handle));
  EXPECT_EQ(told.location.type, CU_MEM_LOCATION_TYPE_DEVICE);
  EXPECT_EQ(told.location.id, 1);
  EXPECT_CU(Cu().MemRelease(handle));
}

TEST_F(PeerTest, EnablingAccessReachesExistingAndLaterRanges) {
  const CUdeviceptr spilled = Alloc(kSpilled);
  const CUdeviceptr device = Alloc(32 * kMiB);
  Fill(spilled, kSpilled, 1);
  Fill(device, 32 * kMiB, 2);
  EXPECT_CU(Cu().CtxSynchronize());
  const CUcontext owner = UseDevice(0);
  UseDevice(1);
  ASSERT_CU(Cu().CtxEnablePeerAccess(owner, 0));
  EXPECT_EQ(CountBad(spilled, kSpilled, 1), 0u);  // device 1's kernels
  EXPECT_EQ(CountBad(device, 32 * kMiB, 2), 0u);
  UseDevice(0);
  const CUdeviceptr later = Alloc(kThreshold);
  UseDevice(1);
  Fill(later, kThreshold, 3);
  EXPECT_EQ(CountBad(later, kThreshold, 3), 0u);
  EXPECT_CU_IS(Cu().CtxEnablePeerAccess(owner, 0), CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
  EXPECT_CU(Cu().CtxDisablePeerAccess(owner));
  UseDevice(0);
  Free(later);
  Free(device);
  Free(spilled);
}

// The driver's own memory needs no enabled access to be copied, and the driver crashes on
// host chunks that only one of the two may access (docs/driver-notes.md).
TEST_F(PeerTest, CopiesBetweenDevicesNeedNoEnabledAccess) {
  const CUcontext first = UseDevice(0);
  const CUdeviceptr spilled = Alloc(kSpilled);
  Fill(spilled, kSpilled, 5);
  EXPECT_CU(Cu().CtxSynchronize());
  const CUcontext second = UseDevice(1);
  const CUdeviceptr there = Alloc(kSpilled);
  EXPECT_CU(Cu().MemcpyPeer(there, second, spilled, first, kSpilled));
  EXPECT_EQ(CountBad(there, kSpilled, 5), 0u);
  Fill(there, kSpilled, 6);
  EXPECT_CU(Cu().CtxSynchronize());
  EXPECT_CU(Cu().MemcpyDtoD(spilled, there, kSpilled));
  UseDevice(0);
  EXPECT_EQ(CountBad(spilled, kSpilled, 6), 0u);
  Free(there);
  Free(spilled);
}

TEST_F(PeerTest, ARefusedEnableLeavesTheNextAllocationsAlone) {
  const CUcontext owner = UseDevice(0);
  const CUdeviceptr p = Alloc(kSpilled);
  UseDevice(1);
  GetSim().fail("cuMemSetAccess:1:CUDA_ERROR_INVALID_DEVICE");
  EXPECT_CU_IS(Cu().CtxEnablePeerAccess(owner, 0), CUDA_ERROR_INVALID_DEVICE);
  GetSim().fail("");
  // The program may try again, and then has it.
  EXPECT_CU(Cu().CtxEnablePeerAccess(owner, 0));
  Fill(p, kSpilled, 3);
  EXPECT_EQ(CountBad(p, kSpilled, 3), 0u);
  EXPECT_CU(Cu().CtxDisablePeerAccess(owner));
  UseDevice(0);
  Free(p);
}

// Without a limit on HBM, where the driver says what is free: of the device that is current. A
// device has 256 MiB, of which 16 are the reserve.
class PeerFreeTest : public ShimTest {
 protected:
  static constexpr uint64_t kMost = 256 * kMiB - kReserve;

  // Memory of device 1, while device 0 is current before and after. What is hot gives way to nothing.
  CUdeviceptr AllocThere(uint64_t bytes, gpuroom_hint hint = GPUROOM_HINT_HOT) {
    UseDevice(1);
    const CUdeviceptr p = AllocHinted(hint, bytes);
    UseDevice(0);
    return p;
  }
  bool AwaitReturnThere(CUdeviceptr p, uint64_t bytes) {
    return AwaitReturn(p, bytes, [&] { Free(AllocThere(kThreshold)); });
  }
};

TEST_F(PeerFreeTest, WhatBelongsInHbmComesBackWhileAFullDeviceIsCurrent) {
  const CUdeviceptr first = Alloc(kMost);
  const CUdeviceptr second = AllocThere(kMost);
  const CUdeviceptr spilled = AllocThere(32 * kMiB, GPUROOM_HINT_NONE);
  ASSERT_EQ(PlacementOf(spilled).host_bytes, 32 * kMiB);
  Free(second);
  EXPECT_TRUE(AwaitReturnThere(spilled, 32 * kMiB));
  Free(spilled);
  Free(first);
}

TEST_F(PeerFreeTest, TheReserveIsKeptWhileAnEmptyDeviceIsCurrent) {
  constexpr uint64_t kFreed = 88 * kMiB;  // 64 MiB of it stay free, so that the next request has some
  const CUdeviceptr second = AllocThere(kMost - kFreed);
  const CUdeviceptr freed = AllocThere(kFreed);
  const CUdeviceptr large = AllocThere(kFreed, GPUROOM_HINT_NONE);
  const CUdeviceptr small = AllocThere(kThreshold, GPUROOM_HINT_NONE);
  ASSERT_EQ(PlacementOf(large).host_bytes + PlacementOf(small).host_bytes, kFreed + kThreshold);
  Free(freed);
  EXPECT_TRUE(AwaitReturnThere(small, kThreshold));
  EXPECT_EQ(PlacementOf(large).host_bytes, kFreed);
  EXPECT_LE(GetSim().used(1), kMost);
  Free(small);
  Free(large);
  Free(second);
}

TEST_F(PeerFreeTest, AChunkForADeviceThatIsNotCurrentLeavesItsReserve) {
  const CUdeviceptr second = AllocThere(kMost);
  const CUmemAllocationProp prop = DeviceMemory(1);
  CUmemGenericAllocationHandle handle = 0;
  ASSERT_CU(Cu().MemCreate(&handle, kThreshold, &prop, 0));
  EXPECT_EQ(GetSim().used(1), kMost);
  EXPECT_CU(Cu().MemRelease(handle));
  Free(second);
}

// A pool of another device's memory is the driver's business.
TEST_F(PeerTest, AnotherDevicesPoolIsTheDriversOwn) {
  const CUdeviceptr full = AllocHot(kForRanges);
  CUmemoryPool pool = nullptr;
  ASSERT_CU(Cu().DeviceGetDefaultMemPool(&pool, 1));
  CUdeviceptr p = 0;
  ASSERT_CU(Cu().MemAllocFromPoolAsync(&p, kThreshold, pool, nullptr));
  EXPECT_EQ(PlacementOf(p).host_bytes, 0u);
  EXPECT_EQ(GetSim().used(1), kThreshold);
  EXPECT_CU(Cu().MemFreeAsync(p, nullptr));
  EXPECT_CU(Cu().CtxSynchronize());
  EXPECT_CU(Cu().MemPoolTrimTo(pool, 0));
  Free(full);
}

}  // namespace
}  // namespace gpuroom::shim_test
