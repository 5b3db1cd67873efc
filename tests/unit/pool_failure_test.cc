// Every driver and source call of a walk through the pool fails in turn, alone and with those that
// follow: nothing is lost, nothing used twice, and the pool goes on.
#include <gtest/gtest.h>

#include <map>

#include "pool_fixture.h"

namespace gpuroom {
namespace {

class PoolFailureTest : public PoolTest {
 protected:
  CUdeviceptr TryGet(uint64_t bytes, CUstream stream) {
    const Result<CUdeviceptr> va = pool_->Allocate(bytes, stream);
    if (!va.ok()) return 0;
    EXPECT_EQ(live_.count(*va), 0U);
    live_[*va] = stream;
    if (stream != captured_) device_.Work(*va, bytes, stream, ++owner_);
    return *va;
  }
  void TryGive(CUdeviceptr va, CUstream stream) {
    if (va == 0) return;
    EXPECT_TRUE(pool_->Free(va, stream).ok()) << "a free never fails for the driver's reasons";
    live_.erase(va);
  }
  void Walk() {
    const CUdeviceptr one = TryGet(3 * kMiB, a_);
    const CUdeviceptr two = TryGet(4 * kMiB, a_);
    const CUdeviceptr three = TryGet(9 * kMiB, b_);
    EXPECT_EQ(pool_->RecordStream(one, b_).ok(), one != 0);
    TryGive(one, a_);
    TryGive(TryGet(7 * kMiB, b_), b_);
    TryGive(two, b_);
    TryGive(TryGet(3 * kMiB, a_), a_);
    Capture();
    device_.RunAll();
    TryGive(TryGet(3 * kMiB, c_), c_);
    TryGet(12 * kMiB, a_);  // spills
    TryGive(three, b_);
    TryGet(9 * kMiB, a_);
    pool_->Trim();
    if (pool_->StreamEnds(c_).ok()) device_.dead.insert(c_);
    TryGet(40 * kMiB, a_);  // there is no room for it
  }
  void Capture() {
    pool_->BeginAllocateTo({1, 1}, [this](CUstream stream) { return stream == captured_; });
    device_.BeginCapture(captured_);
    const CUdeviceptr inside = TryGet(512, captured_);
    TryGive(inside, captured_);
    TryGet(kMiB, captured_);
    device_.EndCapture(captured_);
    pool_->EndAllocateTo({1, 1});
    pool_->ReleasePool({1, 1});
  }
  // The pool without failures: everything comes back, and all of it can be had again.
  void ExpectWhole() {
    device_.FailCall(0);
    for (const auto& [va, stream] : live_) {
      EXPECT_TRUE(pool_->Free(va, stream == c_ ? a_ : stream).ok());
    }
    live_.clear();
    device_.RunAll();
    pool_->Trim();
    EXPECT_TRUE(source_.live.empty());
    EXPECT_EQ(Stats().reserved, 0U);
    EXPECT_EQ(Stats().segments, 0U);
    EXPECT_EQ(Stats().asked, 0U);
    EXPECT_EQ(Stats().pending + Stats().cached, 0U);
    TryGive(TryGet(20 * kMiB, a_), a_);
    pool_->Trim();
  }
  // 0: the walk has fewer calls.
  uint64_t Run(uint64_t call, uint64_t more) {
    device_.dead.clear();
    pool_ = std::make_unique<Pool>(driver_, source_);
    Limit(22 * kMiB, 14 * kMiB);
    device_.FailCall(call, more);
    Walk();
    const uint64_t calls = device_.calls();
    ExpectWhole();
    EXPECT_EQ(source_.resident + source_.spill, 36 * kMiB);
    return calls;
  }

  std::map<CUdeviceptr, CUstream> live_;
  const CUstream c_ = Stream(300);
  const CUstream captured_ = Stream(400);
};

TEST_F(PoolFailureTest, EachCallInTurn) {
  const uint64_t calls = Run(0, 0);
  ASSERT_GT(calls, 40U);
  EXPECT_GT(device_.count["StreamWaitEvent"], 0);
  EXPECT_GT(device_.count["EventQuery"], 0);
  for (uint64_t call = 1; call <= calls + 5 && !HasFailure(); ++call) {
    for (const uint64_t more : {0, 1, 3, 15, 1000}) {
      SCOPED_TRACE("call " + std::to_string(call) + " and " + std::to_string(more) + " more");
      Run(call, more);
    }
  }
}

// The end of a pool insists on each call that puts things back.
TEST_F(PoolFailureTest, AtTheEnd) {
  for (uint64_t call = 1; call < 8 && !HasFailure(); ++call) {
    SCOPED_TRACE("call " + std::to_string(call));
    pool_ = std::make_unique<Pool>(driver_, source_);
    const CUdeviceptr va = Get(3 * kMiB, a_);
    Give(va, b_);
    device_.FailCall(call + 1, 3);  // not the wait: without it memory may not go
    pool_.reset();
    device_.FailCall(0);
    EXPECT_TRUE(source_.live.empty());
    EXPECT_EQ(device_.live_events(), 0U);
  }
}

TEST_F(PoolFailureTest, AnEndThatCannotWaitKeepsItsMemory) {
  Get(3 * kMiB, a_);
  device_.FailCall(1);
  pool_.reset();
  EXPECT_EQ(source_.live.size(), 1U);
  source_.live.clear();
}

}  // namespace
}  // namespace gpuroom
