// What a pool does, case by case: streams, pointers, threads, statistics.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "pool_fixture.h"

namespace gpuroom {
namespace {

TEST_F(PoolTest, TheSameStreamGetsItsMemoryBackAtOnce) {
  const CUdeviceptr va = Get(1000, a_);
  Give(va, a_);
  EXPECT_EQ(Get(1000, a_), va);
  EXPECT_EQ(source_.live.size(), 1U);
  EXPECT_EQ(device_.calls(), 1U) << "a create and nothing else";
}

TEST_F(PoolTest, AnotherStreamDoesNot) {
  const CUdeviceptr va = Get(1000, a_);
  Give(va, a_);
  EXPECT_NE(Get(1000, b_), va);
}

TEST_F(PoolTest, BadPointersAreToldApartAndChangeNothing) {
  const CUdeviceptr va = Get(1000, a_);
  EXPECT_EQ(pool_->Free(va + 512, a_).code(), Code::kNotFound);
  EXPECT_EQ(pool_->Free(va + 1, a_).code(), Code::kNotFound);
  EXPECT_EQ(pool_->Free(0, a_).code(), Code::kNotFound);
  EXPECT_EQ(pool_->Free(UINT64_MAX, a_).code(), Code::kNotFound);
  EXPECT_EQ(pool_->Free(CUdeviceptr{1} << 56, a_).code(), Code::kNotFound);
  EXPECT_EQ(pool_->RecordStream(va + 512, b_).code(), Code::kNotFound);
  Give(va, a_);
  EXPECT_EQ(pool_->Free(va, a_).code(), Code::kInvalidArgument);
  EXPECT_EQ(pool_->Free(va, b_).code(), Code::kInvalidArgument);
  EXPECT_EQ(pool_->RecordStream(va, b_).code(), Code::kNotFound);
  EXPECT_EQ(Try(0, a_), Code::kInvalidArgument);
  EXPECT_EQ(Try(UINT64_MAX, a_), Code::kOutOfMemory);
  EXPECT_EQ(Stats().frees, 1U);
  EXPECT_EQ(Stats().asked, 0U);
}

TEST_F(PoolTest, NeighboursBecomeOneAgain) {
  std::vector<CUdeviceptr> blocks;
  for (int i = 0; i < 4096; ++i) blocks.push_back(Get(512, a_));
  ASSERT_EQ(source_.live.size(), 1U);
  std::shuffle(blocks.begin(), blocks.end(), std::mt19937(1));
  for (const CUdeviceptr va : blocks) Give(va, a_);
  const CUdeviceptr first = Get(kMiB, a_);
  const CUdeviceptr second = Get(kMiB, a_);
  EXPECT_EQ(source_.live.size(), 1U) << "both halves come from the one segment";
  Give(first, a_);
  Give(second, a_);
  EXPECT_EQ(pool_->Trim(), 2 * kMiB);
}

TEST_F(PoolTest, AFreeOnAnotherStreamWaitsForIt) {
  const CUdeviceptr va = Get(kMiB, a_);
  const CUdeviceptr other = Get(kMiB, a_);
  device_.Work(va, 8, b_, owner_ - 1);
  Give(va, b_);
  EXPECT_EQ(Stats().pending, kMiB);
  const CUdeviceptr next = Get(kMiB, a_);
  EXPECT_NE(next, va);
  device_.RunAll();
  EXPECT_EQ(Get(kMiB, a_), va) << "found done by a later request";
  EXPECT_EQ(Stats().pending, 0U);
  EXPECT_NE(other, next);
}

TEST_F(PoolTest, ARecordedStreamIsWaitedFor) {
  const CUdeviceptr va = Get(3 * kMiB, a_);
  EXPECT_TRUE(pool_->RecordStream(va, b_).ok());
  EXPECT_TRUE(pool_->RecordStream(va, b_).ok());
  EXPECT_TRUE(pool_->RecordStream(va, a_).ok());
  device_.Work(va, 8, b_, owner_);
  Give(va, a_);
  EXPECT_EQ(device_.count["EventRecord"], 1);
  EXPECT_NE(Get(3 * kMiB, a_), va);
  device_.RunAll();
  EXPECT_EQ(Get(3 * kMiB, a_), va);
}

TEST_F(PoolTest, HandlesZeroAndOneAreTheSameStream) {
  const CUdeviceptr va = Get(1000, nullptr);
  Give(va, CU_STREAM_LEGACY);
  EXPECT_EQ(Get(1000, nullptr), va);
  EXPECT_EQ(device_.count["EventRecord"], 0);
}

TEST_F(PoolTest, ThePerThreadStreamIsAnotherOnEachThread) {
  const CUdeviceptr va = Get(kMiB, CU_STREAM_PER_THREAD);
  std::thread([&] {
    const CUdeviceptr mine = Get(kMiB, CU_STREAM_PER_THREAD);
    EXPECT_NE(mine, va);
    device_.Work(va, 8, CU_STREAM_PER_THREAD, 1);
    Give(va, CU_STREAM_PER_THREAD);  // the other thread's memory: an event on ours
    EXPECT_EQ(device_.count["EventRecord"], 1);
    Give(mine, CU_STREAM_PER_THREAD);
  }).join();
  EXPECT_NE(Get(kMiB, CU_STREAM_PER_THREAD), va);
  device_.RunAll();
  EXPECT_EQ(Get(kMiB, CU_STREAM_PER_THREAD), va);
}

TEST_F(PoolTest, AUseOnAnotherThreadsOwnStreamIsRecordedByThatThread) {
  const CUdeviceptr va = Get(3 * kMiB, a_);
  EXPECT_TRUE(pool_->RecordStream(va, CU_STREAM_PER_THREAD).ok());
  device_.Work(va, 8, CU_STREAM_PER_THREAD, owner_);
  std::thread([&] { Give(va, a_); }).join();
  EXPECT_EQ(device_.count["EventRecord"], 0);
  Get(3 * kMiB, a_);  // on this thread: now it is recorded
  EXPECT_EQ(device_.count["EventRecord"], 1);
  device_.RunAll();
  EXPECT_EQ(Get(3 * kMiB, a_), va);
}

TEST_F(PoolTest, FindGivesTheSegmentAndFindBlockTheBlock) {
  Get(1000, a_);
  const CUdeviceptr va = Get(5000, a_);
  CUdeviceptr base = 0;
  uint64_t bytes = 0;
  ASSERT_TRUE(pool_->Find(va + 4999, &base, &bytes));
  EXPECT_EQ(base, source_.live.begin()->first);
  EXPECT_EQ(bytes, 2 * kMiB);
  ASSERT_TRUE(pool_->FindBlock(va + 4999, &base, &bytes));
  EXPECT_EQ(base, va);
  EXPECT_EQ(bytes, RoundedBytes(5000));
  EXPECT_FALSE(pool_->Find(va + bytes, &base, &bytes)) << "behind it nothing is in use";
  Give(va, a_);
  EXPECT_FALSE(pool_->FindBlock(va, &base, &bytes));
}

TEST_F(PoolTest, AStreamThatEndsLeavesItsMemoryToAll) {
  Limit(2 * kMiB);
  const CUdeviceptr freed = Get(kMiB, a_);
  const CUdeviceptr live = Get(kMiB, a_);
  EXPECT_TRUE(pool_->RecordStream(live, a_).ok());
  Give(freed, a_);
  EXPECT_TRUE(pool_->StreamEnds(a_).ok());
  device_.dead.insert(a_);
  EXPECT_EQ(Get(kMiB, b_), freed);
  EXPECT_EQ(Stats().handovers, 0U);
  Give(live, b_);
  device_.RunAll();
  EXPECT_EQ(Get(kMiB, b_), live);
}

TEST_F(PoolTest, StatsAddUp) {
  const CUdeviceptr va = Get(1000, a_);
  Get(5 * kMiB + 1, b_);
  EXPECT_EQ(Stats().asked, 1000 + 5 * kMiB + 1);
  EXPECT_EQ(Stats().allocated, 1024 + RoundedBytes(5 * kMiB + 1));
  EXPECT_EQ(Stats().reserved, 22 * kMiB);
  EXPECT_EQ(Stats().allocations, 2U);
  Give(va, a_);
  EXPECT_EQ(Stats().cached, 1024U);
  EXPECT_EQ(Stats().peak_used, 1024 + RoundedBytes(5 * kMiB + 1));
  std::thread([&] { Give(Get(512, a_), a_); }).join();
  EXPECT_EQ(Stats().cached, 1024U) << "a thread that ends keeps nothing";
  EXPECT_EQ(Stats().frees, 2U);
}

TEST_F(PoolTest, ThreadsMayOutliveThePool) {
  std::mutex step;
  step.lock();
  std::atomic<bool> ready{false};
  std::thread thread([&] {
    Give(Get(512, a_), a_);
    ready = true;
    step.lock();  // the pool ends meanwhile
    pool_ = std::make_unique<Pool>(driver_, source_);
    Give(Get(512, a_), a_);
    step.unlock();
  });
  while (!ready) std::this_thread::yield();
  pool_.reset();
  EXPECT_TRUE(source_.live.empty());
  step.unlock();
  thread.join();
  EXPECT_EQ(Stats().allocations, 1U);
}

}  // namespace
}  // namespace gpuroom
