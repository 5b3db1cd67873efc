// Large allocations as managed memory: ctest sets GPUROOM_BACKEND=managed on a machine that
// is coherent (ManagedTest: the cap is twice the HBM, prefetch below 32 MiB) and on one that
// is not (ManagedPcieTest), and in RuledBackendTest a rule for the tag "kv" alone.
#include <thread>

#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

constexpr uint64_t kCap = 2 * kHbm;
constexpr uint64_t kPrefetchBelow = 32 * kMiB;

int RangeAttribute(CUdeviceptr p, uint64_t bytes, CUmem_range_attribute attribute) {
  int value = -77;
  EXPECT_CU(Cu().MemRangeGetAttribute(&value, sizeof value, attribute, p, bytes));
  return value;
}

// What the driver was told of [p, p + bytes).
struct Advice {
  int preferred_type;
  int preferred_id;
  int prefetched_type;
  int accessed_by;  // the first; CU_DEVICE_CPU, a device, or CU_DEVICE_INVALID
  bool operator==(const Advice&) const = default;
};

Advice AdviceOf(CUdeviceptr p, uint64_t bytes) {
  return {RangeAttribute(p, bytes, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE),
          RangeAttribute(p, bytes, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID),
          RangeAttribute(p, bytes, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE),
          RangeAttribute(p, bytes, CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY)};
}

bool IsManaged(CUdeviceptr p) {
  unsigned managed = 7;
  EXPECT_CU(Cu().PointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, p));
  return managed == 1;
}

class ManagedTest : public ShimTest {
 protected:
  CUdeviceptr AllocHinted(gpuroom_hint hint, uint64_t bytes, const char* tag = nullptr) {
    EXPECT_EQ(gpuroom_set_thread_hint(hint, tag), GPUROOM_OK);
    const CUdeviceptr p = Alloc(bytes);
    EXPECT_EQ(gpuroom_set_thread_hint(GPUROOM_HINT_NONE, nullptr), GPUROOM_OK);
    return p;
  }
  void ExpectContents(CUdeviceptr p, uint64_t bytes) {
    Fill(p, bytes, bytes);
    EXPECT_EQ(CountBad(p, bytes, bytes), 0u);
  }
};
using ManagedPcieTest = ManagedTest;
using RuledBackendTest = ManagedTest;

TEST_F(ManagedTest, LargeOnesAreManagedAndSmallOnesTheDriversOwn) {
  const CUdeviceptr small = Alloc(kThreshold - 1);
  EXPECT_FALSE(IsManaged(small));
  const CUdeviceptr large = Alloc(kThreshold);
  EXPECT_TRUE(IsManaged(large));
  ExpectContents(large, kThreshold);
  EXPECT_EQ(reinterpret_cast<const uint64_t*>(large)[5],
            FilledWord(kThreshold, 5));  // the CPU reads it as it is
  CUdeviceptr base = 0;
  size_t bytes = 0;
  EXPECT_CU(Cu().MemGetAddressRange(&base, &bytes, large + 5000));
  EXPECT_EQ(base, large);
  EXPECT_EQ(bytes, kThreshold);
  Free(large);
  Free(small);
}

TEST_F(ManagedTest, GpuFirstIsAdvisedAndPrefetchedIfItIsSmaller) {
  const CUdeviceptr small = Alloc(kPrefetchBelow - 1);
  EXPECT_EQ(AdviceOf(small, kPrefetchBelow - 1),
            (Advice{CU_MEM_LOCATION_TYPE_DEVICE, 0, CU_MEM_LOCATION_TYPE_DEVICE, CU_DEVICE_CPU}));
  const CUdeviceptr large = Alloc(kPrefetchBelow);
  EXPECT_EQ(AdviceOf(large, kPrefetchBelow),
            (Advice{CU_MEM_LOCATION_TYPE_DEVICE, 0, CU_MEM_LOCATION_TYPE_INVALID, CU_DEVICE_CPU}));
  Free(small);
  Free(large);
}

