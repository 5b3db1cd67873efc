// Threads on the hot path, with as little between them as can be: no driver call and no lock of the
// test's own orders what they do. Each block that is had is marked in a table that has to be empty there.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "pool/pool.h"

namespace gpuroom {
namespace {

constexpr CUdeviceptr kBase = CUdeviceptr{1} << 40;
constexpr uint64_t kSpace = 1 * kGiB;
constexpr int kThreads = 8;

class Addresses : public SegmentSource {
 public:
  Result<CUdeviceptr> Create(uint64_t bytes, CUstream, Where) override {
    const uint64_t at = next_.fetch_add(bytes);
    if (at + bytes > kSpace) return Status(Code::kOutOfMemory, "the test's addresses are used up");
    return kBase + at;
  }
  Status Destroy(CUdeviceptr) override { return {}; }

 private:
  std::atomic<uint64_t> next_{0};
};

class PoolThreadTest : public ::testing::Test {
 protected:
  PoolThreadTest() : marks_(kSpace / kUnitBytes) {
    driver_.CtxSynchronize = [] { return CUDA_SUCCESS; };
  }
  std::atomic<uint8_t>& Mark(CUdeviceptr va) { return marks_[(va - kBase) / kUnitBytes]; }

  static CUdeviceptr Last(CUdeviceptr va, uint64_t bytes) {
    return va + RoundUp(bytes, kUnitBytes) - kUnitBytes;
  }

  // All threads use one stream: its order protects what one frees and another is given.
  CUdeviceptr Get(Pool& pool, uint64_t bytes) {
    const Result<CUdeviceptr> va = pool.Allocate(bytes, nullptr);
    if (!va.ok()) return 0;
    EXPECT_EQ(Mark(*va).exchange(1, std::memory_order_relaxed), 0) << "given out twice";
    const CUdeviceptr last = Last(*va, bytes);
    EXPECT_TRUE(last == *va || Mark(last).exchange(1, std::memory_order_relaxed) == 0) << "given out twice";
    return *va;
  }
  void Give(Pool& pool, CUdeviceptr va, uint64_t bytes) {
    Mark(Last(va, bytes)).store(0, std::memory_order_relaxed);
    Mark(va).store(0, std::memory_order_relaxed);
    EXPECT_TRUE(pool.Free(va, nullptr).ok());
  }
  void Walk(Pool& pool, unsigned seed) {
    static constexpr std::array<uint64_t, 6> kSizes = {512, 1024, 5000, 65536, 300'000, 1'500'000};
    std::minstd_rand random(seed);
    std::vector<std::pair<CUdeviceptr, uint64_t>> mine;
    for (int i = 0; i < 20'000 && !HasFailure(); ++i) {
      if (mine.size() < 20 && random() % 2 == 0) {
        const uint64_t bytes = kSizes[random() % kSizes.size()];
        if (const CUdeviceptr va = Get(pool, bytes)) mine.emplace_back(va, bytes);
      } else if (!mine.empty()) {
        std::swap(mine[random() % mine.size()], mine.back());
        Pass(pool, mine);
      }
    }
    for (const auto& [va, bytes] : mine) Give(pool, va, bytes);
  }
  // Frees the last, or leaves it for any thread and frees what was left before.
  void Pass(Pool& pool, std::vector<std::pair<CUdeviceptr, uint64_t>>& mine) {
    const auto [va, bytes] = mine.back();
    mine.pop_back();
    if (bytes != 512) return Give(pool, va, bytes);
    const CUdeviceptr other = left_.exchange(va, std::memory_order_acq_rel);
    if (other != 0) Give(pool, other, 512);
  }

  std::vector<std::atomic<uint8_t>> marks_;
  std::atomic<CUdeviceptr> left_{0};
  Driver driver_;
  Addresses source_;
};

TEST_F(PoolThreadTest, NothingIsGivenOutTwice) {
  Pool pool(driver_, source_);
  std::atomic<bool> done{false};
  std::thread observer([&] {
    while (!done) {
      pool.Stats();
      pool.Trim();
      CUdeviceptr base = 0;
      uint64_t bytes = 0;
      pool.Find(kBase + 12345, &base, &bytes);
      EXPECT_FALSE(pool.Free(kBase + 1, nullptr).ok());
    }
  });
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) threads.emplace_back([&, i] { Walk(pool, i + 1); });
  for (std::thread& thread : threads) thread.join();
  done = true;
  observer.join();
  if (left_ != 0) Give(pool, left_, 512);
  pool.Trim();
  const PoolStats stats = pool.Stats();
  EXPECT_GT(stats.allocations, 0U);
  EXPECT_EQ(stats.allocations, stats.frees);
  EXPECT_EQ(stats.asked + stats.cached + stats.reserved + stats.segments, 0U);
}

// Of threads that free the same block at once one succeeds.
TEST_F(PoolThreadTest, ADoubleFreeAtOnceIsFoundOut) {
  Pool pool(driver_, source_);
  for (int round = 0; round < 200; ++round) {
    const CUdeviceptr va = *pool.Allocate(1000, nullptr);
    std::atomic<int> freed{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back([&] { freed += pool.Free(va, nullptr).ok() ? 1 : 0; });
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(freed, 1);
  }
  EXPECT_EQ(pool.Stats().frees, 200U);
}

// A pool that ends while threads that used it end.
TEST_F(PoolThreadTest, ThreadsAndPoolEndTogether) {
  for (int round = 0; round < 100; ++round) {
    auto pool = std::make_unique<Pool>(driver_, source_);
    std::atomic<int> used{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        EXPECT_TRUE(pool->Free(*pool->Allocate(1000, nullptr), nullptr).ok());
        ++used;
      });
    }
    while (used < 4) std::this_thread::yield();
    pool.reset();
    for (std::thread& thread : threads) thread.join();
  }
}

}  // namespace
}  // namespace gpuroom
