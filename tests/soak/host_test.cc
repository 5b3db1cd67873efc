// Whole machines: a pool of 475 GiB on a Grace Hopper with EGM, and eight GPUs of one host that all
// spill. Simulated memory is sparse, so that only what is written exists.
#include <atomic>
#include <thread>

#include "gpuroom/gpuroom.h"
#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

constexpr uint64_t kSpan = 64 * kKiB;

gpuroom_placement Described(CUdeviceptr p) {
  gpuroom_placement place{};
  EXPECT_EQ(gpuroom_describe(p, &place, sizeof place), 0);
  return place;
}

// Writes a span at both ends and around every `step` bytes in between.
template <typename Each>
void EachSpan(CUdeviceptr p, uint64_t bytes, uint64_t step, Each each) {
  each(p);
  for (uint64_t at = step; at < bytes; at += step) each(p + at - kSpan / 2);
  each(p + bytes - kSpan);
}

void FillSpans(CUdeviceptr p, uint64_t bytes, uint64_t step, CUstream stream) {
  EachSpan(p, bytes, step, [&](CUdeviceptr at) { Fill(at, kSpan, at, stream); });
}

uint64_t BadSpans(CUdeviceptr p, uint64_t bytes, uint64_t step, CUdeviceptr bad, CUstream stream) {
  uint64_t count = 0;
  EXPECT_CU(Cu().MemcpyHtoDAsync(bad, &count, sizeof count, stream));
  EachSpan(p, bytes, step, [&](CUdeviceptr at) { Verify(at, kSpan, at, bad, stream); });
  EXPECT_CU(Cu().StreamSynchronize(stream));
  EXPECT_CU(Cu().MemcpyDtoH(&count, bad, sizeof count));
  return count;
}

using PoolTest = ShimTest;

TEST_F(PoolTest, HoldsAlmostHalfATebibyte) {
  constexpr uint64_t kPiece = 25 * kGiB;
  constexpr uint64_t kStep = 5 * kGiB + 18 * kMiB;
  ASSERT_GE(MemInfo().free, 475 * kGiB);
  const CUdeviceptr bad = Alloc(8);
  std::vector<CUdeviceptr> pieces;
  uint64_t device = 0;
  uint64_t host = 0;
  for (int i = 0; i < 19; ++i) {
    pieces.push_back(Alloc(kPiece));
    ASSERT_NE(pieces.back(), 0u) << i;
    const gpuroom_placement place = Described(pieces.back());
    EXPECT_EQ(place.device_bytes + place.host_bytes, kPiece);
    device += place.device_bytes;
    host += place.host_bytes;
    FillSpans(pieces.back(), kPiece, kStep, nullptr);
  }
  EXPECT_GT(device, 80 * kGiB);
  EXPECT_EQ(device + host, 19 * kPiece);
  // The plan of the first: all in HBM, or both links at once.
  const char* policy = std::getenv("GPUROOM_POLICY");
  const bool balanced = policy != nullptr && std::string(policy) == "balanced";
  const gpuroom_placement first = Described(pieces.front());
  if (balanced) {
    EXPECT_GT(first.host_bytes, kPiece / 100);
    EXPECT_LT(first.host_bytes, kPiece / 2);
  } else {
    EXPECT_EQ(first.host_bytes, 0u);
  }
  for (const CUdeviceptr p : pieces) EXPECT_EQ(BadSpans(p, kPiece, kStep, bad, nullptr), 0u);
  // Those in HBM last: what lies on the host would move there, byte by byte, and exist.
  for (; !pieces.empty(); pieces.pop_back()) Free(pieces.back());
  Free(bad);
}

TEST_F(PoolTest, SaysThatThereIsNoMore) {
  CUdeviceptr p = 0;
  EXPECT_CU_IS(Cu().MemAlloc(&p, MemInfo().free + kGiB), CUDA_ERROR_OUT_OF_MEMORY);
  Free(Alloc(kGiB));
}

using EightTest = ShimTest;

// HBM holds one of each device's ranges, and a half of the second.
TEST_F(EightTest, EveryGpuSpills) {
  constexpr uint64_t kPiece = 32 * kMiB;
  int devices = 0;
  ASSERT_CU(Cu().DeviceGetCount(&devices));
  ASSERT_EQ(devices, 8);
  std::atomic<uint64_t> wrong{0};
  std::atomic<uint64_t> outside{0};
  std::vector<std::thread> threads;
  for (int device = 0; device < devices; ++device) {
    threads.emplace_back([&, device] {
      UseDevice(device);
      CUstream stream = nullptr;
      ASSERT_CU(Cu().StreamCreate(&stream, CU_STREAM_NON_BLOCKING));
      CUdeviceptr bad = 0;
      ASSERT_CU(Cu().MemAlloc(&bad, 8));
      std::vector<CUdeviceptr> pieces(3);
      for (CUdeviceptr& p : pieces) {
        ASSERT_CU(Cu().MemAlloc(&p, kPiece));
        FillSpans(p, kPiece, 2 * kMiB, stream);
        const gpuroom_placement place = Described(p);
        EXPECT_EQ(place.device, device);
        EXPECT_EQ(place.device_bytes + place.peer_bytes + place.host_bytes, kPiece);
        outside += place.peer_bytes + place.host_bytes;
      }
      for (const CUdeviceptr p : pieces) wrong += BadSpans(p, kPiece, 2 * kMiB, bad, stream);
      for (const CUdeviceptr p : pieces) EXPECT_CU(Cu().MemFree(p));
      EXPECT_CU(Cu().MemFree(bad));
      EXPECT_CU(Cu().StreamDestroy(stream));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(outside, 8 * (3 * kPiece - kForRanges));
}

}  // namespace
}  // namespace gpuroom::shim_test
