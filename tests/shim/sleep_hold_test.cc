// What submissions do while memory sleeps: wait, fail, or go on where they do not touch it.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "sleep_fixture.h"

namespace gpuroom::shim_test {
namespace {

constexpr uint64_t kSize = 2 * kMiB;

class SleepHoldTest : public SleepTest {
 protected:
  static CUresult CopyTo(CUdeviceptr p) {
    const uint64_t word = 77;
    return Cu().MemcpyHtoD(p, &word, sizeof word);
  }
};

TEST_F(SleepHoldTest, WaitingSubmissionsGoOnAfterTheWake) {
  const CUdeviceptr p = AllocTagged("t", kSize);
  const CUdeviceptr awake = Alloc(4096);
  Sleep({}, GPUROOM_HOLD_WAIT);
  std::atomic<bool> done{false};
  std::thread one([&] {
    UseDevice(0);
    Fill(p, kSize, 5);
    EXPECT_CU(CopyTo(awake));  // all of them wait, whatever they touch
    done = true;
  });
  std::thread two([&] {
    UseDevice(0);
    EXPECT_CU(CopyTo(awake));
    done = true;
  });
  // What allocates, frees and asks passes.
  EXPECT_GT(MemInfo().free, 0u);
  Free(Alloc(kThreshold));
  Free(Alloc(64));
  usleep(20000);
  EXPECT_FALSE(done);
  Wake();
  one.join();
  two.join();
  EXPECT_EQ(CountBad(p, kSize, 5), 0u);
  Free(awake);
  Free(p);
}

TEST_F(SleepHoldTest, TheyWaitUntilNothingIsAsleep) {
  const CUdeviceptr a = AllocTagged("a", kSize);
  const CUdeviceptr b = AllocTagged("b", kSize);
  Sleep({}, GPUROOM_HOLD_WAIT);
  std::atomic<bool> done{false};
  std::thread thread([&] {
    UseDevice(0);
    Fill(a, kSize, 5);
    done = true;
  });
  Wake({"a"});
  usleep(20000);
  EXPECT_FALSE(done);
  Free(b);  // as good as woken
  thread.join();
  EXPECT_EQ(CountBad(a, kSize, 5), 0u);
  Free(a);
}

// However the program gives back what sleeps: when the last of it is gone, nobody waits for a wake.
TEST_F(SleepHoldTest, FreeingAllThatSleepsEndsTheHold) {
  const CUdeviceptr awake = Alloc(4096);
  const CUstream stream = NewStream();
  const auto sleep_both = [](gpuroom_hold hold, auto first, auto second) {
    EXPECT_EQ(Sleep({}, hold).ranges, 2u);
    first();
    EXPECT_GT(Stats().asleep_bytes, 0u);
    if (hold == GPUROOM_HOLD_FAIL) {
      EXPECT_CU_IS(Cu().MemsetD8(0, 0, 0), CUDA_ERROR_ILLEGAL_STATE);
    }
    second();
    EXPECT_EQ(Stats().asleep_bytes, 0u);
  };
  for (const gpuroom_hold hold : {GPUROOM_HOLD_FAIL, GPUROOM_HOLD_WAIT}) {
    const CUdeviceptr a = AllocTagged("t", kSize);
    const CUdeviceptr b = AllocTagged("t", kSize);
    sleep_both(
        hold, [&] { Free(a); }, [&] { EXPECT_CU(Cu().MemFreeAsync(b, stream)); });
    EXPECT_CU(CopyTo(awake));
    SetTag("t");
    const Mapped first(kSize);
    const Mapped second(kSize);
    SetTag(nullptr);
    EXPECT_CU(Cu().MemRelease(first.handle));  // its mapping is the last use of it
    sleep_both(
        hold, [&] { EXPECT_CU(Cu().MemUnmap(first.va, kSize)); },
        [&] {
          EXPECT_CU(Cu().MemUnmap(second.va, kSize));
          EXPECT_CU(Cu().MemRelease(second.handle));
        });
    EXPECT_CU(CopyTo(awake));
    EXPECT_CU(Cu().MemAddressFree(first.va, kSize));
    EXPECT_CU(Cu().MemAddressFree(second.va, kSize));
  }
  EXPECT_CU(Cu().StreamDestroy(stream));
  Free(awake);
}

TEST_F(SleepHoldTest, FailingSubmissionsAreToldOfOnce) {
  const CUdeviceptr p = AllocTagged("t", kSize);
  const CUdeviceptr awake = Alloc(4096);
  const CUstream stream = NewStream();
  for (int round = 0; round < 2; ++round) {
    testing::internal::CaptureStderr();
    Sleep({}, GPUROOM_HOLD_FAIL);
    for (int i = 0; i < 3; ++i) {
      EXPECT_CU_IS(CopyTo(awake), CUDA_ERROR_ILLEGAL_STATE);
      EXPECT_CU_IS(CopyTo(p), CUDA_ERROR_ILLEGAL_STATE);
      EXPECT_CU_IS(Cu().StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_ERROR_ILLEGAL_STATE);
    }
    Free(Alloc(kThreshold));
    Wake();
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
    EXPECT_NE(log.find("memory is asleep; wake it first"), std::string::npos) << log;
  }
  EXPECT_CU(CopyTo(awake));
  EXPECT_CU(CopyTo(p));
  EXPECT_CU(Cu().StreamDestroy(stream));
  Free(awake);
  Free(p);
}

TEST_F(SleepHoldTest, OnlyWhatTouchesSleepingMemoryIsRefused) {
  const CUdeviceptr range = AllocTagged("t", kSize);
  const CUdeviceptr awake = AllocTagged("awake", kSize);
  SetTag("t");
  const Mapped mapped(kSize);
  SetTag(nullptr);
  Sleep({{"t", GPUROOM_SLEEP_DROP}});
  uint64_t word = 0;
  for (const CUdeviceptr p : {range + 4096, mapped.va, mapped.va + kSize - 8}) {
    EXPECT_CU_IS(CopyTo(p), CUDA_ERROR_ILLEGAL_STATE);
    EXPECT_CU_IS(Cu().MemcpyDtoH(&word, p, sizeof word), CUDA_ERROR_ILLEGAL_STATE);
    EXPECT_CU_IS(Cu().MemcpyDtoD(awake, p, 8), CUDA_ERROR_ILLEGAL_STATE);
    EXPECT_CU_IS(Cu().MemcpyDtoD(p, awake, 8), CUDA_ERROR_ILLEGAL_STATE);
    EXPECT_CU_IS(Cu().Memcpy(awake, p, 8), CUDA_ERROR_ILLEGAL_STATE);
    EXPECT_CU_IS(Cu().MemsetD8(p, 1, 8), CUDA_ERROR_ILLEGAL_STATE);
    EXPECT_CU_IS(Cu().MemsetD32Async(p, 1, 2, nullptr), CUDA_ERROR_ILLEGAL_STATE);
    CUDA_MEMCPY2D copy{};
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = &word;
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.dstDevice = p;
    copy.WidthInBytes = 8;
    copy.Height = 1;
    EXPECT_CU_IS(Cu().Memcpy2D(&copy), CUDA_ERROR_ILLEGAL_STATE);
    copy.dstDevice = awake;
    EXPECT_CU(Cu().Memcpy2D(&copy));
  }
  Fill(awake, kSize, 3);
  EXPECT_EQ(CountBad(awake, kSize, 3), 0u);
  Wake();
  EXPECT_CU(CopyTo(range));
  EXPECT_CU(CopyTo(mapped.va));
  mapped.Free();
  Free(range);
  Free(awake);
}

TEST_F(SleepHoldTest, ACaptureBeginsAfterTheWake) {
  const CUdeviceptr p = AllocTagged("t", kSize);
  Sleep({}, GPUROOM_HOLD_WAIT);
  std::atomic<bool> began{false};
  CUgraph graph = nullptr;
  std::thread thread([&] {
    UseDevice(0);
    const CUstream stream = NewStream();
    EXPECT_CU(Cu().StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    began = true;
    Fill(p, kSize, 9, stream);
    EXPECT_CU(Cu().StreamEndCapture(stream, &graph));
    EXPECT_CU(Cu().StreamDestroy(stream));
  });
  usleep(20000);
  EXPECT_FALSE(began);
  Wake();
  thread.join();
  EXPECT_CU(Cu().GraphDestroy(graph));
  Free(p);
}

TEST_F(SleepHoldTest, AThreadThatSubmitsAllTheTimeSeesNothingOfIt) {
  const CUdeviceptr p = AllocTagged("t", kSize);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> bad{0};
  std::atomic<uint64_t> rounds{0};
  std::thread thread([&] {
    UseDevice(0);
    const CUstream stream = NewStream();
    const CUdeviceptr counter = Alloc(8);
    EXPECT_CU(Cu().MemsetD8Async(counter, 0, 8, stream));
    for (uint64_t seed = 0; !stop; ++seed) {
      Fill(p, 64 * kKiB, seed, stream);
      Fill(p + kSize - 64 * kKiB, 64 * kKiB, seed + 1, stream);
      Verify(p, 64 * kKiB, seed, counter, stream);
      Verify(p + kSize - 64 * kKiB, 64 * kKiB, seed + 1, counter, stream);
      if (seed % 8 == 0) {
        EXPECT_CU(Cu().StreamSynchronize(stream));
      }
      ++rounds;
    }
    uint64_t count = 1;
    EXPECT_CU(Cu().StreamSynchronize(stream));
    EXPECT_CU(Cu().MemcpyDtoH(&count, counter, 8));
    bad += count;
    Free(counter);
    EXPECT_CU(Cu().StreamDestroy(stream));
  });
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Sleep({{"t", GPUROOM_SLEEP_KEEP}}, GPUROOM_HOLD_WAIT).ranges, 1u);
    EXPECT_EQ(Wake().ranges, 1u);
    const uint64_t seen = rounds;
    while (i % 10 == 0 && rounds == seen) sched_yield();  // it gets on
  }
  stop = true;
  thread.join();
  EXPECT_EQ(bad, 0u);
  EXPECT_GT(rounds, 0u);
  Free(p);
}

TEST_F(SleepHoldTest, SeveralThreadsSleepAndWakeOneAfterTheOther) {
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([=] {
      UseDevice(0);
      const std::string tag = "thread " + std::to_string(i);
      ASSERT_EQ(gpuroom_set_thread_hint(GPUROOM_HINT_NONE, tag.c_str()), GPUROOM_OK);
      CUdeviceptr p = 0;
      ASSERT_CU(Cu().MemAlloc(&p, kSize));
      const auto seed = static_cast<uint64_t>(i);
      Fill(p, kSize, seed);
      for (int round = 0; round < 10; ++round) {
        EXPECT_EQ(Sleep({{tag.c_str(), GPUROOM_SLEEP_KEEP}}).ranges, 1u);
        EXPECT_EQ(StateOf(tag).kept, kSize);
        EXPECT_EQ(Wake({tag.c_str()}).ranges, 1u);
      }
      EXPECT_EQ(CountBad(p, kSize, seed), 0u);
      EXPECT_CU(Cu().MemFree(p));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace gpuroom::shim_test
