// Small allocations for which HBM has no room: they share host memory and look like allocations of their own.
#include <map>

#include "gpuroom/sleep.h"
#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

constexpr uint64_t kPiece = 64 * kKiB;

// HBM is full of what gives way to nothing.
class SmallSpillTest : public ShimTest {
 protected:
  void SetUp() override {
    ShimTest::SetUp();
    FillHbm();
    full_ = MemInfo();
    ASSERT_EQ(full_.free, host_);
  }
  void FillHbm() {
    large_ = AllocHot(before_.free - host_ - kReserve);
    for (uint64_t i = 0; i < kReserve / kMiB; ++i) small_.push_back(Alloc(kMiB));
  }
  void TearDown() override {
    for (const CUdeviceptr p : small_) Free(p);
    Free(large_);
    ShimTest::TearDown();
  }
  std::vector<CUdeviceptr> AllocPieces(uint64_t count) {
    std::vector<CUdeviceptr> pieces;
    for (uint64_t i = 0; i < count; ++i) pieces.push_back(Alloc(kPiece));
    return pieces;
  }
  static uint64_t OnHost() { return GetSim().used(-1); }

  uint64_t host_ = kHost;
  CUdeviceptr large_ = 0;
  std::vector<CUdeviceptr> small_;
  Info full_;
};

TEST_F(SmallSpillTest, TheyTakeAsMuchOfTheHostAsTheyAskFor) {
  std::vector<CUdeviceptr> pieces;
  uint64_t asked = 0;
  for (uint64_t i = 0; asked < kHost / 4 * 3; ++i) {
    const uint64_t bytes = i % 3 == 0 ? 4 * kKiB : i % 3 == 1 ? 256 : kPiece;
    CUdeviceptr p = 0;
    ASSERT_CU(Cu().MemAlloc(&p, bytes)) << asked << " bytes were had";
    pieces.push_back(p);
    asked += bytes;
  }
  EXPECT_LE(OnHost(), asked + asked / 16);
  for (const CUdeviceptr p : pieces) Free(p);
  EXPECT_EQ(OnHost(), 0u);
  EXPECT_EQ(MemInfo(), full_);
}

TEST_F(SmallSpillTest, EachLooksLikeAnAllocationOfItsOwn) {
  std::map<CUdeviceptr, uint64_t> pieces;
  for (const uint64_t bytes : {uint64_t{1}, uint64_t{100}, uint64_t{5000}, kPiece, kMiB}) {
    pieces[Alloc(bytes)] = bytes;
  }
  for (const auto& [p, bytes] : pieces) {
    EXPECT_EQ(p % 256, 0u);
    for (const uint64_t offset : {uint64_t{0}, bytes / 2, bytes - 1}) {
      CUdeviceptr base = 0;
      size_t size = 0;
      EXPECT_CU(Cu().MemGetAddressRange(&base, &size, p + offset));
      EXPECT_EQ(base, p);
      EXPECT_EQ(size, bytes);
      unsigned type = 0;
      CUdeviceptr start = 0;
      CUpointer_attribute wanted[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                      CU_POINTER_ATTRIBUTE_RANGE_START_ADDR};
      void* data[] = {&type, &start};
      EXPECT_CU(Cu().PointerGetAttributes(2, wanted, data, p + offset));
      EXPECT_EQ(type, unsigned{CU_MEMORYTYPE_DEVICE});
      EXPECT_EQ(start, p);
    }
    EXPECT_EQ(PlacementOf(p).host_bytes, bytes);
    // What would concern the memory that it shares with others is refused, as for the driver's own.
    EXPECT_EQ(gpuroom_set_hint(p, GPUROOM_HINT_COLD), GPUROOM_NOT_FOUND);
    EXPECT_EQ(gpuroom_range_migrate(p, 0, GPUROOM_TIER_HOST), GPUROOM_NOT_FOUND);
    EXPECT_CU_IS(Cu().MemFree(p + 1), CUDA_ERROR_INVALID_VALUE);
  }
  for (const auto& [p, bytes] : pieces) {
    Free(p);
    EXPECT_CU_IS(Cu().MemFree(p), CUDA_ERROR_INVALID_VALUE);
  }
  GetSim().clear_strict_errors();  // these were ours
}