TEST_F(ManagedTest, ColdIsAsCpuFirstAndStreamAsBalanced) {
  const CUdeviceptr cold = AllocHinted(GPUROOM_HINT_COLD, kThreshold);
  EXPECT_EQ(AdviceOf(cold, kThreshold),
            (Advice{CU_MEM_LOCATION_TYPE_HOST_NUMA, 0, CU_MEM_LOCATION_TYPE_INVALID, 0}));
  const CUdeviceptr streamed = AllocHinted(GPUROOM_HINT_STREAM, kThreshold);
  EXPECT_EQ(AdviceOf(streamed, kThreshold),
            (Advice{CU_MEM_LOCATION_TYPE_INVALID, 0, CU_MEM_LOCATION_TYPE_INVALID, 0}));
  Free(cold);
  Free(streamed);
}

TEST_F(ManagedTest, TheProgramSeesTheCapAndWhatIsLeftOfIt) {
  EXPECT_EQ(before_.total, kCap);
  size_t total = 0;
  EXPECT_CU(Cu().DeviceTotalMem(&total, 0));
  EXPECT_EQ(total, kCap);
  const CUdeviceptr p = Alloc(100 * kMiB);
  EXPECT_EQ(MemInfo().free, before_.free - 100 * kMiB);
  const CUdeviceptr small = Alloc(kMiB);
  EXPECT_EQ(MemInfo().free, before_.free - 101 * kMiB);
  Free(small);
  Free(p);
}

TEST_F(ManagedTest, BeyondTheCapIsOutOfMemoryAndTheProgramGoesOn) {
  const CUdeviceptr most = Alloc(kCap);
  ExpectContents(most, kCap);
  for (const uint64_t bytes : {kThreshold, kCap, uint64_t{1} << 40, UINT64_MAX}) {
    CUdeviceptr p = 77;
    EXPECT_CU_IS(Cu().MemAlloc(&p, bytes), CUDA_ERROR_OUT_OF_MEMORY) << bytes;
    EXPECT_EQ(p, 0u);
  }
  EXPECT_EQ(CountBad(most, kCap, kCap), 0u);
  Free(most);
}

TEST_F(ManagedTest, WhatDoesNotFitTheDriversPoolIsManagedToo) {
  CUstream stream = NewStream();
  CUdeviceptr fits = 0;
  CUdeviceptr p = 0;
  ASSERT_CU(Cu().MemAllocAsync(&fits, kThreshold, stream));
  EXPECT_FALSE(IsManaged(fits));
  ASSERT_CU(Cu().MemAllocAsync(&p, kSpilled, stream));
  EXPECT_TRUE(IsManaged(p));
  Fill(p, kSpilled, 3, stream);
  EXPECT_EQ(CountBad(p, kSpilled, 3), 0u);
  EXPECT_CU(Cu().MemFreeAsync(p, stream));
  EXPECT_CU(Cu().MemFreeAsync(fits, stream));
  EXPECT_CU(Cu().StreamSynchronize(stream));
  EXPECT_CU(Cu().StreamDestroy(stream));
}

