// While a stream is being captured, the shim neither synchronises nor unmaps: frees wait for
// the capture's end and the capture stays valid.
#include <thread>

#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

class CaptureTest : public ShimTest {
 protected:
  void SetUp() override {
    ShimTest::SetUp();
    stream_ = NewStream();
  }
  void TearDown() override {
    if (stream_ != nullptr) {
      EXPECT_CU(Cu().StreamDestroy(stream_));
    }
    (void)MemInfo();
    ShimTest::TearDown();
  }
  void Begin(CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL) {
    ASSERT_CU(Cu().StreamBeginCapture(stream_, mode));
  }
  bool Capturing() {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    EXPECT_CU(Cu().StreamIsCapturing(stream_, &status));
    return status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
  }
  void ReplayAndDestroy(CUgraph graph) {
    CUgraphExec exec = nullptr;
    ASSERT_CU(Cu().GraphInstantiate(&exec, graph, 0));
    EXPECT_CU(Cu().GraphLaunch(exec, stream_));
    EXPECT_CU(Cu().StreamSynchronize(stream_));
    EXPECT_CU(Cu().GraphExecDestroy(exec));
    EXPECT_CU(Cu().GraphDestroy(graph));
  }

  CUstream stream_ = nullptr;
};

TEST_F(CaptureTest, GraphsReplayOnSpilledAndMixedMemory) {
  for (const uint64_t bytes : {kSpilled, kMixed}) {
    const CUdeviceptr p = Alloc(bytes);
    Begin();
    Fill(p, bytes, 31, stream_);
    CUgraph graph = nullptr;
    ASSERT_CU(Cu().StreamEndCapture(stream_, &graph));
    ReplayAndDestroy(graph);
    EXPECT_EQ(CountBad(p, bytes, 31), 0u);
    Free(p);
  }
}

TEST_F(CaptureTest, AFreeDuringACaptureIsDeferredAndTheCaptureLives) {
  const CUdeviceptr kept = Alloc(kThreshold);
  const CUdeviceptr freed = Alloc(kSpilled);
  Begin();
  Fill(kept, kThreshold, 5, stream_);
  const uint64_t unmaps = GetSim().call_count("cuMemUnmap");
  const uint64_t waits = GetSim().call_count("cuCtxSynchronize");
  EXPECT_CU(Cu().MemFree(freed));
  EXPECT_EQ(GetSim().call_count("cuMemUnmap"), unmaps);
  EXPECT_EQ(GetSim().call_count("cuCtxSynchronize"), waits);
  EXPECT_TRUE(Capturing());
  CUgraph graph = nullptr;
  ASSERT_CU(Cu().StreamEndCapture(stream_, &graph));
  EXPECT_EQ(MemInfo().free, before_.free - kThreshold);  // back again
  EXPECT_EQ(GetSim().call_count("cuMemUnmap"), unmaps + 1);
  ReplayAndDestroy(graph);
  EXPECT_EQ(CountBad(kept, kThreshold, 5), 0u);
  Free(kept);
}

// However many they were: a synchronise for each would hold the program up as often.
TEST_F(CaptureTest, WhatWasFreedDuringACaptureIsGivenBackAfterOneSynchronise) {
  std::vector<CUdeviceptr> freed;
  for (int i = 0; i < 3; ++i) freed.push_back(Alloc(kThreshold));
  Begin();
  for (const CUdeviceptr p : freed) Free(p);
  CUgraph graph = nullptr;
  ASSERT_CU(Cu().StreamEndCapture(stream_, &graph));
  const uint64_t unmaps = GetSim().call_count("cuMemUnmap");
  const uint64_t waits = GetSim().call_count("cuCtxSynchronize");
  EXPECT_EQ(MemInfo().free, before_.free);
  EXPECT_EQ(GetSim().call_count("cuMemUnmap") - unmaps, freed.size());
  EXPECT_EQ(GetSim().call_count("cuCtxSynchronize") - waits, 1u);
  EXPECT_CU(Cu().GraphDestroy(graph));
}

TEST_F(CaptureTest, AllocatingDuringACaptureWorksAndTheCaptureLives) {
  Begin();
  const CUdeviceptr p = Alloc(kSpilled);
  Fill(p, kSpilled, 12, stream_);
  EXPECT_TRUE(Capturing());
  CUgraph graph = nullptr;
  ASSERT_CU(Cu().StreamEndCapture(stream_, &graph));
  ReplayAndDestroy(graph);
  EXPECT_EQ(CountBad(p, kSpilled, 12), 0u);
  Free(p);
}