TEST_F(SmallSpillTest, TheyKeepTheirContentsApart) {
  const std::vector<CUdeviceptr> pieces = AllocPieces(200);
  for (size_t i = 0; i < pieces.size(); ++i) Fill(pieces[i], kPiece, i);
  for (size_t i = 0; i < pieces.size(); i += 2) Free(pieces[i]);
  const std::vector<CUdeviceptr> more = AllocPieces(100);
  for (size_t i = 0; i < more.size(); ++i) Fill(more[i], kPiece, 1000 + i);
  for (size_t i = 1; i < pieces.size(); i += 2) {
    EXPECT_EQ(CountBad(pieces[i], kPiece, i), 0u);
    Free(pieces[i]);
  }
  for (size_t i = 0; i < more.size(); ++i) {
    EXPECT_EQ(CountBad(more[i], kPiece, 1000 + i), 0u);
    Free(more[i]);
  }
}

TEST_F(SmallSpillTest, WhatTheyNoLongerNeedGoesBackBeforeTheLastIsFreed) {
  const std::vector<CUdeviceptr> pieces = AllocPieces(512);  // 32 MiB
  for (size_t i = 0; i < 480; ++i) Free(pieces[i]);
  EXPECT_LE(OnHost(), 8 * kMiB);
  for (size_t i = 480; i < pieces.size(); ++i) Free(pieces[i]);
}

// What they keep for more of their kind is given back to a request that would else fail.
TEST_F(SmallSpillTest, WhatIsFreeAmongThemServesALargeRequest) {
  const std::vector<CUdeviceptr> pieces = AllocPieces(1024);
  for (size_t i = 0; i < 480; ++i) Free(pieces[i]);
  const CUdeviceptr p = AllocOnHost(kHost - 36 * kMiB);
  for (size_t i = 480; i < pieces.size(); ++i) Free(pieces[i]);
  Free(p);
}

