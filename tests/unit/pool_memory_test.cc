// What a pool does when memory is short: the order in which it looks for some.
#include <gtest/gtest.h>

#include "pool_fixture.h"

namespace gpuroom {
namespace {

TEST_F(PoolTest, WithoutRoomFreeSegmentsOfOtherSizesGoBack) {
  Limit(20 * kMiB);
  Give(Get(20 * kMiB, a_), a_);
  const CUdeviceptr small = Get(512, b_);
  EXPECT_NE(small, 0U);
  EXPECT_EQ(Stats().segments, 1U);
  EXPECT_EQ(Stats().retries, 1U);
  EXPECT_EQ(Stats().segment_destroys, 1U);
  EXPECT_EQ(Try(20 * kMiB, a_), Code::kOutOfMemory);
  EXPECT_EQ(Stats().out_of_memory, 1U);
  Give(small, b_);
  EXPECT_NE(Get(20 * kMiB, a_), 0U);
}

TEST_F(PoolTest, WithoutRoomAnotherStreamsBlockIsTakenByAnEvent) {
  Limit(20 * kMiB);
  const CUdeviceptr kept = Get(4 * kMiB, a_);
  const CUdeviceptr va = Get(9 * kMiB, a_);
  Give(va, a_);
  EXPECT_EQ(Get(9 * kMiB, b_), va);
  EXPECT_EQ(Stats().handovers, 1U);
  EXPECT_EQ(device_.count["CtxSynchronize"], 0) << "the segment is in use: waiting would gain nothing";
  Give(va, b_);
  Give(kept, a_);
  EXPECT_EQ(pool_->Trim(), 20 * kMiB);
}

TEST_F(PoolTest, ACapturedStreamTakesNothingOver) {
  Limit(20 * kMiB);
  Get(4 * kMiB, a_);
  Give(Get(9 * kMiB, a_), a_);
  device_.BeginCapture(b_);
  pool_->BeginAllocateTo({1, 0}, [this](CUstream stream) { return stream == b_; });
  EXPECT_EQ(Try(9 * kMiB, b_), Code::kOutOfMemory);
  EXPECT_EQ(device_.count["StreamWaitEvent"], 0);
  device_.EndCapture(b_);
  pool_->EndAllocateTo({1, 0});
  pool_->ReleasePool({1, 0});
  EXPECT_EQ(Try(9 * kMiB, b_), Code::kOk);
}

TEST_F(PoolTest, SpillingComesAfterEverythingElse) {
  Limit(20 * kMiB, 40 * kMiB);
  Get(9 * kMiB, a_);
  Get(9 * kMiB, a_);
  EXPECT_EQ(Stats().spilled_segments, 0U);
  const CUdeviceptr spilled = Get(9 * kMiB, a_);
  EXPECT_EQ(Stats().spilled_segments, 1U);
  Give(spilled, a_);
  EXPECT_EQ(pool_->Trim(), 20 * kMiB);
  EXPECT_EQ(Stats().spilled_segments, 0U);
}

TEST_F(PoolTest, SpillingCanBeForbidden) {
  PoolOptions options;
  options.may_spill = false;
  pool_ = std::make_unique<Pool>(driver_, source_, options);
  Limit(2 * kMiB, 40 * kMiB);
  EXPECT_EQ(Try(9 * kMiB, a_), Code::kOutOfMemory);
  EXPECT_EQ(Try(512, a_), Code::kOk);
}

TEST_F(PoolTest, TheLimitCountsSegments) {
  pool_->SetLimit(22 * kMiB);
  Give(Get(9 * kMiB, a_), a_);
  const CUdeviceptr va = Get(512, a_);
  EXPECT_EQ(Try(23 * kMiB, a_), Code::kOutOfMemory);
  EXPECT_EQ(Stats().reserved, 2 * kMiB) << "the other was given back in the attempt";
  EXPECT_EQ(Try(20 * kMiB, a_), Code::kOk);
  Give(va, a_);
}

TEST_F(PoolTest, AMisplacedSegmentIsRefused) {
  source_.misalign = 4096;
  EXPECT_EQ(Try(512, a_), Code::kUnsupported);
  EXPECT_TRUE(source_.live.empty());
  source_.misalign = 0;
  EXPECT_EQ(Try(512, a_), Code::kOk);
}

}  // namespace
}  // namespace gpuroom