TEST_F(CaptureTest, FreedMemoryIsNotHandedOutAgainBeforeTheCaptureEnds) {
  const CUdeviceptr freed = Alloc(kSpilled);
  Begin();
  EXPECT_CU(Cu().MemFree(freed));
  CUdeviceptr p = 0;
  EXPECT_CU_IS(Cu().MemAlloc(&p, 96 * kMiB), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_TRUE(Capturing());
  CUgraph graph = nullptr;
  ASSERT_CU(Cu().StreamEndCapture(stream_, &graph));
  EXPECT_CU(Cu().GraphDestroy(graph));
  Free(Alloc(96 * kMiB));
}

TEST_F(CaptureTest, AnAsyncFreeOnAnotherStreamKeepsTheCaptureAlive) {
  const CUstream other = NewStream();
  CUdeviceptr p = 0;
  ASSERT_CU(Cu().MemAllocAsync(&p, kSpilled, other));
  Begin();
  EXPECT_CU(Cu().MemFreeAsync(p, other));
  EXPECT_TRUE(Capturing());
  CUgraph graph = nullptr;
  ASSERT_CU(Cu().StreamEndCapture(stream_, &graph));
  EXPECT_CU(Cu().GraphDestroy(graph));
  EXPECT_CU(Cu().StreamSynchronize(other));
  EXPECT_CU(Cu().StreamDestroy(other));
}

TEST_F(CaptureTest, AFailedCaptureGivesTheMemoryBack) {
  const CUdeviceptr p = Alloc(kSpilled);
  Begin();
  EXPECT_CU(Cu().MemFree(p));
  CUgraph graph = nullptr;
  EXPECT_NE(Cu().CtxSynchronize(), CUDA_SUCCESS);  // invalidates it
  EXPECT_NE(Cu().StreamEndCapture(stream_, &graph), CUDA_SUCCESS);
  EXPECT_EQ(MemInfo().free, before_.free);
}

TEST_F(CaptureTest, DestroyingTheStreamEndsTheCapture) {
  const CUdeviceptr p = Alloc(kSpilled);
  Begin();
  EXPECT_CU(Cu().MemFree(p));
  EXPECT_CU(Cu().StreamDestroy(stream_));
  stream_ = nullptr;
  EXPECT_EQ(MemInfo().free, before_.free);
}

TEST_F(CaptureTest, ABeginThatIsRefusedEndsNoCapture) {
  const CUdeviceptr p = Alloc(kSpilled);
  Begin();
  EXPECT_NE(Cu().StreamBeginCapture(stream_, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  const uint64_t waits = GetSim().call_count("cuCtxSynchronize");
  EXPECT_CU(Cu().MemFree(p));
  EXPECT_EQ(GetSim().call_count("cuCtxSynchronize"), waits);
  EXPECT_TRUE(Capturing());
  CUgraph graph = nullptr;
  ASSERT_CU(Cu().StreamEndCapture(stream_, &graph));
  EXPECT_CU(Cu().GraphDestroy(graph));
}

TEST_F(CaptureTest, OneThreadsPerThreadStreamDoesNotEndAnothersCapture) {
  const CUdeviceptr p = Alloc(kSpilled);
  ASSERT_CU(Cu().StreamBeginCapture(CU_STREAM_PER_THREAD, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  std::thread([] {
    UseDevice(0);
    CUgraph graph = nullptr;
    EXPECT_CU(Cu().StreamBeginCapture(CU_STREAM_PER_THREAD, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    EXPECT_CU(Cu().StreamEndCapture(CU_STREAM_PER_THREAD, &graph));
    EXPECT_CU(Cu().GraphDestroy(graph));
  }).join();
  const uint64_t waits = GetSim().call_count("cuCtxSynchronize");
  EXPECT_CU(Cu().MemFree(p));
  EXPECT_EQ(GetSim().call_count("cuCtxSynchronize"), waits);
  CUgraph graph = nullptr;
  ASSERT_CU(Cu().StreamEndCapture(CU_STREAM_PER_THREAD, &graph));
  EXPECT_CU(Cu().GraphDestroy(graph));
}

}  // namespace
}  // namespace gpuroom::shim_test
