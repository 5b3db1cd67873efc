#include <condition_variable>
#include <mutex>

#include "sim_test.h"

namespace gpuroom::sim {
namespace {

using StreamTest = SimTest;
using CaptureTest = SimTest;

CUstream NewStream(unsigned flags = CU_STREAM_NON_BLOCKING) {
  CUstream stream = nullptr;
  EXPECT_EQ(cuStreamCreate(&stream, flags), CUDA_SUCCESS);
  return stream;
}

TEST_F(StreamTest, UnmappingWithoutAWaitFaults) {
  const CUdeviceptr va = MixedRange(2);
  const CUstream stream = NewStream();
  // The spin keeps the fill from running before the unmap.
  ASSERT_EQ(Launch("gpuroom_spin", stream, {uint64_t{50'000'000}}), CUDA_SUCCESS);
  ASSERT_EQ(Launch("gpuroom_fill", stream, {va, 2 * kChunk / 8, 1}), CUDA_SUCCESS);
  Drop(va, 2 * kChunk);
  EXPECT_EQ(cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);  // the error stays
  EXPECT_GE(Misuses(), 1);
}

TEST_F(StreamTest, UnmappingAfterAnEventIsFine) {
  const CUdeviceptr va = MixedRange(2);
  const CUstream stream = NewStream();
  CUevent event = nullptr;
  ASSERT_EQ(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
  ASSERT_EQ(Launch("gpuroom_fill", stream, {va, 2 * kChunk / 8, 1}), CUDA_SUCCESS);
  ASSERT_EQ(cuEventRecord(event, stream), CUDA_SUCCESS);
  ASSERT_EQ(cuEventSynchronize(event), CUDA_SUCCESS);
  Drop(va, 2 * kChunk);
  EXPECT_EQ(cuStreamSynchronize(stream), CUDA_SUCCESS);
  EXPECT_EQ(Misuses(), 0);
  EXPECT_EQ(cuEventDestroy(event), CUDA_SUCCESS);
  EXPECT_EQ(cuStreamDestroy(stream), CUDA_SUCCESS);
}

// Two writers of one word; what stands between them decides who is last.
TEST_F(StreamTest, AnEventOrdersTwoStreams) {
  CUdeviceptr word = 0;
  ASSERT_EQ(cuMemAlloc(&word, 4), CUDA_SUCCESS);
  const CUstream first = NewStream();
  const CUstream second = NewStream();
  CUevent event = nullptr;
  ASSERT_EQ(cuEventCreate(&event, CU_EVENT_DEFAULT), CUDA_SUCCESS);
  for (unsigned round = 0; round < 50; ++round) {
    ASSERT_EQ(cuMemsetD32Async(word, 2 * round, 1, first), CUDA_SUCCESS);
    ASSERT_EQ(cuEventRecord(event, first), CUDA_SUCCESS);
    ASSERT_EQ(cuStreamWaitEvent(second, event, 0), CUDA_SUCCESS);
    ASSERT_EQ(cuMemsetD32Async(word, 2 * round + 1, 1, second), CUDA_SUCCESS);
    ASSERT_EQ(cuStreamSynchronize(second), CUDA_SUCCESS);
    uint32_t value = 0;
    ASSERT_EQ(cuMemcpyDtoH(&value, word, 4), CUDA_SUCCESS);
    ASSERT_EQ(value, 2 * round + 1);
  }
  EXPECT_EQ(cuEventDestroy(event), CUDA_SUCCESS);
  EXPECT_EQ(cuMemFree(word), CUDA_SUCCESS);
}

TEST_F(StreamTest, WithoutAnEventBothOrdersHappen) {
  CUdeviceptr word = 0;
  ASSERT_EQ(cuMemAlloc(&word, 4), CUDA_SUCCESS);
  const CUstream first = NewStream();
  const CUstream second = NewStream();
  bool seen[2] = {};
  for (unsigned round = 0; round < 200 && !(seen[0] && seen[1]); ++round) {
    ASSERT_EQ(cuMemsetD32Async(word, 0, 1, first), CUDA_SUCCESS);
    ASSERT_EQ(cuMemsetD32Async(word, 1, 1, second), CUDA_SUCCESS);
    ASSERT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
    uint32_t value = 0;
    ASSERT_EQ(cuMemcpyDtoH(&value, word, 4), CUDA_SUCCESS);
    seen[value] = true;
  }
  EXPECT_TRUE(seen[0] && seen[1]);
  EXPECT_EQ(cuMemFree(word), CUDA_SUCCESS);
}

TEST_F(StreamTest, TheLegacyStreamIsABarrierForBlockingStreams) {
  CUdeviceptr word = 0;
  ASSERT_EQ(cuMemAlloc(&word, 4), CUDA_SUCCESS);
  const CUstream blocking = NewStream(CU_STREAM_DEFAULT);
  for (unsigned round = 0; round < 50; ++round) {
    ASSERT_EQ(cuMemsetD32Async(word, 1, 1, blocking), CUDA_SUCCESS);
    ASSERT_EQ(cuMemsetD32Async(word, 2, 1, nullptr), CUDA_SUCCESS);
    ASSERT_EQ(cuMemsetD32Async(word, 3, 1, blocking), CUDA_SUCCESS);
    ASSERT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
    uint32_t value = 0;
    ASSERT_EQ(cuMemcpyDtoH(&value, word, 4), CUDA_SUCCESS);
    ASSERT_EQ(value, 3U);
  }
  EXPECT_EQ(cuMemFree(word), CUDA_SUCCESS);
}

TEST_F(StreamTest, AHostFunctionRunsWithoutAnyoneAsking) {
  struct Signal {
    std::mutex mutex;
    std::condition_variable changed;
    bool set = false;
    CUresult inside = CUDA_SUCCESS;
  } signal;
  const auto function = [](void* data) {
    auto* to = static_cast<Signal*>(data);
    size_t free_bytes = 0;
    size_t total = 0;
    to->inside = cuMemGetInfo(&free_bytes, &total);  // not permitted there
    const std::lock_guard<std::mutex> lock(to->mutex);
    to->set = true;
    to->changed.notify_all();
  };
  ASSERT_EQ(cuLaunchHostFunc(nullptr, function, &signal), CUDA_SUCCESS);
  std::unique_lock<std::mutex> lock(signal.mutex);
  signal.changed.wait(lock, [&] { return signal.set; });
  EXPECT_EQ(signal.inside, CUDA_ERROR_NOT_PERMITTED);
}

TEST_F(StreamTest, QueriesSayNotReadyAndThenReady) {
  const CUstream stream = NewStream();
  ASSERT_EQ(Launch("gpuroom_spin", stream, {uint64_t{1'000'000}}), CUDA_SUCCESS);
  EXPECT_EQ(cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
  CUresult result = CUDA_ERROR_NOT_READY;
  while (result == CUDA_ERROR_NOT_READY) result = cuStreamQuery(stream);
  EXPECT_EQ(result, CUDA_SUCCESS);
}

TEST_F(StreamTest, PageableSourcesAreReadAtTheCall) {
  CUdeviceptr word = 0;
  ASSERT_EQ(cuMemAlloc(&word, 4), CUDA_SUCCESS);
  const CUstream stream = NewStream();
  uint32_t value = 5;
  ASSERT_EQ(cuMemcpyHtoDAsync(word, &value, 4, stream), CUDA_SUCCESS);
  value = 6;
  uint32_t back = 0;
  ASSERT_EQ(cuMemcpyDtoHAsync(&back, word, 4, stream), CUDA_SUCCESS);
  EXPECT_EQ(back, 5U);  // and a pageable target is filled when the call returns
  EXPECT_EQ(cuMemFree(word), CUDA_SUCCESS);
}

TEST_F(StreamTest, StoredWordsAddUp) {
  CUdeviceptr words = 0;
  ASSERT_EQ(cuMemAlloc(&words, 64), CUDA_SUCCESS);
  ASSERT_EQ(cuMemsetD32(words, 0, 16), CUDA_SUCCESS);
  ASSERT_EQ(Launch("gpuroom_store", nullptr, {words + 8, 5, 7}), CUDA_SUCCESS);
  ASSERT_EQ(Launch("gpuroom_sum", nullptr, {words + 8, 7, words}), CUDA_SUCCESS);
  uint64_t sum = 0;
  ASSERT_EQ(cuMemcpyDtoH(&sum, words, 8), CUDA_SUCCESS);
  EXPECT_EQ(sum, 35U);  // five sevens, and the two words after them as they were
  EXPECT_EQ(cuMemFree(words), CUDA_SUCCESS);
}

TEST_F(CaptureTest, ACapturedGraphReplays) {
  CUdeviceptr sum = 0;
  ASSERT_EQ(cuMemAlloc(&sum, 16), CUDA_SUCCESS);
  ASSERT_EQ(cuMemsetD32(sum, 0, 4), CUDA_SUCCESS);
  ASSERT_EQ(cuMemsetD32(sum + 8, 1, 1), CUDA_SUCCESS);
  ASSERT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
  const CUstream stream = NewStream();
  ASSERT_EQ(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  ASSERT_EQ(Launch("gpuroom_sum", stream, {sum + 8, 1, sum}), CUDA_SUCCESS);
  CUgraph graph = nullptr;
  ASSERT_EQ(cuStreamEndCapture(stream, &graph), CUDA_SUCCESS);
  size_t nodes = 0;
  ASSERT_EQ(cuGraphGetNodes(graph, nullptr, &nodes), CUDA_SUCCESS);
  EXPECT_EQ(nodes, 1U);
  CUgraphExec exec = nullptr;
  ASSERT_EQ(cuGraphInstantiate(&exec, graph, 0), CUDA_SUCCESS);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(cuGraphLaunch(exec, stream), CUDA_SUCCESS);
  ASSERT_EQ(cuStreamSynchronize(stream), CUDA_SUCCESS);
  uint64_t value = 0;
  ASSERT_EQ(cuMemcpyDtoH(&value, sum, 8), CUDA_SUCCESS);
  EXPECT_EQ(value, 3U);  // three launches, and nothing at the capture
  EXPECT_EQ(cuGraphExecDestroy(exec), CUDA_SUCCESS);
  EXPECT_EQ(cuGraphDestroy(graph), CUDA_SUCCESS);
  EXPECT_EQ(cuMemFree(sum), CUDA_SUCCESS);
}

TEST_F(CaptureTest, AnUnsafeCallIsRefusedAndInvalidates) {
  const CUstream stream = NewStream();
  ASSERT_EQ(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  CUdeviceptr address = 0;
  EXPECT_EQ(cuMemAlloc(&address, kChunk), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  EXPECT_EQ(cuStreamIsCapturing(stream, &status), CUDA_SUCCESS);
  EXPECT_EQ(status, CU_STREAM_CAPTURE_STATUS_INVALIDATED);
  CUgraph graph = nullptr;
  EXPECT_EQ(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  EXPECT_EQ(graph, nullptr);
}

TEST_F(CaptureTest, AForkedStreamHasToBeJoined) {
  const CUstream origin = NewStream();
  const CUstream other = NewStream();
  CUdeviceptr word = 0;
  ASSERT_EQ(cuMemAlloc(&word, 4), CUDA_SUCCESS);
  CUevent event = nullptr;
  ASSERT_EQ(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
  for (const bool join : {false, true}) {
    ASSERT_EQ(cuStreamBeginCapture(origin, CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_SUCCESS);
    ASSERT_EQ(cuEventRecord(event, origin), CUDA_SUCCESS);
    ASSERT_EQ(cuStreamWaitEvent(other, event, 0), CUDA_SUCCESS);
    ASSERT_EQ(cuMemsetD32Async(word, 1, 1, other), CUDA_SUCCESS);
    if (join) {
      ASSERT_EQ(cuEventRecord(event, other), CUDA_SUCCESS);
      ASSERT_EQ(cuStreamWaitEvent(origin, event, 0), CUDA_SUCCESS);
    }
    CUgraph graph = nullptr;
    EXPECT_EQ(cuStreamEndCapture(origin, &graph), join ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    if (graph != nullptr) {
      EXPECT_EQ(cuGraphDestroy(graph), CUDA_SUCCESS);
    }
  }
  EXPECT_EQ(cuMemFree(word), CUDA_SUCCESS);
}

}  // namespace
}  // namespace gpuroom::sim
