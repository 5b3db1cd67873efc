// Private pools: what is captured for a graph is the graph's until its pool is released.
#include <gtest/gtest.h>

#include "pool_fixture.h"

namespace gpuroom {
namespace {

constexpr PoolId kFirst{1, 0};
constexpr PoolId kSecond{2, 0};

class PoolPrivateTest : public PoolTest {
 protected:
  void Begin(PoolId id, CUstream stream) {
    pool_->BeginAllocateTo(id, [stream](CUstream asked) { return asked == stream; });
    device_.BeginCapture(stream);
  }
  void End(PoolId id, CUstream stream) {
    device_.EndCapture(stream);
    pool_->EndAllocateTo(id);
  }
  CUdeviceptr SegmentOf(CUdeviceptr va) const {
    CUdeviceptr base = 0;
    uint64_t bytes = 0;
    EXPECT_TRUE(pool_->Find(va, &base, &bytes));
    return base;
  }
  // Captured work does not run: no use of the device's.
  CUdeviceptr Captured(uint64_t bytes, CUstream stream) {
    const Result<CUdeviceptr> va = pool_->Allocate(bytes, stream);
    EXPECT_TRUE(va.ok()) << va.status().what();
    return va.ok() ? *va : 0;
  }
};

TEST_F(PoolPrivateTest, OnlyTheFiltersStreamIsServedFromIt) {
  const CUdeviceptr before = Get(512, a_);
  Begin(kFirst, a_);
  const CUdeviceptr captured = Captured(512, a_);
  const CUdeviceptr other = Get(512, b_);
  End(kFirst, a_);
  const CUdeviceptr after = Get(512, a_);
  EXPECT_NE(SegmentOf(captured), SegmentOf(before));
  EXPECT_NE(SegmentOf(captured), SegmentOf(other));
  EXPECT_EQ(SegmentOf(after), SegmentOf(before));
  pool_->ReleasePool(kFirst);
}

TEST_F(PoolPrivateTest, WhatIsFreedInItStaysInIt) {
  Begin(kFirst, a_);
  const CUdeviceptr captured = Captured(512, a_);
  Give(captured, a_);
  EXPECT_EQ(Captured(512, a_), captured);
  End(kFirst, a_);
  Give(captured, a_);
  EXPECT_NE(Get(512, a_), captured);
  EXPECT_EQ(pool_->Trim(), 0U);
  Begin(kFirst, a_);  // the graph's next capture may have it
  EXPECT_EQ(Captured(512, a_), captured);
  End(kFirst, a_);
  Give(captured, a_);
  pool_->ReleasePool(kFirst);
  EXPECT_EQ(pool_->Trim(), 0U) << "begun twice, released once";
  pool_->ReleasePool(kFirst);
  EXPECT_EQ(pool_->Trim(), 2 * kMiB);
}

TEST_F(PoolPrivateTest, AReleasedPoolsMemoryWaitsForAnIdleDevice) {
  Limit(4 * kMiB);
  Begin(kFirst, a_);
  const CUdeviceptr captured = Captured(kMiB, a_);
  const CUdeviceptr kept = Captured(kMiB, a_);
  Give(captured, a_);
  End(kFirst, a_);
  device_.Work(captured, kMiB, b_, 77);  // a replay that is still under way
  pool_->ReleasePool(kFirst);
  EXPECT_NE(Get(kMiB, a_), captured);
  EXPECT_NE(Get(kMiB, a_), captured);
  EXPECT_EQ(device_.count["CtxSynchronize"], 0);
  EXPECT_EQ(Get(kMiB, a_), captured) << "no room is left but this";
  EXPECT_EQ(device_.count["CtxSynchronize"], 1);
  Give(kept, a_);
  EXPECT_EQ(Get(kMiB, a_), kept) << "after that wait its memory is as any other";
}

TEST_F(PoolPrivateTest, NothingIsAskedWhileOneIsCaptured) {
  const CUdeviceptr va = Get(3 * kMiB, a_);
  const CUdeviceptr waiting = Get(3 * kMiB, a_);
  Give(waiting, b_);
  EXPECT_EQ(device_.count["EventRecord"], 1);
  device_.RunAll();
  Begin(kFirst, a_);
  Give(va, b_);
  EXPECT_NE(Get(3 * kMiB, b_), waiting);
  EXPECT_EQ(pool_->Trim(), 0U);
  EXPECT_EQ(device_.count["EventRecord"] + device_.count["EventQuery"], 1);
  EXPECT_EQ(Stats().pending, 6 * kMiB);
  End(kFirst, a_);
  device_.RunAll();
  EXPECT_EQ(Get(3 * kMiB, a_), waiting);
  EXPECT_EQ(device_.count["EventRecord"], 2) << "the free during the capture was made up for";
  pool_->ReleasePool(kFirst);
}

// Giving it back may wait for the device, which the source does where it does not know of the capture.
TEST_F(PoolPrivateTest, NoSegmentGoesBackWhileOneIsCaptured) {
  Give(Get(30 * kMiB, a_), a_);
  device_.RunAll();
  device_.FailCall(2);
  EXPECT_EQ(pool_->Trim(), 0U) << "idle, and the source kept it";
  device_.FailCall(0);
  EXPECT_EQ(source_.live.size(), 1U);
  Begin(kFirst, a_);
  EXPECT_EQ(pool_->Trim(), 0U);
  EXPECT_EQ(source_.live.size(), 1U);
  EXPECT_EQ(Stats().reserved, 30 * kMiB);
  const CUdeviceptr other = Get(2 * kMiB, b_);
  EXPECT_EQ(source_.live.size(), 1U) << "it serves as before";
  End(kFirst, a_);
  Give(other, b_);
  device_.RunAll();
  EXPECT_EQ(pool_->Trim(), 30 * kMiB);
  pool_->ReleasePool(kFirst);
}

TEST_F(PoolPrivateTest, SeveralAtOnceAndTheInnermostWins) {
  Begin(kFirst, a_);
  Begin(kSecond, b_);
  const CUdeviceptr one = Captured(512, a_);
  const CUdeviceptr two = Captured(512, b_);
  pool_->BeginAllocateTo(kSecond, [](CUstream) { return true; });
  const CUdeviceptr inner = Captured(512, a_);  // the second pool's, though on the first one's stream
  pool_->EndAllocateTo(kSecond);
  EXPECT_NE(SegmentOf(one), SegmentOf(two));
  EXPECT_NE(SegmentOf(inner), SegmentOf(one));
  End(kSecond, b_);
  EXPECT_EQ(SegmentOf(Captured(512, a_)), SegmentOf(one));
  End(kFirst, a_);
  for (int i = 0; i < 2; ++i) pool_->ReleasePool(kSecond);
  pool_->ReleasePool(kFirst);
}

TEST_F(PoolPrivateTest, ReleasedBeforeItsEndItGoesAtTheEnd) {
  Begin(kFirst, a_);
  const CUdeviceptr captured = Captured(512, a_);
  pool_->ReleasePool(kFirst);
  Give(captured, a_);
  EXPECT_EQ(Captured(512, a_), captured);
  Give(captured, a_);
  End(kFirst, a_);
  EXPECT_EQ(pool_->Trim(), 2 * kMiB);
  pool_->ReleasePool(kFirst);  // unknown by now: nothing happens
  pool_->EndAllocateTo(kFirst);
}

TEST_F(PoolPrivateTest, AnUnannouncedCaptureIsNotBroken) {
  const CUdeviceptr va = Get(3 * kMiB, a_);
  device_.BeginCapture(b_);
  Give(va, b_);  // an event there would belong to the capture
  EXPECT_NE(Get(3 * kMiB, a_), va);
  EXPECT_EQ(device_.count["EventRecord"], 0);
  device_.EndCapture(b_);
  Get(3 * kMiB, a_);
  EXPECT_EQ(device_.count["EventRecord"], 1);
  device_.RunAll();
  EXPECT_EQ(Get(3 * kMiB, a_), va);
}

}  // namespace
}  // namespace gpuroom
