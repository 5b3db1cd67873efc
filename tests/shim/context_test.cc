// Contexts that end with work, captures and memory in them, and GPUs that do not come to rest.
#include <atomic>

#include "shim_test.h"

namespace gpuroom::shim_test {
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

TEST_F(ContextTest, WhatWasAllocatedInAContextGoesWithIt) {
  const CUdeviceptr kept[] = {Alloc(kMiB), Alloc(kThreshold)};
  const CUcontext other = NewContext();
  Alloc(kMiB);
  Alloc(kThreshold);
  Alloc(kSpilled);
  Destroy(other);
  EXPECT_EQ(MemInfo().free, before_.free - kMiB - kThreshold);
  EXPECT_EQ(PlacementOf(kept[1]).device_bytes, kThreshold);
  for (const CUdeviceptr p : kept) Free(p);
}

TEST_F(ContextTest, TheLastReleaseEndsAContextAndNoOther) {
  const CUcontext other = NewContext();
  const CUdeviceptr kept = Alloc(kThreshold);
  UseDevice(0);
  Alloc(kMiB);
  const CUdeviceptr p = Alloc(kThreshold);
  UseDevice(0);
  EXPECT_CU(Cu().DevicePrimaryCtxRelease(0));  // not the last
  EXPECT_EQ(PlacementOf(p).device_bytes, kThreshold);
  EXPECT_EQ(MemInfo().free, before_.free - kMiB - 2 * kThreshold);
  unsigned flags = 0;
  for (int active = 1; active != 0;) {
    ASSERT_CU(Cu().DevicePrimaryCtxRelease(0));
    ASSERT_CU(Cu().DevicePrimaryCtxGetState(0, &flags, &active));
  }
  UseDevice(0);
  EXPECT_EQ(MemInfo().free, before_.free - kThreshold);
  EXPECT_EQ(PlacementOf(kept).device_bytes, kThreshold);
  Free(kept);
  Destroy(other);
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

// A context in which a stream does not get on before it is told to.
class Busy {
 public:
  Busy() {
    EXPECT_CU(Cu().CtxCreate(&context_, nullptr, 0, 0));
    EXPECT_CU(Cu().StreamCreate(&stream_, CU_STREAM_NON_BLOCKING));
    const auto wait = [](void* go_on) { static_cast<std::atomic<bool>*>(go_on)->wait(false); };
    EXPECT_CU(Cu().LaunchHostFunc(stream_, wait, &go_on_));
    UseDevice(0);
  }
  void GoOn() {
    go_on_ = true;
    go_on_.notify_all();
  }
  ~Busy() {
    GoOn();
    EXPECT_CU(Cu().CtxSetCurrent(context_));
    EXPECT_CU(Cu().CtxSynchronize());
    EXPECT_CU(Cu().StreamDestroy(stream_));
    EXPECT_CU(Cu().CtxDestroy(context_));
    UseDevice(0);
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  std::atomic<bool> go_on_{false};
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
};

// Here HBM is 256 MiB, since what is moved back leaves 64 free.
class StandstillTest : public ContextTest {
 protected:
  void SetUp() override {
    ContextTest::SetUp();
    full_ = AllocHot(256 * kMiB - kReserve);
    spilled_ = Alloc(kThreshold);
    ASSERT_EQ(PlacementOf(spilled_).host_bytes, kThreshold);
  }
  void TearDown() override {
    Free(spilled_);
    ContextTest::TearDown();
  }
  bool ComesBack() {
    return AwaitReturn(spilled_, kThreshold, [&] { Free(Alloc(kThreshold)); });
  }

  CUdeviceptr full_ = 0;
  CUdeviceptr spilled_ = 0;
};

TEST_F(StandstillTest, AMoveThatWasGivenUpIsNotTriedAtOnceAndThenIs) {
  using std::chrono::steady_clock;
  const auto start = steady_clock::now();
  {
    Busy busy;
    Free(full_);
  }
  EXPECT_EQ(PlacementOf(spilled_).host_bytes, kThreshold);
  Free(Alloc(kThreshold));
  const uint64_t host_bytes = PlacementOf(spilled_).host_bytes;
  // On a machine that takes a second for this much it may be back.
  if (steady_clock::now() - start < std::chrono::seconds(1)) {
    EXPECT_EQ(host_bytes, kThreshold);
  }
  EXPECT_TRUE(ComesBack());
}

TEST_F(StandstillTest, OneThatWasGivenUpBreaksNoLaterCapture) {
  Busy busy;
  Free(full_);
  EXPECT_EQ(PlacementOf(spilled_).host_bytes, kThreshold);
  const CUstream stream = BeginCapture();
  const uint64_t waits = GetSim().call_count("cuCtxSynchronize");
  busy.GoOn();
  // Nothing tells that it does not happen: a tenth of a second without it has to do.
  for (int i = 0; i < 100 && GetSim().call_count("cuCtxSynchronize") == waits; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(GetSim().call_count("cuCtxSynchronize"), waits);
  ExpectEndOfCapture(stream);
  EXPECT_TRUE(ComesBack());
}

}  // namespace
}  // namespace gpuroom::shim_test
