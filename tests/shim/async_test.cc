// Stream-ordered allocation: in the driver's pools while it fits, in ranges when it does not,
// and never unmapped while work that was queued before may use it.
#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

// The three ways to ask for it, and the two to give it back.
enum class Form { kLegacy, kPerThread, kPool };

constexpr uint64_t kTouched = 4 * kMiB;  // fresh pages cost time; their number proves nothing

class AsyncTest : public ShimTest, public testing::WithParamInterface<Form> {
 protected:
  void SetUp() override {
    ShimTest::SetUp();
    ASSERT_CU(Cu().DeviceGetDefaultMemPool(&pool_, 0));
    stream_ = NewStream();
  }
  void TearDown() override {
    EXPECT_CU(Cu().StreamDestroy(stream_));
    EXPECT_CU(Cu().CtxSynchronize());
    (void)MemInfo();  // where freed ranges are taken back
    EXPECT_CU(Cu().MemPoolTrimTo(pool_, 0));
    ShimTest::TearDown();
  }
  CUresult TryAllocAsync(CUdeviceptr* p, uint64_t bytes, CUstream stream) {
    switch (GetParam()) {
      case Form::kLegacy: return Cu().MemAllocAsync(p, bytes, stream);
      case Form::kPerThread: return Cu().MemAllocAsyncPtsz(p, bytes, stream);
      case Form::kPool: return Cu().MemAllocFromPoolAsync(p, bytes, pool_, stream);
    }
    return CUDA_ERROR_UNKNOWN;
  }
  CUdeviceptr AllocAsync(uint64_t bytes, CUstream stream) {
    CUdeviceptr p = 0;
    EXPECT_CU(TryAllocAsync(&p, bytes, stream));
    return p;
  }
  void FreeAsync(CUdeviceptr p, CUstream stream) {
    EXPECT_CU(GetParam() == Form::kPerThread ? Cu().MemFreeAsyncPtsz(p, stream)
                                             : Cu().MemFreeAsync(p, stream));
  }

  CUmemoryPool pool_ = nullptr;
  CUstream stream_ = nullptr;
};

TEST_P(AsyncTest, WhatFitsStaysWithThePool) {
  const uint64_t calls = GetSim().call_count("cuMemAddressReserve");
  const CUdeviceptr p = AllocAsync(32 * kMiB, stream_);
  EXPECT_EQ(PlacementOf(p).device_bytes, 0u);
  EXPECT_EQ(GetSim().call_count("cuMemAddressReserve"), calls);
  EXPECT_EQ(MemInfo().free, before_.free - 32 * kMiB);
  Fill(p, 32 * kMiB, 1, stream_);
  EXPECT_EQ(CountBad(p, 32 * kMiB, 1, stream_), 0u);
  FreeAsync(p, stream_);
}

TEST_P(AsyncTest, WhatDoesNotFitIsARange) {
  for (const uint64_t bytes : {kSpilled, kMixed}) {
    const CUdeviceptr p = AllocAsync(bytes, stream_);
    EXPECT_GT(PlacementOf(p).host_bytes, 0u);
    Fill(p, bytes, bytes, stream_);
    EXPECT_EQ(CountBad(p, bytes, bytes, stream_), 0u);
    FreeAsync(p, stream_);
    ASSERT_CU(Cu().StreamSynchronize(stream_));
    EXPECT_EQ(MemInfo().free, before_.free);
  }
}

