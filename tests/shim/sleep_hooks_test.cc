// Driver calls on memory that is asleep.
#include <unistd.h>

#include "sleep_fixture.h"

namespace gpuroom::shim_test {
namespace {

constexpr uint64_t kSize = 2 * kMiB;

class SleepHooksTest : public SleepTest {
 protected:
  void SetUp() override {
    SleepTest::SetUp();
    SetTag("t");
  }
  template <typename T>
  static T Attribute(CUpointer_attribute attribute, CUdeviceptr p) {
    T value{};
    EXPECT_CU(Cu().PointerGetAttribute(&value, attribute, p));
    return value;
  }
};

TEST_F(SleepHooksTest, FreeingGivesAddressesAndBackupsBack) {
  const CUdeviceptr p = Alloc(kSize);
  const CUdeviceptr q = Alloc(kSize);
  Sleep();
  EXPECT_LT(MemInfo().free, before_.free);  // backups take host memory
  Free(p);
  EXPECT_CU(Cu().MemFreeAsync(q, nullptr));
  EXPECT_CU(Cu().StreamSynchronize(nullptr));
  EXPECT_EQ(MemInfo().free, before_.free);
  EXPECT_EQ(StateOf("t").ranges, 0u);
}

TEST_F(SleepHooksTest, UnmappingAndReleasingGivesAllBack) {
  const Mapped one(kSize, 2);
  const Mapped two(kSize);
  Sleep();
  one.Free();
  EXPECT_CU(Cu().MemRelease(two.handle));  // the mapping keeps it
  EXPECT_EQ(StateOf("t").kept, kSize);
  EXPECT_CU(Cu().MemUnmap(two.va, kSize));
  EXPECT_CU(Cu().MemAddressFree(two.va, kSize));
  EXPECT_EQ(StateOf("t").ranges, 0u);
}

TEST_F(SleepHooksTest, ASpanMayBePartlyAsleep) {
  // Side by side: awake, asleep, awake, asleep.
  const CUmemAllocationProp prop = DeviceMemory();
  const CUmemAccessDesc access = DeviceAccess();
  CUmemGenericAllocationHandle handles[4] = {};
  CUdeviceptr va = 0;
  ASSERT_CU(Cu().MemAddressReserve(&va, 4 * kSize, 0, 0, 0));
  for (uint64_t i = 0; i < 4; ++i) {
    SetTag(i % 2 == 0 ? "awake" : "t");
    ASSERT_CU(Cu().MemCreate(&handles[i], kSize, &prop, 0));
    ASSERT_CU(Cu().MemMap(va + i * kSize, kSize, 0, handles[i], 0));
  }
  Sleep({{"t", GPUROOM_SLEEP_KEEP}});  // no device may write it: it stays
  EXPECT_EQ(StateOf("t").awake, 2 * kSize);
  ASSERT_CU(Cu().MemSetAccess(va, 4 * kSize, &access, 1));
  Fill(va, 4 * kSize, 7);
  EXPECT_EQ(Sleep({{"t", GPUROOM_SLEEP_KEEP}}).ranges, 2u);
  EXPECT_CU(Cu().MemSetAccess(va, 4 * kSize, &access, 1));
  Wake();
  EXPECT_EQ(CountBad(va, 4 * kSize, 7), 0u);
  Sleep({{"t", GPUROOM_SLEEP_KEEP}});
  EXPECT_CU(Cu().MemUnmap(va, 4 * kSize));
  // What is unmapped and held by its handle wakes, too, and can be mapped again.
  EXPECT_EQ(StateOf("t").kept, 2 * kSize);
  EXPECT_EQ(Wake().ranges, 2u);
  EXPECT_EQ(StateOf("t").awake_on_gpu, 2 * kSize);
  for (uint64_t i = 0; i < 4; ++i) ASSERT_CU(Cu().MemMap(va + i * kSize, kSize, 0, handles[i], 0));
  ASSERT_CU(Cu().MemSetAccess(va, 4 * kSize, &access, 1));
  EXPECT_EQ(CountBad(va, 4 * kSize, 7), 0u);
  EXPECT_CU(Cu().MemUnmap(va, 4 * kSize));
  for (const auto handle : handles) EXPECT_CU(Cu().MemRelease(handle));
  EXPECT_CU(Cu().MemAddressFree(va, 4 * kSize));
}

TEST_F(SleepHooksTest, WhatNeedsItsChunksIsRefused) {
  const Mapped mapped(kSize, 1, 0, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  const CUdeviceptr va = mapped.va;
  CUdeviceptr elsewhere = 0;
  ASSERT_CU(Cu().MemAddressReserve(&elsewhere, kSize, 0, 0, 0));
  const CUdeviceptr range = Alloc(kSize);
  Fill(va, kSize, 1);
  Fill(range, kSize, 2);
  Sleep();
  int fd = -1;
  EXPECT_CU_IS(Cu().MemMap(elsewhere, kSize, 0, mapped.handle, 0), CUDA_ERROR_ILLEGAL_STATE);
  EXPECT_CU_IS(
      Cu().MemExportToShareableHandle(&fd, mapped.handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
      CUDA_ERROR_ILLEGAL_STATE);
  CUmemAccessDesc host = DeviceAccess();
  host.location.type = CU_MEM_LOCATION_TYPE_HOST;
  EXPECT_CU_IS(Cu().MemSetAccess(va, kSize, &host, 1), CUDA_ERROR_ILLEGAL_STATE);
  CUipcMemHandle ipc{};
  EXPECT_CU_IS(Cu().IpcGetMemHandle(&ipc, range), CUDA_ERROR_ILLEGAL_STATE);
  EXPECT_EQ(gpuroom_range_migrate(range, 0, GPUROOM_TIER_HOST), GPUROOM_BUSY);
  EXPECT_STREQ(gpuroom_last_error(), "the memory is asleep; wake it first");
  EXPECT_EQ(gpuroom_range_migrate(va, 0, GPUROOM_TIER_HOST), GPUROOM_BUSY);
  EXPECT_EQ(gpuroom_set_hint(va, GPUROOM_HINT_COLD), GPUROOM_OK);
  Wake();
  EXPECT_EQ(CountBad(va, kSize, 1), 0u);
  EXPECT_EQ(CountBad(range, kSize, 2), 0u);
  EXPECT_EQ(gpuroom_range_migrate(range, 0, GPUROOM_TIER_HOST), GPUROOM_OK);
  mapped.Free();
  EXPECT_CU(Cu().MemAddressFree(elsewhere, kSize));
  Free(range);
}

TEST_F(SleepHooksTest, WhatIsSharedStaysAwake) {
  const Mapped mapped(kSize, 1, 0, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  const CUdeviceptr va = mapped.va;
  int fd = -1;
  EXPECT_CU(Cu().MemExportToShareableHandle(&fd, mapped.handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
  const CUdeviceptr sleeps = Alloc(kSize);
  const gpuroom_sleep_report slept = Sleep();
  EXPECT_EQ(slept.ranges, 1u);
  EXPECT_EQ(slept.left_awake, kSize);
  Fill(va, kSize, 3);
  EXPECT_EQ(CountBad(va, kSize, 3), 0u);
  Wake();
  close(fd);
  mapped.Free();
  Free(sleeps);
}

TEST_F(SleepHooksTest, QueriesAnswerAsForTheMemoryThatItIs) {
  const CUdeviceptr range = Alloc(kSize);
  const Mapped mapped(kSize);
  Sleep();
  for (const CUdeviceptr p : {range, mapped.va}) {
    EXPECT_EQ(Attribute<unsigned>(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p + 8), unsigned{CU_MEMORYTYPE_DEVICE});
    EXPECT_EQ(Attribute<CUdeviceptr>(CU_POINTER_ATTRIBUTE_DEVICE_POINTER, p + 8), p + 8);
    EXPECT_EQ(Attribute<int>(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, p), 0);
    EXPECT_EQ(Attribute<CUdeviceptr>(CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, p + 8), p);
    EXPECT_EQ(Attribute<size_t>(CU_POINTER_ATTRIBUTE_RANGE_SIZE, p), kSize);
    CUdeviceptr base = 0;
    size_t bytes = 0;
    EXPECT_CU(Cu().MemGetAddressRange(&base, &bytes, p + 8));
    EXPECT_EQ(base, p);
    EXPECT_EQ(bytes, kSize);
    const gpuroom_placement placement = Describe(p);
    EXPECT_EQ(placement.address, p);
    EXPECT_EQ(placement.bytes, kSize);
    EXPECT_EQ(placement.device_bytes + placement.peer_bytes + placement.host_bytes, 0u);
  }
  CUmemGenericAllocationHandle again = 0;
  EXPECT_CU(Cu().MemRetainAllocationHandle(&again, reinterpret_cast<void*>(mapped.va)));  // NOLINT
  EXPECT_EQ(again, mapped.handle);
  EXPECT_CU(Cu().MemRelease(again));
  CUmemAllocationProp prop{};
  EXPECT_CU(Cu().MemGetAllocationPropertiesFromHandle(&prop, mapped.handle));
  EXPECT_EQ(prop.type, CU_MEM_ALLOCATION_TYPE_PINNED);
  EXPECT_EQ(prop.location.type, CU_MEM_LOCATION_TYPE_DEVICE);
  EXPECT_EQ(prop.location.id, 0);
  Wake();
  mapped.Free();
  Free(range);
}

TEST_F(SleepHooksTest, SleepersNeitherGiveWayNorComeBackByThemselves) {
  const CUdeviceptr p = Alloc(20 * kMiB);
  Fill(p, 20 * kMiB, 2);
  Sleep();
  SetTag(nullptr);
  const CUdeviceptr a = Alloc(40 * kMiB);
  const CUdeviceptr hot = AllocHot(40 * kMiB);  // displaces `a`
  EXPECT_EQ(PlacementOf(hot).device_bytes, 40 * kMiB);
  Free(hot);
  Free(a);
  EXPECT_EQ(StateOf("t").kept, 20 * kMiB);
  Wake();
  EXPECT_EQ(CountBad(p, 20 * kMiB, 2), 0u);
  Free(p);
}

}  // namespace
}  // namespace gpuroom::shim_test
