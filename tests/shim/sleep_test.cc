// Sleep and wake by tag: contents, the room that it makes, all or nothing.
#include <unistd.h>

#include <thread>

#include "sleep_fixture.h"

namespace gpuroom::shim_test {
namespace {

constexpr uint64_t kSize = 4 * kMiB;

TEST_F(SleepTest, KeepsContentsAndGivesTheMemoryBack) {
  const CUdeviceptr p = Alloc(20 * kMiB);
  SetTag("mapped");
  const Mapped mapped(kSize, 2);
  SetTag(nullptr);
  Fill(p, 20 * kMiB, 1);
  Fill(mapped.At(1), kSize, 2);
  const gpuroom_sleep_report slept = Sleep();
  EXPECT_EQ(slept.ranges, 2u);
  EXPECT_EQ(slept.kept, 24 * kMiB);
  EXPECT_EQ(slept.released, 24 * kMiB);
  EXPECT_EQ(slept.dropped + slept.on_disk, 0u);
  EXPECT_GT(slept.nanoseconds, 0u);
  EXPECT_EQ(GetSim().used(0), 0u);
  EXPECT_EQ(Stats().device_used, 0u);
  EXPECT_EQ(Stats().asleep_bytes, 24 * kMiB);
  // All of HBM is there for others.
  const CUdeviceptr other = AllocHot(kForRanges);
  EXPECT_EQ(PlacementOf(other).device_bytes, kForRanges);
  Fill(other, kForRanges, 3);
  EXPECT_EQ(CountBad(other, kForRanges, 3), 0u);
  Free(other);
  const gpuroom_sleep_report woke = Wake();
  EXPECT_EQ(woke.ranges, 2u);
  EXPECT_EQ(woke.kept, 24 * kMiB);
  EXPECT_EQ(Stats().asleep_bytes, 0u);
  EXPECT_EQ(Stats().device_used, 24 * kMiB);
  EXPECT_EQ(CountBad(p, 20 * kMiB, 1), 0u);
  EXPECT_EQ(CountBad(mapped.At(0), kSize, 2), 0u);
  EXPECT_EQ(CountBad(mapped.At(1), kSize, 2), 0u);
  mapped.Free();
  Free(p);
}

TEST_F(SleepTest, EveryTagGoesItsOwnWay) {
  const CUdeviceptr kept = AllocTagged("kept", kSize);
  const CUdeviceptr on_disk = AllocTagged("on_disk", 2 * kSize);
  const CUdeviceptr dropped = AllocTagged("dropped", 3 * kSize);
  const CUdeviceptr awake = AllocTagged("awake", kSize);
  Fill(kept, kSize, 1);
  Fill(on_disk, 2 * kSize, 2);
  Fill(awake, kSize, 3);
  const Tags tags = {{"kept", GPUROOM_SLEEP_KEEP},
                     {"on_disk", GPUROOM_SLEEP_DISK},
                     {"awake", GPUROOM_SLEEP_STAY},
                     {nullptr, GPUROOM_SLEEP_DROP}};
  const gpuroom_sleep_report slept = Sleep(tags, GPUROOM_HOLD_NONE, testing::TempDir().c_str());
  EXPECT_EQ(slept.kept, kSize);
  EXPECT_EQ(slept.on_disk, 2 * kSize);
  EXPECT_EQ(slept.dropped, 3 * kSize);
  EXPECT_EQ(slept.released, 6 * kSize);
  EXPECT_EQ(StateOf("kept").kept, kSize);
  EXPECT_EQ(StateOf("on_disk").on_disk, 2 * kSize);
  EXPECT_EQ(StateOf("dropped").dropped, 3 * kSize);
  EXPECT_EQ(StateOf("dropped").awake, 0u);
  EXPECT_EQ(StateOf("awake").awake_on_gpu, kSize);
  EXPECT_EQ(CountBad(awake, kSize, 3), 0u);
  const gpuroom_sleep_report woke = Wake();
  EXPECT_EQ(woke.kept, 3 * kSize);
  EXPECT_EQ(woke.dropped, 3 * kSize);
  EXPECT_EQ(CountBad(kept, kSize, 1), 0u);
  EXPECT_EQ(CountBad(on_disk, 2 * kSize, 2), 0u);
  Fill(dropped, 3 * kSize, 4);
  EXPECT_EQ(CountBad(dropped, 3 * kSize, 4), 0u);
  EXPECT_EQ(StateOf("dropped").awake_on_gpu, 3 * kSize);
  for (const CUdeviceptr p : {kept, on_disk, dropped, awake}) Free(p);
}

TEST_F(SleepTest, WakesByTagAsAsked) {
  const CUdeviceptr a = AllocTagged("a", kSize);
  const CUdeviceptr b = AllocTagged("b", kSize);
  const CUdeviceptr untagged = Alloc(kThreshold);
  for (const CUdeviceptr p : {a, b, untagged}) Fill(p, kSize, p);
  EXPECT_EQ(Sleep().ranges, 3u);
  EXPECT_EQ(Wake({"a"}).ranges, 1u);
  EXPECT_EQ(CountBad(a, kSize, a), 0u);
  EXPECT_EQ(StateOf("b").kept, kSize);
  EXPECT_EQ(Wake({"a", ""}).ranges, 1u);  // what is awake stays as it is
  EXPECT_EQ(CountBad(untagged, kSize, untagged), 0u);
  EXPECT_EQ(StateOf("b").kept, kSize);
  EXPECT_EQ(Sleep({{"a", GPUROOM_SLEEP_KEEP}}).ranges, 1u);
  EXPECT_EQ(Wake({"b", "a", "b"}).ranges, 2u);
  for (const CUdeviceptr p : {a, b, untagged}) {
    EXPECT_EQ(CountBad(p, kSize, p), 0u);
    Free(p);
  }
}

TEST_F(SleepTest, ATagMakesMemoryFromTwoMiBOnSleep) {
  const CUdeviceptr large = AllocTagged("t", 2 * kMiB);
  const CUdeviceptr small = AllocTagged("t", kMiB);
  const CUdeviceptr untagged = Alloc(2 * kMiB);
  SetTag("t");
  const Mapped mapped(2 * kMiB);
  SetTag(nullptr);
  gpuroom_placement placement{};
  EXPECT_EQ(gpuroom_describe(large, &placement, sizeof placement), 0);
  EXPECT_EQ(gpuroom_describe(small, &placement, sizeof placement), -1);
  EXPECT_EQ(gpuroom_describe(untagged, &placement, sizeof placement), -1);
  const gpuroom_sleep_report slept = Sleep();
  EXPECT_EQ(slept.ranges, 2u);
  EXPECT_EQ(slept.released, 4 * kMiB);
  EXPECT_EQ(slept.left_awake, 3 * kMiB);
  EXPECT_EQ(StateOf("t").kept, 4 * kMiB);
  EXPECT_EQ(StateOf("").awake_on_gpu, 3 * kMiB);
  EXPECT_EQ(Wake().ranges, 2u);
  mapped.Free();
  for (const CUdeviceptr p : {large, small, untagged}) Free(p);
}

TEST_F(SleepTest, TwiceIsOnce) {
  const CUdeviceptr p = AllocTagged("t", kSize);
  Fill(p, kSize, 5);
  EXPECT_EQ(Wake().ranges, 0u);
  EXPECT_EQ(Sleep().ranges, 1u);
  const gpuroom_sleep_report again = Sleep({{"t", GPUROOM_SLEEP_DROP}});
  EXPECT_EQ(again.ranges + again.kept + again.dropped + again.released, 0u);
  EXPECT_EQ(StateOf("t").kept, kSize);  // as it was
  EXPECT_EQ(Wake().ranges, 1u);
  EXPECT_EQ(Wake().ranges, 0u);
  EXPECT_EQ(CountBad(p, kSize, 5), 0u);
  Free(p);
}

TEST_F(SleepTest, WhatCannotBeIsRefusedInOneSentence) {
  EXPECT_EQ(TrySleep({{"nobody's", GPUROOM_SLEEP_KEEP}}), GPUROOM_NOT_FOUND);
  EXPECT_STREQ(gpuroom_last_error(), "no memory has had the tag 'nobody's'");
  EXPECT_EQ(TryWake({"nobody's"}), GPUROOM_NOT_FOUND);
  EXPECT_STREQ(gpuroom_last_error(), "no memory has had the tag 'nobody's'");
  EXPECT_EQ(TryWake({nullptr}), GPUROOM_INVALID_ARGUMENT);
  EXPECT_EQ(TrySleep({{"", 4}}), GPUROOM_INVALID_ARGUMENT);
  EXPECT_STREQ(gpuroom_last_error(), "action must be a gpuroom_sleep_action");
  EXPECT_EQ(TrySleep({{"", GPUROOM_SLEEP_KEEP}, {"", GPUROOM_SLEEP_DROP}}), GPUROOM_INVALID_ARGUMENT);
  EXPECT_STREQ(gpuroom_last_error(), "a tag is named twice");
  EXPECT_EQ(TrySleep({}, static_cast<gpuroom_hold>(3)), GPUROOM_INVALID_ARGUMENT);
  EXPECT_STREQ(gpuroom_last_error(), "hold must be a gpuroom_hold");
  EXPECT_EQ(TrySleep({{nullptr, GPUROOM_SLEEP_DISK}}), GPUROOM_INVALID_ARGUMENT);
  EXPECT_STREQ(gpuroom_last_error(),
               "sleeping to disk needs a directory: name one, or set GPUROOM_SLEEP_DIR");
  EXPECT_EQ(gpuroom_sleep(nullptr, 0, nullptr, 0), GPUROOM_INVALID_ARGUMENT);
  EXPECT_EQ(gpuroom_sleep_states(nullptr, 0, nullptr, sizeof(gpuroom_tag_state)), GPUROOM_INVALID_ARGUMENT);
  // A directory that is not there.
  const CUdeviceptr p = AllocTagged("t", kSize);
  Fill(p, kSize, 1);
  EXPECT_NE(TrySleep({{"t", GPUROOM_SLEEP_DISK}}, GPUROOM_HOLD_NONE, "/nonexistent/there"), GPUROOM_OK);
  EXPECT_STRNE(gpuroom_last_error(), "");
  EXPECT_EQ(CountBad(p, kSize, 1), 0u);
  Free(p);
}

TEST_F(SleepTest, TheDispensableIsDropped) {
  EXPECT_EQ(gpuroom_set_thread_dispensable(1), GPUROOM_OK);
  const CUdeviceptr scratch = AllocTagged("t", kSize);
  EXPECT_EQ(gpuroom_set_thread_dispensable(0), GPUROOM_OK);
  const CUdeviceptr data = AllocTagged("t", kSize);
  Fill(data, kSize, 8);
  const gpuroom_sleep_report slept = Sleep();
  EXPECT_EQ(slept.kept, kSize);
  EXPECT_EQ(slept.dropped, kSize);
  Wake();
  EXPECT_EQ(CountBad(data, kSize, 8), 0u);
  Free(scratch);
  Free(data);
}

TEST_F(SleepTest, GraphsCapturedBeforeReplayAfter) {
  const CUdeviceptr p = AllocTagged("t", kSize);
  const CUstream stream = NewStream();
  ASSERT_CU(Cu().StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  Fill(p, kSize, 31, stream);
  EXPECT_EQ(TrySleep(), GPUROOM_BUSY);
  EXPECT_EQ(TryWake(), GPUROOM_BUSY);
  EXPECT_STREQ(gpuroom_last_error(), "a CUDA graph is being captured");
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  ASSERT_CU(Cu().StreamEndCapture(stream, &graph));
  ASSERT_CU(Cu().GraphInstantiate(&exec, graph, 0));
  EXPECT_EQ(Sleep({{"t", GPUROOM_SLEEP_DROP}}).ranges, 1u);
  EXPECT_EQ(Wake().ranges, 1u);
  EXPECT_CU(Cu().GraphLaunch(exec, stream));
  EXPECT_CU(Cu().StreamSynchronize(stream));
  EXPECT_EQ(CountBad(p, kSize, 31), 0u);
  EXPECT_CU(Cu().GraphExecDestroy(exec));
  EXPECT_CU(Cu().GraphDestroy(graph));
  EXPECT_CU(Cu().StreamDestroy(stream));
  Free(p);
}

TEST_F(SleepTest, WorkInFlightIsWaitedFor) {
  const CUdeviceptr p = AllocTagged("t", kSize);
  const CUstream stream = NewStream();
  Spin(20000000, stream);
  Fill(p, kSize, 12, stream);
  EXPECT_EQ(Sleep().ranges, 1u);
  EXPECT_EQ(Wake().ranges, 1u);
  EXPECT_EQ(CountBad(p, kSize, 12), 0u);
  EXPECT_CU(Cu().StreamDestroy(stream));
  Free(p);
}

TEST_F(SleepTest, AWakeWithoutRoomLeavesAllAsleepAndALaterOneWorks) {
  const CUdeviceptr a = AllocTagged("a", 16 * kMiB);
  const CUdeviceptr b = AllocTagged("b", 16 * kMiB);
  Fill(a, 16 * kMiB, 1);
  Fill(b, 16 * kMiB, 2);
  Sleep();
  const CUdeviceptr hot = AllocHot(24 * kMiB);  // gives way to nothing
  EXPECT_EQ(TryWake(), GPUROOM_OUT_OF_MEMORY);
  EXPECT_STRNE(gpuroom_last_error(), "");
  EXPECT_EQ(StateOf("a").kept + StateOf("b").kept, 32 * kMiB);
  EXPECT_EQ(GetSim().used(0), 24 * kMiB);
  EXPECT_EQ(Wake({"a"}).ranges, 1u);  // less than all
  EXPECT_EQ(CountBad(a, 16 * kMiB, 1), 0u);
  Free(hot);
  EXPECT_EQ(Wake().ranges, 1u);
  EXPECT_EQ(CountBad(b, 16 * kMiB, 2), 0u);
  Free(a);
  Free(b);
}

TEST_F(SleepTest, WhatIsAwakeGivesWayToAWake) {
  const CUdeviceptr p = AllocTagged("t", 32 * kMiB);
  Fill(p, 32 * kMiB, 1);
  Sleep();
  const CUdeviceptr other = Alloc(32 * kMiB);
  Fill(other, 32 * kMiB, 2);
  EXPECT_EQ(PlacementOf(other).device_bytes, 32 * kMiB);
  EXPECT_EQ(Wake().ranges, 1u);
  EXPECT_EQ(PlacementOf(p).device_bytes, 32 * kMiB);
  EXPECT_GT(PlacementOf(other).host_bytes, 0u);
  EXPECT_EQ(CountBad(p, 32 * kMiB, 1), 0u);
  EXPECT_EQ(CountBad(other, 32 * kMiB, 2), 0u);
  Free(p);
  Free(other);
}

TEST_F(SleepTest, AThreadWithoutAContextSleepsAndWakes) {
  const CUdeviceptr p = AllocTagged("t", 32 * kMiB);
  Fill(p, 32 * kMiB, 1);
  std::thread([] { EXPECT_EQ(Sleep().ranges, 1u); }).join();
  const CUdeviceptr other = Alloc(32 * kMiB);
  std::thread([] { EXPECT_EQ(Wake().ranges, 1u); }).join();
  EXPECT_EQ(PlacementOf(p).device_bytes, 32 * kMiB);
  EXPECT_EQ(CountBad(p, 32 * kMiB, 1), 0u);
  Free(p);
  Free(other);
}

TEST_F(SleepTest, FreedMemoryThatTheGpuIsDoneWithMakesRoomForAWake) {
  const CUdeviceptr p = AllocTagged("t", 32 * kMiB);
  Sleep();
  const CUstream stream = NewStream();
  const CUdeviceptr other = AllocHot(32 * kMiB);
  EXPECT_CU(Cu().MemFreeAsync(other, stream));
  EXPECT_EQ(Wake().ranges, 1u);
  EXPECT_CU(Cu().StreamDestroy(stream));
  Free(p);
}

// ctest sets host memory that is kept for reuse, which carries backups as chunks.
class LazyWakeTest : public SleepTest {
 protected:
  void SetUp() override {
    SleepTest::SetUp();
    Free(AllocOnHost(kBytes));
    before_ = MemInfo();
  }
  void TearDown() override {
    EXPECT_EQ(gpuroom_trim(0), GPUROOM_OK);
    SleepTest::TearDown();
  }
  static void AwaitReturn(CUdeviceptr p) {
    for (int i = 0; i < 60000 && PlacementOf(p).host_bytes > 0; ++i) usleep(1000);
    EXPECT_EQ(PlacementOf(p).host_bytes, 0u);
  }
  static constexpr uint64_t kBytes = 16 * kMiB;
};

TEST_F(LazyWakeTest, ContentsAreThereAtOnceAndMoveBack) {
  const CUdeviceptr p = AllocTagged("t", kBytes);
  Fill(p, kBytes, 4);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(Sleep({}, GPUROOM_HOLD_WAIT).kept, kBytes);
    const gpuroom_sleep_report woke = Wake({}, true);
    EXPECT_EQ(woke.kept, kBytes);
    EXPECT_EQ(woke.released, kBytes);  // not on the GPU yet
    for (uint64_t at = 0; at < kBytes; at += kBytes / 8) EXPECT_EQ(CountBad(p + at, 4096, 4 + at / 8), 0u);
    AwaitReturn(p);
    EXPECT_EQ(CountBad(p, kBytes, 4), 0u);
  }
  Free(p);
}

TEST_F(LazyWakeTest, WorkGoesOnWhileItMoves) {
  const CUdeviceptr p = AllocTagged("t", kBytes);
  for (uint64_t round = 0; round < 4; ++round) {
    Fill(p, kBytes, round);
    Sleep();
    Wake({}, true);
    Fill(p + kMiB, kMiB, 100 + round);
    EXPECT_EQ(CountBad(p, kMiB, round), 0u);
    EXPECT_EQ(CountBad(p + kMiB, kMiB, 100 + round), 0u);
  }
  AwaitReturn(p);
  Free(p);
}

TEST_F(LazyWakeTest, TheReturnWaitsForACapture) {
  const CUdeviceptr p = AllocTagged("t", kBytes);
  const CUstream stream = NewStream();
  Sleep();
  Wake({}, true);
  ASSERT_CU(Cu().StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  Fill(p, kBytes, 3, stream);
  usleep(30000);
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  EXPECT_CU(Cu().StreamEndCapture(stream, &graph));
  AwaitReturn(p);
  EXPECT_CU(Cu().GraphInstantiate(&exec, graph, 0));
  EXPECT_CU(Cu().GraphLaunch(exec, stream));
  EXPECT_CU(Cu().StreamSynchronize(stream));
  EXPECT_EQ(CountBad(p, kBytes, 3), 0u);
  EXPECT_CU(Cu().GraphExecDestroy(exec));
  EXPECT_CU(Cu().GraphDestroy(graph));
  EXPECT_CU(Cu().StreamDestroy(stream));
  Free(p);
}

TEST_F(LazyWakeTest, MemoryMayBeFreedAndSleepAgainWhileItMoves) {
  for (int round = 0; round < 4; ++round) {
    const CUdeviceptr p = AllocTagged("t", kBytes / 2);
    const CUdeviceptr q = AllocTagged("t", kBytes / 2);
    Fill(q, kBytes / 2, 6);
    Sleep();
    Wake({}, true);
    Free(p);
    Sleep();
    EXPECT_EQ(Wake().ranges, 1u);
    EXPECT_EQ(CountBad(q, kBytes / 2, 6), 0u);
    Free(q);
  }
}

TEST_F(LazyWakeTest, MappedMemoryThatReturnsInPiecesIsOneAllocation) {
  const CUdeviceptr first = AllocOnHost(kBytes);  // beside what SetUp left
  Free(first);
  SetTag("t");
  const Mapped mapped(2 * kBytes);
  SetTag(nullptr);
  Fill(mapped.va, mapped.bytes, 4);
  EXPECT_EQ(Sleep().kept, mapped.bytes);
  EXPECT_EQ(Wake({}, true).kept, mapped.bytes);
  AwaitReturn(mapped.va);
  unsigned long long first_id = 0;
  unsigned long long id = 0;
  EXPECT_CU(Cu().PointerGetAttribute(&first_id, CU_POINTER_ATTRIBUTE_BUFFER_ID, mapped.va));
  for (const uint64_t at : {uint64_t{0}, mapped.bytes / 2, mapped.bytes - 4096}) {
    EXPECT_CU(Cu().PointerGetAttribute(&id, CU_POINTER_ATTRIBUTE_BUFFER_ID, mapped.va + at));
    EXPECT_EQ(id, first_id);
    CUdeviceptr base = 0;
    size_t size = 0;
    EXPECT_CU(Cu().MemGetAddressRange(&base, &size, mapped.va + at));
    EXPECT_EQ(base, mapped.va);
    EXPECT_EQ(size, mapped.bytes);
    EXPECT_CU(Cu().PointerGetAttribute(&size, CU_POINTER_ATTRIBUTE_RANGE_SIZE, mapped.va + at));
    EXPECT_EQ(size, mapped.bytes);
  }
  EXPECT_EQ(CountBad(mapped.va, mapped.bytes, 4), 0u);
  mapped.Free();
}

// ctest gives two devices, which reach each other.
class SleepPeerTest : public SleepTest {};

TEST_F(SleepPeerTest, PeersAllowedWhileItSleepsReachItAfterTheWake) {
  const CUcontext first = UseDevice(0);
  const CUdeviceptr p = AllocTagged("t", kSize);
  Fill(p, kSize, 4);
  UseDevice(1);
  const CUdeviceptr q = AllocTagged("t", kSize);
  Fill(q, kSize, 5);
  EXPECT_EQ(Sleep().ranges, 2u);
  EXPECT_EQ(GetSim().used(0) + GetSim().used(1), 0u);
  ASSERT_CU(Cu().CtxEnablePeerAccess(first, 0));
  EXPECT_EQ(Wake().ranges, 2u);
  EXPECT_EQ(CountBad(p, kSize, 4), 0u);  // device 1's kernels
  EXPECT_EQ(CountBad(q, kSize, 5), 0u);
  EXPECT_EQ(PlacementOf(q).device_bytes, kSize);
  EXPECT_CU(Cu().CtxDisablePeerAccess(first));
  Free(q);
  UseDevice(0);
  Free(p);
}

TEST_F(SleepPeerTest, AccessGivenWhileItSleepsHoldsAfterTheWake) {
  SetTag("t");
  const Mapped mapped(kSize);
  SetTag(nullptr);
  Fill(mapped.va, kSize, 6);
  Sleep();
  const CUmemAccessDesc access = DeviceAccess(1);
  EXPECT_CU(Cu().MemSetAccess(mapped.va, kSize, &access, 1));
  Wake();
  UseDevice(1);
  EXPECT_EQ(CountBad(mapped.va, kSize, 6), 0u);
  UseDevice(0);
  EXPECT_EQ(CountBad(mapped.va, kSize, 6), 0u);
  mapped.Free();
}

}  // namespace
}  // namespace gpuroom::shim_test