TEST_P(AsyncTest, TooLargeIsOutOfMemoryAndTheProgramGoesOn) {
  CUdeviceptr p = 0;
  EXPECT_CU_IS(TryAllocAsync(&p, kHbm + kHost, stream_), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_CU_IS(TryAllocAsync(&p, UINT64_MAX, stream_), CUDA_ERROR_OUT_OF_MEMORY);
  FreeAsync(AllocAsync(kSpilled, stream_), stream_);
}

// As programs allocate and free without ever waiting: each look at what may be given back asks of a stream's
// first alone.
TEST_P(AsyncTest, TheDriverIsAskedOnceAStreamHoweverMuchWaitsThere) {
  std::vector<CUdeviceptr> all;
  for (int i = 0; i < 4; ++i) all.push_back(AllocAsync(kMixed / 8 + kForRanges / 4, stream_));
  for (const CUdeviceptr p : all) FreeAsync(p, stream_);
  const uint64_t asked = GetSim().call_count("cuEventQuery");
  GetSim().fail("cuEventQuery:1+:CUDA_ERROR_NOT_READY");
  (void)MemInfo();
  EXPECT_EQ(GetSim().call_count("cuEventQuery") - asked, 1u);
  GetSim().fail("");
  EXPECT_CU(Cu().StreamSynchronize(stream_));
}

TEST_P(AsyncTest, NothingIsUnmappedWhileQueuedWorkUsesIt) {
  // Each round frees while the kernels before are still queued, then asks for as much again:
  // that memory must be got by waiting, not by taking it from under the kernels.
  for (uint64_t round = 0; round < 6; ++round) {
    const CUdeviceptr p = AllocAsync(kSpilled, stream_);
    ASSERT_NE(p, 0u);
    Spin(1'000'000, stream_);
    Fill(p, kTouched, round, stream_);
    Fill(p + kSpilled - kTouched, kTouched, round, stream_);
    FreeAsync(p, stream_);
    (void)MemInfo();
  }
  EXPECT_CU(Cu().StreamSynchronize(stream_));
}

TEST_P(AsyncTest, AnotherStreamsMemoryIsNotCorruptedByReuse) {
  const CUstream other = NewStream();
  const CUdeviceptr bad = Alloc(8);
  EXPECT_CU(Cu().MemsetD8(bad, 0, 8));
  for (uint64_t round = 0; round < 4; ++round) {
    const CUdeviceptr p = AllocAsync(56 * kMiB, stream_);
    Fill(p, kTouched, round, stream_);
    Spin(500'000, stream_);
    Verify(p, kTouched, round, bad, stream_);
    FreeAsync(p, stream_);
    const CUdeviceptr q = AllocAsync(56 * kMiB, other);  // perhaps the same chunk
    Fill(q, kTouched, 1000 + round, other);
    Verify(q, kTouched, 1000 + round, bad, other);
    FreeAsync(q, other);
  }
  EXPECT_CU(Cu().CtxSynchronize());
  uint64_t count = 1;
  EXPECT_CU(Cu().MemcpyDtoH(&count, bad, 8));
  EXPECT_EQ(count, 0u);
  Free(bad);
  EXPECT_CU(Cu().StreamDestroy(other));
}

TEST_P(AsyncTest, CuMemFreeTakesAsyncMemory) {
  for (const uint64_t bytes : {4 * kMiB, kSpilled}) {
    const CUdeviceptr p = AllocAsync(bytes, stream_);
    Fill(p, bytes, 2, stream_);
    EXPECT_CU(Cu().StreamSynchronize(stream_));
    Free(p);
    EXPECT_EQ(MemInfo().free, before_.free) << bytes;
  }
}

TEST_P(AsyncTest, CuMemFreeAsyncTakesCuMemAllocsRanges) {
  for (const uint64_t bytes : {32 * kMiB, kSpilled, kMixed}) {
    const CUdeviceptr p = Alloc(bytes);
    Spin(500'000, stream_);
    Fill(p, bytes, 2, stream_);
    FreeAsync(p, stream_);
    EXPECT_CU(Cu().StreamSynchronize(stream_));
    EXPECT_EQ(MemInfo().free, before_.free) << bytes;
  }
}

TEST_P(AsyncTest, CuMemFreeAsyncOfASmallCuMemAllocIsTheDriversBusiness) {
  const CUdeviceptr p = Alloc(4 * kMiB);
  const CUresult result = Cu().MemFreeAsync(p, stream_);
  if (result != CUDA_SUCCESS) {
    EXPECT_EQ(MemInfo().free, before_.free - 4 * kMiB);  // still counted
    Free(p);
    GetSim().clear_strict_errors();
  }
  EXPECT_EQ(MemInfo().free, before_.free);
}

TEST_P(AsyncTest, FreesOnTheDefaultStreamWaitForIt) {
  const CUdeviceptr p = Alloc(kSpilled);
  Spin(500'000, nullptr);
  Fill(p, kSpilled, 3, nullptr);
  EXPECT_CU(Cu().MemFreeAsync(p, nullptr));
  (void)MemInfo();
  EXPECT_CU(Cu().CtxSynchronize());
  EXPECT_EQ(MemInfo().free, before_.free);
}

// Without a limit on HBM: the driver says what is free, 1 GiB less what its pool holds.
class KeptPoolTest : public AsyncTest {
 protected:
  void SetUp() override {
    AsyncTest::SetUp();
    KeepUpTo(UINT64_MAX);
  }
  void TearDown() override {
    KeepUpTo(0);
    AsyncTest::TearDown();
  }
  void KeepUpTo(cuuint64_t bytes) {
    EXPECT_CU(Cu().MemPoolSetAttribute(pool_, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &bytes));
  }
};

TEST_P(KeptPoolTest, WhatThePoolKeepsServesTheNext) {
  constexpr uint64_t kMost = 700 * kMiB;
  const uint64_t reserved = GetSim().call_count("cuMemAddressReserve");
  for (int round = 0; round < 3; ++round) {
    const CUdeviceptr p = AllocAsync(kMost, stream_);
    EXPECT_EQ(PlacementOf(p).host_bytes, 0u);
    FreeAsync(p, stream_);
    EXPECT_CU(Cu().StreamSynchronize(stream_));
    EXPECT_GE(GetSim().used(0), kMost);
  }
  EXPECT_EQ(GetSim().call_count("cuMemAddressReserve"), reserved);
}

TEST_P(KeptPoolTest, WhatIsInUseDoesNot) {
  constexpr uint64_t kMost = 700 * kMiB;
  const CUdeviceptr p = AllocAsync(kMost, stream_);
  const CUdeviceptr q = AllocAsync(400 * kMiB, stream_);
  EXPECT_GT(PlacementOf(q).host_bytes, 0u);
  FreeAsync(q, stream_);
  FreeAsync(p, stream_);
}

std::string FormName(const testing::TestParamInfo<Form>& test) {
  constexpr const char* kNames[] = {"Legacy", "PerThread", "Pool"};
  return kNames[static_cast<int>(test.param)];
}

INSTANTIATE_TEST_SUITE_P(Forms, AsyncTest, testing::Values(Form::kLegacy, Form::kPerThread, Form::kPool),
                         FormName);
INSTANTIATE_TEST_SUITE_P(Forms, KeptPoolTest, testing::Values(Form::kLegacy, Form::kPerThread, Form::kPool),
                         FormName);

// Pools that the program makes: what they hold is known by where they were made for.
class PoolTest : public ShimTest {
 protected:
  static CUmemoryPool NewPool(CUmemLocationType type) {
    CUmemPoolProps props{};
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location.type = type;
    CUmemoryPool pool = nullptr;
    EXPECT_CU(Cu().MemPoolCreate(&pool, &props));
    return pool;
  }
  static void FreeAsync(CUdeviceptr p) {
    EXPECT_CU(Cu().MemFreeAsync(p, nullptr));
    EXPECT_CU(Cu().CtxSynchronize());
  }
};

TEST_F(PoolTest, APoolOfTheDevicesMemorySpills) {
  const CUdeviceptr full = AllocHot(kForRanges);
  const CUmemoryPool pool = NewPool(CU_MEM_LOCATION_TYPE_DEVICE);
  CUdeviceptr p = 0;
  EXPECT_CU(Cu().MemAllocFromPoolAsync(&p, 32 * kMiB, pool, nullptr));
  EXPECT_EQ(PlacementOf(p).host_bytes, 32 * kMiB);
  FreeAsync(p);
  EXPECT_CU(Cu().MemPoolDestroy(pool));
  Free(full);
}

TEST_F(PoolTest, APoolOfHostMemoryIsTheDriversOwn) {
  const CUdeviceptr full = AllocHot(kForRanges);
  const CUmemoryPool pool = NewPool(CU_MEM_LOCATION_TYPE_HOST_NUMA);
  CUdeviceptr p = 0;
  EXPECT_CU(Cu().MemAllocFromPoolAsync(&p, 32 * kMiB, pool, nullptr));
  EXPECT_EQ(PlacementOf(p).host_bytes, 0u);
  EXPECT_EQ(MemInfo().free, before_.free - kForRanges);  // no business of the limits
  FreeAsync(p);
  EXPECT_CU(Cu().MemPoolDestroy(pool));
  Free(full);
}

}  // namespace
}  // namespace gpuroom::shim_test
