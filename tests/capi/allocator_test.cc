// What PyTorch asks of a pluggable allocator, of the functions that it would call.
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "library.h"

namespace gpuroom::shim_test {
namespace {

void* Pointer(CUdeviceptr p) { return reinterpret_cast<void*>(p); }  // NOLINT

class TorchTest : public CapiTest {};

TEST_F(TorchTest, WhatIsFreedIsGivenOutAgainOnItsStream) {
  const CUdeviceptr first = Alloc(kMiB);
  Fill(first, kMiB, 1);
  EXPECT_EQ(CountBad(first, kMiB, 1), 0u);
  Free(first);
  EXPECT_EQ(Alloc(kMiB), first);
  const gpuroom_stats stats = Stats();
  EXPECT_EQ(stats.pool_allocated, kMiB);
  EXPECT_GE(stats.pool_reserved, kMiB);
  EXPECT_GE(stats.pool_allocations, 2u);
  Free(first);
}

TEST_F(TorchTest, MoreThanHbmSpillsAndKeepsItsContents) {
  std::vector<CUdeviceptr> all;
  for (uint64_t i = 0; i < 5; ++i) {
    all.push_back(Alloc(24 * kMiB));
    Fill(all.back(), 24 * kMiB, i);
  }
  EXPECT_GT(Stats().host_used, 0u);
  EXPECT_GT(Stats().spilled, 0u);
  for (uint64_t i = 0; i < all.size(); ++i) EXPECT_EQ(CountBad(all[i], 24 * kMiB, i), 0u) << i;
  for (const CUdeviceptr p : all) Free(p);
}

TEST_F(TorchTest, LackOfMemoryIsAnExceptionThatNamesIt) {
  const CUdeviceptr kept = Alloc(32 * kMiB);
  try {
    Library().torch_malloc(ssize_t{1} << 40, 0, nullptr);
    ADD_FAILURE() << "no exception";
  } catch (const std::runtime_error& error) {
    EXPECT_EQ(
        std::string(error.what()).find("CUDA out of memory. gpuroom could not allocate 1.0 TiB on GPU 0"), 0u)
        << error.what();
  }
  EXPECT_EQ(Stats().pool_out_of_memory, 1u);
  Fill(kept, 32 * kMiB, 3);
  EXPECT_EQ(CountBad(kept, 32 * kMiB, 3), 0u);
  Free(kept);
}

// What torch_malloc throws.
std::string Refusal(ssize_t bytes, int device) {
  try {
    Library().torch_malloc(bytes, device, nullptr);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no exception";
}

// As after an illegal access of a kernel, when every call fails; whether HBM has room or not.
TEST_F(TorchTest, AnotherErrorOfTheDriverIsAnExceptionThatNamesIt) {
  std::string rules;
  for (const char* function : {"cuMemCreate:", "cuMemAlloc:"}) {
    for (int call = 1; call < 100; ++call) rules += function + std::to_string(call) + ":700,";
  }
  rules.pop_back();
  for (const uint64_t kept : {1, 40}) {
    const CUdeviceptr before = Alloc(kept * kMiB);
    GetSim().fail(rules.c_str());
    const std::string text = Refusal(24 * kMiB, 0);
    GetSim().fail("");
    EXPECT_EQ(text.find("out of memory"), std::string::npos) << text;
    EXPECT_EQ(text.find("gpuroom could not allocate 24.0 MiB on GPU 0: "), 0u) << text;
    EXPECT_NE(text.find("CUDA_ERROR_ILLEGAL_ADDRESS (700)"), std::string::npos) << text;
    Free(before);
  }
}

TEST_F(TorchTest, ADeviceThatIsNotThereIsAnException) {
  EXPECT_NE(Refusal(512, 2).find("on GPU 2: the driver has no such device"), std::string::npos);
  EXPECT_NE(Refusal(512, -1).find("on GPU -1: the driver has no such device"), std::string::npos);
}

// ctest gives a driver that gpuroom does not serve.
TEST(OldDriverTest, PyTorchIsToldInsteadOfWorkingOnNoMemory) {
  const std::string text = Refusal(512, 0);
  EXPECT_NE(text.find("gpuroom has no part in this process"), std::string::npos) << text;
  EXPECT_NE(text.find("driver 580 or newer"), std::string::npos) << text;
}

TEST_F(TorchTest, NothingIsAllocatedForNoBytesOrNoDevice) {
  EXPECT_EQ(Library().torch_malloc(0, 0, nullptr), nullptr);
  EXPECT_EQ(Library().torch_malloc(-1, 0, nullptr), nullptr);
  EXPECT_EQ(Library().segment_malloc(0, 0, nullptr), nullptr);
  EXPECT_EQ(Library().segment_malloc(512, 2, nullptr), nullptr);
  Library().torch_free(nullptr, 0, 0, nullptr);
  Library().segment_free(nullptr, 0, 0, nullptr);
}

TEST_F(TorchTest, TheBaseOfAnAddressIsItsSegment) {
  const CUdeviceptr p = Alloc(4096);
  size_t bytes = 0;
  void* base = Library().torch_base_alloc(Pointer(p + 100), &bytes);
  ASSERT_NE(base, nullptr);
  EXPECT_LE(reinterpret_cast<CUdeviceptr>(base), p);
  EXPECT_GE(reinterpret_cast<CUdeviceptr>(base) + bytes, p + 4096);
  EXPECT_EQ(Library().torch_base_alloc(Pointer(p ^ (uint64_t{1} << 40)), &bytes), nullptr);
  Free(p);
}

// PyTorch frees from whatever thread drops the last reference; another device may be current there.
TEST_F(TorchTest, FreeingAndAllocatingWorkWhateverDeviceIsCurrent) {
  CUstream stream = nullptr;
  ASSERT_CU(Cu().StreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  const CUdeviceptr p = Alloc(2 * kMiB, stream);
  Library().torch_record_stream(Pointer(p), nullptr);
  std::thread([&] {
    UseDevice(1);
    Free(p, stream);
    const CUdeviceptr large = Alloc(24 * kMiB, stream);
    EXPECT_NE(large, 0u);
    Free(large, stream);
  }).join();
  std::thread([&] {  // and with none
    const CUdeviceptr q = Alloc(3 * kMiB, stream);
    Library().torch_record_stream(Pointer(q), nullptr);
    Free(q, stream);
  })
      .join();
  UseDevice(0);
  Library().torch_reset();
  EXPECT_EQ(Stats().pool_reserved, 0u);
  EXPECT_CU(Cu().StreamDestroy(stream));
}

TEST_F(TorchTest, EachDeviceHasItsPool) {
  UseDevice(1);
  const CUdeviceptr p = Alloc(2 * kMiB, nullptr, 1);
  EXPECT_GT(Stats(1).pool_reserved, 0u);
  EXPECT_EQ(Stats(0).pool_reserved, 0u);
  Free(p, nullptr, 1);
}

TEST_F(TorchTest, ARecordedStreamIsWaitedFor) {
  CUstream other = nullptr;
  ASSERT_CU(Cu().StreamCreate(&other, CU_STREAM_NON_BLOCKING));
  const CUdeviceptr bad = Alloc(512, other);
  const CUdeviceptr p = Alloc(kMiB);
  Fill(p, kMiB, 1);
  ASSERT_CU(Cu().MemsetD8(bad, 0, 512));
  EXPECT_CU(Cu().CtxSynchronize());
  Spin(20000000, other);
  Verify(p, kMiB, 1, bad, other);
  Library().torch_record_stream(Pointer(p), other);
  Free(p);
  const CUdeviceptr q = Alloc(kMiB);
  EXPECT_NE(q, p);
  Fill(q, kMiB, 2);
  EXPECT_CU(Cu().CtxSynchronize());
  uint64_t words = 1;
  EXPECT_CU(Cu().MemcpyDtoH(&words, bad, sizeof words));
  EXPECT_EQ(words, 0u);
  Free(q);
  Free(bad, other);
  EXPECT_CU(Cu().StreamDestroy(other));
}

TEST_F(TorchTest, AFractionOfTheMemoryLimitsThePool) {
  Library().torch_memory_fraction(0.25, 0);  // of 64 MiB and 96 MiB
  EXPECT_THROW(Library().torch_malloc(48 * kMiB, 0, nullptr), std::runtime_error);
  const CUdeviceptr p = Alloc(24 * kMiB);
  Library().torch_memory_fraction(1.0, 0);
  const CUdeviceptr q = Alloc(48 * kMiB);
  Free(p);
  Free(q);
}

// As torch.cuda.graph does it: memory of the capture comes from a pool of its own and stays there
// until the graph is gone.
TEST_F(TorchTest, GraphsHaveMemoryOfTheirOwn) {
  CUstream stream = nullptr;
  ASSERT_CU(Cu().StreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  const gpuroom_mempool_id id{7, 1};
  const CUdeviceptr before = Alloc(kMiB, stream);
  Library().torch_begin_allocate_to_pool(0, id, [stream](CUstream_st* asked) { return asked == stream; });
  ASSERT_CU(Cu().StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  const CUdeviceptr inside = Alloc(kMiB, stream);
  Fill(inside, kMiB, 5, stream);
  const CUdeviceptr large = Alloc(40 * kMiB, stream);
  Fill(large, 40 * kMiB, 6, stream);
  Free(inside, stream);
  Free(before, stream);
  CUgraph graph = nullptr;
  ASSERT_CU(Cu().StreamEndCapture(stream, &graph));
  Library().torch_end_allocate_to_pool(0, id);
  Free(large, stream);

  const CUdeviceptr outside = Alloc(kMiB, stream);
  EXPECT_NE(outside, inside);
  Fill(outside, kMiB, 9, stream);
  Library().torch_reset();  // may not take what the graph writes to
  CUgraphExec exec = nullptr;
  ASSERT_CU(Cu().GraphInstantiate(&exec, graph, 0));
  for (int i = 0; i < 3; ++i) EXPECT_CU(Cu().GraphLaunch(exec, stream));
  EXPECT_CU(Cu().StreamSynchronize(stream));
  EXPECT_EQ(CountBad(inside, kMiB, 5), 0u);
  EXPECT_EQ(CountBad(large, 40 * kMiB, 6), 0u);
  EXPECT_EQ(CountBad(outside, kMiB, 9), 0u);
  EXPECT_CU(Cu().GraphExecDestroy(exec));
  EXPECT_CU(Cu().GraphDestroy(graph));
  Library().torch_release_pool(0, id);
  Free(outside, stream);
  Library().torch_reset();
  EXPECT_EQ(Stats().pool_reserved, 0u);
  EXPECT_CU(Cu().StreamDestroy(stream));
}

class SegmentTest : public CapiTest {};

TEST_F(SegmentTest, IsARangeThatSpillsOrNothing) {
  const CUdeviceptr small = Segment(2 * kMiB);
  const CUdeviceptr first = Segment(20 * kMiB);
  const CUdeviceptr second = Segment(60 * kMiB);
  ASSERT_NE(first, 0u);
  ASSERT_NE(second, 0u);
  EXPECT_EQ(Describe(first).device_bytes, 20 * kMiB);
  EXPECT_GT(Describe(second).host_bytes, 0u);
  EXPECT_EQ(Segment(128 * kMiB), 0u);
  Fill(second, 60 * kMiB, 4);
  EXPECT_EQ(CountBad(second, 60 * kMiB, 4), 0u);
  FreeSegment(first);
  FreeSegment(second);
  FreeSegment(small);
}

TEST_F(SegmentTest, FreeWaitsForTheWorkOnIt) {
  const CUdeviceptr p = Segment(20 * kMiB);
  Spin(20000000);
  Fill(p, 20 * kMiB, 4);
  FreeSegment(p);  // strict: the simulated driver tells of work on unmapped memory
}

TEST_F(SegmentTest, ManagedSegmentsAreManaged) {
  const CUdeviceptr p = reinterpret_cast<CUdeviceptr>(Library().managed_malloc(20 * kMiB, 0, nullptr));
  ASSERT_NE(p, 0u);
  unsigned managed = 0;
  EXPECT_CU(Cu().PointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, p));
  EXPECT_EQ(managed, 1u);
  EXPECT_EQ(Stats().managed_used, 20 * kMiB);
  Fill(p, 20 * kMiB, 4);
  EXPECT_EQ(CountBad(p, 20 * kMiB, 4), 0u);
  EXPECT_EQ(Library().prefetch(p, 0, GPUROOM_TIER_HOST, nullptr), GPUROOM_OK);
  EXPECT_EQ(Library().prefetch(p, 0, GPUROOM_TIER_PEER, nullptr), GPUROOM_INVALID_ARGUMENT);
  std::thread(
      [&] {  // without a context, and with one of another device: it is the default stream of p's that counts
        EXPECT_EQ(Library().prefetch(p, 0, GPUROOM_TIER_DEVICE, nullptr), GPUROOM_OK)
            << Library().last_error();
        UseDevice(1);
        const uint64_t pushed = GetSim().call_count("cuCtxPushCurrent");
        EXPECT_EQ(Library().prefetch(p, 0, GPUROOM_TIER_HOST, nullptr), GPUROOM_OK);
        EXPECT_EQ(GetSim().call_count("cuCtxPushCurrent"), pushed + 1);
      })
      .join();
  Library().managed_free(Pointer(p), 0, 0, nullptr);
  EXPECT_EQ(Library().prefetch(p, 0, GPUROOM_TIER_HOST, nullptr), GPUROOM_NOT_FOUND);
}

}  // namespace
}  // namespace gpuroom::shim_test
