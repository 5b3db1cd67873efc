// Many threads at once: nothing is lost, nothing is seen twice.
#include <atomic>
#include <random>
#include <thread>

#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

using ThreadTest = ShimTest;

constexpr int kThreads = 8;
constexpr int kRounds = 60;

template <typename Work>
void InThreads(Work work) {
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([=] {
      UseDevice(0);
      work(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ThreadTest, AllocateQueryAndFreeOfAllSizes) {
  std::atomic<int> served{0};
  InThreads([&served](int id) {
    std::mt19937 random(static_cast<unsigned>(id));
    for (int round = 0; round < kRounds; ++round) {
      constexpr uint64_t kSizes[] = {1, 4096, 2 * kMiB, 16 * kMiB, 18 * kMiB, 40 * kMiB};
      const uint64_t bytes = kSizes[random() % 6];
      CUdeviceptr p = 0;
      const CUresult result = Cu().MemAlloc(&p, bytes);
      if (result == CUDA_ERROR_OUT_OF_MEMORY) continue;  // the others have it
      ASSERT_CU(result);
      ++served;
      size_t size = 0;
      CUdeviceptr base = 0;
      EXPECT_CU(Cu().MemGetAddressRange(&base, &size, p + bytes / 2));
      EXPECT_EQ(base, p);
      EXPECT_EQ(size, bytes);
      const auto mark = static_cast<unsigned char>(id + 1);
      const uint64_t marked = std::min<uint64_t>(bytes, 4096);
      EXPECT_CU(Cu().MemsetD8(p + bytes - marked, mark, marked));
      unsigned char last = 0;
      EXPECT_CU(Cu().MemcpyDtoH(&last, p + bytes - 1, 1));
      EXPECT_EQ(last, mark);
      const Info info = MemInfo();
      EXPECT_LE(info.free, info.total - bytes);
      EXPECT_CU(Cu().MemFree(p));
    }
  });
  EXPECT_GT(served, kThreads);
}

TEST_F(ThreadTest, AsyncSpillsOnStreamsOfTheirOwn) {
  std::atomic<uint64_t> bad{0};
  std::atomic<int> served{0};
  InThreads([&](int id) {
    CUstream stream = nullptr;
    ASSERT_CU(Cu().StreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CUdeviceptr counter = 0;  // before the memory is full
    ASSERT_CU(Cu().MemAlloc(&counter, 8));
    ASSERT_CU(Cu().MemsetD8Async(counter, 0, 8, stream));
    for (int round = 0; round < kRounds / 4; ++round) {
      CUdeviceptr p = 0;
      const CUresult result = Cu().MemAllocAsync(&p, 20 * kMiB, stream);
      if (result == CUDA_ERROR_OUT_OF_MEMORY) continue;
      ASSERT_CU(result);
      ++served;
      const auto seed = static_cast<uint64_t>(id * 1000 + round);
      Fill(p, 64 * kKiB, seed, stream);
      Verify(p, 64 * kKiB, seed, counter, stream);
      EXPECT_CU(Cu().MemFreeAsync(p, stream));
    }
    EXPECT_CU(Cu().StreamSynchronize(stream));
    uint64_t count = 1;
    EXPECT_CU(Cu().MemcpyDtoH(&count, counter, 8));
    bad += count;
    EXPECT_CU(Cu().MemFree(counter));
    EXPECT_CU(Cu().StreamDestroy(stream));
  });
  EXPECT_EQ(bad, 0u);
  EXPECT_GT(served, kThreads);
  (void)MemInfo();
  CUmemoryPool pool = nullptr;
  EXPECT_CU(Cu().DeviceGetDefaultMemPool(&pool, 0));
  EXPECT_CU(Cu().MemPoolTrimTo(pool, 0));
}

TEST_F(ThreadTest, CreateMapAndRelease) {
  std::atomic<int> served{0};
  InThreads([&served](int id) {
    for (int round = 0; round < kRounds; ++round) {
      const CUmemAllocationProp prop = DeviceMemory();
      const uint64_t bytes = (id % 2 == 0 ? 2 : 20) * kMiB;
      CUmemGenericAllocationHandle handle = 0;
      const CUresult result = Cu().MemCreate(&handle, bytes, &prop, 0);
      if (result == CUDA_ERROR_OUT_OF_MEMORY) continue;
      ASSERT_CU(result);
      ++served;
      CUdeviceptr va = 0;
      ASSERT_CU(Cu().MemAddressReserve(&va, bytes, 0, 0, 0));
      ASSERT_CU(Cu().MemMap(va, bytes, 0, handle, 0));
      EXPECT_CU(Cu().MemRelease(handle));
      EXPECT_CU(Cu().MemUnmap(va, bytes));
      EXPECT_CU(Cu().MemAddressFree(va, bytes));
    }
  });
  EXPECT_GT(served, kThreads);
}

}  // namespace
}  // namespace gpuroom::shim_test