TEST_F(SmallSpillTest, OneThatIsFreedDuringACaptureIsNotReusedBeforeItsEnd) {
  const CUdeviceptr p = Alloc(kPiece);
  const CUstream stream = NewStream();
  ASSERT_CU(Cu().StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  const uint64_t waits = GetSim().call_count("cuCtxSynchronize");
  Free(p);
  EXPECT_EQ(GetSim().call_count("cuCtxSynchronize"), waits);
  const CUdeviceptr other = Alloc(kPiece);
  EXPECT_NE(other, p);
  CUgraph graph = nullptr;
  ASSERT_CU(Cu().StreamEndCapture(stream, &graph));
  EXPECT_CU(Cu().GraphDestroy(graph));
  Free(other);
  EXPECT_EQ(MemInfo(), full_);
  EXPECT_CU(Cu().StreamDestroy(stream));
}

TEST_F(SmallSpillTest, OneThatIsFreedOnAStreamIsNotReusedBeforeTheStreamGetsThere) {
  const CUstream stream = NewStream();
  CUdeviceptr p = 0;
  ASSERT_CU(Cu().MemAllocAsync(&p, kPiece, stream));
  Fill(p, kPiece, 1, stream);
  EXPECT_CU(Cu().MemFreeAsync(p, stream));
  GetSim().fail("cuEventQuery:1+:CUDA_ERROR_NOT_READY");
  const CUdeviceptr other = Alloc(kPiece);
  GetSim().fail("");
  EXPECT_NE(other, p);
  Fill(other, kPiece, 2);
  EXPECT_CU(Cu().StreamSynchronize(stream));
  EXPECT_EQ(CountBad(other, kPiece, 2), 0u);
  Free(other);
  EXPECT_EQ(MemInfo(), full_);
  EXPECT_CU(Cu().StreamDestroy(stream));
}

TEST_F(SmallSpillTest, AFreeThatCannotWaitLeavesItAsItWas) {
  const CUdeviceptr p = Alloc(kPiece);
  Fill(p, kPiece, 7);
  GetSim().fail("cuCtxSynchronize:1:CUDA_ERROR_UNKNOWN");
  EXPECT_CU_IS(Cu().MemFree(p), CUDA_ERROR_UNKNOWN);
  GetSim().fail("");
  EXPECT_EQ(CountBad(p, kPiece, 7), 0u);
  Free(p);
}

TEST_F(SmallSpillTest, TheyEndWithTheirContext) {
  CUcontext context = nullptr;
  ASSERT_CU(Cu().CtxCreate(&context, nullptr, 0, 0));
  const std::vector<CUdeviceptr> theirs = AllocPieces(40);
  UseDevice(0);
  const std::vector<CUdeviceptr> ours = AllocPieces(40);
  Fill(ours[0], kPiece, 3);
  ASSERT_CU(Cu().CtxDestroy(context));
  UseDevice(0);
  EXPECT_CU_IS(Cu().MemFree(theirs[1]), CUDA_ERROR_INVALID_VALUE);
  GetSim().clear_strict_errors();
  EXPECT_EQ(CountBad(ours[0], kPiece, 3), 0u);
  for (const CUdeviceptr p : ours) Free(p);
  EXPECT_EQ(MemInfo(), full_);
}

// ctest gives it 400 MiB of HBM and 384 of the host's: what comes back leaves twice a chunk free, 64 MiB.
class SmallMoveBackTest : public SmallSpillTest {
 protected:
  SmallMoveBackTest() { host_ = 384 * kMiB; }
};

TEST_F(SmallMoveBackTest, TheyComeBackToHbmTogether) {
  const std::vector<CUdeviceptr> pieces = AllocPieces(100);
  for (size_t i = 0; i < pieces.size(); ++i) Fill(pieces[i], kPiece, i);
  Free(large_);
  EXPECT_TRUE(AwaitReturn(pieces[0], kPiece, [&] { Free(Alloc(kMiB)); }));
  large_ = AllocHot(kThreshold);
  for (size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ(PlacementOf(pieces[i]).host_bytes, 0u);
    EXPECT_EQ(CountBad(pieces[i], kPiece, i), 0u);
    Free(pieces[i]);
  }
}

// They sleep and wake as one; what is made or freed meanwhile is not touched by it.
TEST_F(SmallSpillTest, TheySleepTogether) {
  const std::vector<CUdeviceptr> pieces = AllocPieces(40);
  for (size_t i = 0; i < pieces.size(); ++i) Fill(pieces[i], kPiece, i);
  ASSERT_CU(Cu().CtxSynchronize());
  const gpuroom_sleep_request everything = {nullptr, 0, nullptr, GPUROOM_HOLD_NONE, 1};
  ASSERT_EQ(gpuroom_sleep(&everything, sizeof everything, nullptr, 0), GPUROOM_OK);
  Free(small_.back());  // what is made below takes no more
  small_.pop_back();
  const CUdeviceptr made = Alloc(kPiece);
  Fill(made, kPiece, 1000);  // it is awake
  EXPECT_EQ(CountBad(made, kPiece, 1000), 0u);
  for (size_t i = 0; i < 20; ++i) Free(pieces[i]);
  ASSERT_EQ(gpuroom_wake(nullptr, 0, 0, nullptr, 0), GPUROOM_OK);
  for (size_t i = 20; i < pieces.size(); ++i) {
    EXPECT_EQ(CountBad(pieces[i], kPiece, i), 0u);
    Free(pieces[i]);
  }
  Free(made);
}

TEST_F(SmallSpillTest, ThreadsShareThem) {
  std::vector<std::thread> threads;
  for (uint64_t number = 0; number < 4; ++number) {
    threads.emplace_back([this, number] {
      UseDevice(0);
      for (uint64_t round = 0; round < 20; ++round) {
        const std::vector<CUdeviceptr> pieces = AllocPieces(20);
        for (size_t i = 0; i < pieces.size(); ++i) Fill(pieces[i], kPiece, number * 1000 + i);
        EXPECT_CU(Cu().CtxSynchronize());
        for (size_t i = 0; i < pieces.size(); ++i) {
          EXPECT_EQ(CountBad(pieces[i], kPiece, number * 1000 + i), 0u);
          Free(pieces[i]);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(OnHost(), 0u);
}

}  // namespace
}  // namespace gpuroom::shim_test