TEST_F(ManagedTest, RowsBeginAsTheDriversDo) {
  CUdeviceptr p = 0;
  size_t pitch = 0;
  ASSERT_CU(Cu().MemAllocPitch(&p, &pitch, 100'000, 1000, 16));
  EXPECT_TRUE(IsManaged(p));
  EXPECT_EQ(pitch, 100'352u);
  Free(p);
}

TEST_F(ManagedTest, WhereItLiesIsTheDriversBusiness) {
  const CUdeviceptr p = Alloc(kThreshold);
  gpuroom_placement placement;
  EXPECT_EQ(gpuroom_describe(p, &placement, sizeof placement), -1);
  EXPECT_EQ(gpuroom_range_migrate(p, 0, GPUROOM_TIER_HOST), GPUROOM_NOT_FOUND);
  EXPECT_EQ(gpuroom_set_hint(p, GPUROOM_HINT_COLD), GPUROOM_NOT_FOUND);
  CUipcMemHandle handle;
  EXPECT_CU_IS(Cu().IpcGetMemHandle(&handle, p), CUDA_ERROR_INVALID_VALUE);
  Free(p);
}

TEST_F(ManagedTest, PhysicalMemoryOfTheProgramsOwnStaysTiered) {
  const CUmemAllocationProp prop = DeviceMemory();
  CUmemGenericAllocationHandle handle = 0;
  ASSERT_CU(Cu().MemCreate(&handle, kSpilled, &prop, 0));
  EXPECT_EQ(GetSim().used(-1), kSpilled);  // one chunk, of the tier that holds it whole
  EXPECT_CU(Cu().MemRelease(handle));
}

TEST_F(ManagedTest, NoKernelBeginsEarlyBesideManagedMemory) {
  EXPECT_TRUE(BeginsEarly());
  const CUdeviceptr p = Alloc(kThreshold);
  EXPECT_FALSE(BeginsEarly());
  Free(p);
  EXPECT_TRUE(BeginsEarly());
}

TEST_F(ManagedTest, ADoubleFreeIsTheDriversError) {
  const CUdeviceptr p = Alloc(kThreshold);
  EXPECT_CU_IS(Cu().MemFree(p + 8), CUDA_ERROR_INVALID_VALUE);
  Free(p);
  EXPECT_CU_IS(Cu().MemFree(p), CUDA_ERROR_INVALID_VALUE);
  GetSim().clear_strict_errors();
}

TEST_F(ManagedTest, DuringACaptureTiersStandInAndFreesWait) {
  const CUdeviceptr before = Alloc(kThreshold);
  CUstream stream = NewStream();
  ASSERT_CU(Cu().StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  const CUdeviceptr during = Alloc(kThreshold);
  EXPECT_EQ(PlacementOf(during).device_bytes, kThreshold);
  Fill(during, kThreshold, 4, stream);
  EXPECT_CU(Cu().MemFree(before));
  EXPECT_TRUE(IsManaged(before));  // not freed yet
  CUgraph graph = nullptr;
  ASSERT_CU(Cu().StreamEndCapture(stream, &graph));
  (void)MemInfo();  // gives back what waited
  unsigned managed = 0;
  EXPECT_CU_IS(Cu().PointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, before),
               CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU(Cu().GraphDestroy(graph));
  EXPECT_CU(Cu().StreamDestroy(stream));
  Free(during);
}

TEST_F(ManagedTest, ThreadsAllocateAndFreeAtOnce) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([this, i] {
      UseDevice(0);
      for (int round = 0; round < 10; ++round) {
        const uint64_t bytes = kThreshold + static_cast<uint64_t>(i) * 2 * kMiB;
        const CUdeviceptr p = Alloc(bytes);
        Fill(p, kMiB, static_cast<uint64_t>(i));
        EXPECT_EQ(CountBad(p, kMiB, static_cast<uint64_t>(i)), 0u);
        Free(p);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ManagedPcieTest, NoMoreThanTheDeviceHasFree) {
  EXPECT_EQ(before_.total, kHbm);
  CUdeviceptr p = 0;
  EXPECT_CU_IS(Cu().MemAlloc(&p, kForRanges + 2 * kMiB), CUDA_ERROR_OUT_OF_MEMORY);
  const CUdeviceptr most = Alloc(kForRanges);
  EXPECT_TRUE(IsManaged(most));
  EXPECT_CU_IS(Cu().MemAlloc(&p, kThreshold), CUDA_ERROR_OUT_OF_MEMORY);
  const CUdeviceptr small = Alloc(kReserve - kMiB);  // of the reserve
  EXPECT_EQ(MemInfo().free, kMiB);
  ExpectContents(most, kForRanges);
  Free(small);
  Free(most);
}

TEST_F(ManagedPcieTest, WhatIsManagedIsNotPromisedToOtherMemory) {
  const CUdeviceptr p = Alloc(kForRanges);
  const CUmemAllocationProp prop = DeviceMemory();
  CUmemGenericAllocationHandle handle = 0;
  ASSERT_CU(Cu().MemCreate(&handle, kThreshold, &prop, 0));
  EXPECT_EQ(GetSim().used(-1), kThreshold);  // all of it on the host
  EXPECT_CU(Cu().MemRelease(handle));
  Free(p);
}

TEST_F(RuledBackendTest, OnlyWhatTheRuleNamesIsManaged) {
  EXPECT_EQ(before_.total, kHbm + kHost);
  const CUdeviceptr tiered = Alloc(kThreshold);
  EXPECT_EQ(PlacementOf(tiered).device_bytes, kThreshold);
  const CUdeviceptr managed = AllocHinted(GPUROOM_HINT_NONE, kThreshold, "kv");
  EXPECT_TRUE(IsManaged(managed));
  EXPECT_EQ(PlacementOf(managed).device_bytes, 0u);
  ExpectContents(managed, kThreshold);
  Free(tiered);
  Free(managed);
}

}  // namespace
}  // namespace gpuroom::shim_test
