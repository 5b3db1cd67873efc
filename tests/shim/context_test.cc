// Contexts that end with work, captures and memory in them.
#include "shim_test.h"

namespace headroom::shim_test {
namespace {

class ContextTest : public ShimTest {
 protected:
  // As cudaDeviceReset does it, and the context once more.
  static void Reset() {
    EXPECT_CU(Cu().DevicePrimaryCtxReset(0));
    UseDevice(0);
  }
  // Another context of device 0, current.
  static CUcontext NewContext() {
    CUcontext context = nullptr;
    EXPECT_CU(Cu().CtxCreate(&context, nullptr, 0, 0));
    return context;
  }
  static void Destroy(CUcontext context) {
    EXPECT_CU(Cu().CtxDestroy(context));
    UseDevice(0);
  }
  static CUstream BeginCapture() {
    CUstream stream = nullptr;
    EXPECT_CU(Cu().StreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    EXPECT_CU(Cu().StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    return stream;
  }
  static void ExpectEndOfCapture(CUstream stream) {
    CUgraph graph = nullptr;
    ASSERT_CU(Cu().StreamEndCapture(stream, &graph));
    EXPECT_CU(Cu().GraphDestroy(graph));
    EXPECT_CU(Cu().StreamDestroy(stream));
  }
  // Whether a free gives memory back at once, as it does while nothing is captured.
  bool FreesAtOnce() {
    const CUdeviceptr p = Alloc(kThreshold);
    const uint64_t unmaps = GetSim().call_count("cuMemUnmap");
    Free(p);
    return GetSim().call_count("cuMemUnmap") > unmaps;
  }
};

TEST_F(ContextTest, WhatWasFreedOnAStreamGoesWithAReset) {
  const CUstream stream = NewStream();
  CUdeviceptr p = 0;
  ASSERT_CU(Cu().MemAllocAsync(&p, kSpilled, stream));
  ASSERT_CU(Cu().MemFreeAsync(p, stream));
  Reset();
  EXPECT_EQ(MemInfo(), before_);
}

TEST_F(ContextTest, AResetEndsItsCaptures) {
  BeginCapture();
  Reset();
  EXPECT_TRUE(FreesAtOnce());
}

TEST_F(ContextTest, AResetEndsNoOtherContextsCapture) {
  const CUcontext other = NewContext();
  const CUstream stream = BeginCapture();
  Reset();
  EXPECT_FALSE(FreesAtOnce());
  EXPECT_CU(Cu().CtxSetCurrent(other));
  ExpectEndOfCapture(stream);
  Destroy(other);
}

TEST_F(ContextTest, DestroyingAContextEndsItsCaptures) {
  const CUcontext other = NewContext();
  BeginCapture();
  Destroy(other);
  EXPECT_TRUE(FreesAtOnce());
}

// Not even the current context's end keeps it.
TEST_F(ContextTest, WhatWasFreedInACaptureComesBackThoughItsContextIsGone) {
  constexpr uint64_t kMost = 88 * kMiB;  // no room for another
  const CUcontext other = NewContext();
  const CUstream stream = BeginCapture();
  UseDevice(0);
  Free(Alloc(kMost));
  EXPECT_CU(Cu().CtxSetCurrent(other));
  ExpectEndOfCapture(stream);
  UseDevice(0);
  EXPECT_CU(Cu().DevicePrimaryCtxReset(0));
  const CUmemAllocationProp prop = DeviceMemory();
  CUmemGenericAllocationHandle handle = 0;
  EXPECT_CU(Cu().MemCreate(&handle, kMost, &prop, 0));
  EXPECT_CU(Cu().MemRelease(handle));
  EXPECT_CU(Cu().CtxSetCurrent(other));
  Destroy(other);
}

}  // namespace
}  // namespace headroom::shim_test
