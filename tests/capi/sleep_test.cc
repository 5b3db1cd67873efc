// Sleep and wake of what the C interface gives out; also where the program only opened the library.
#include "gpuroom/sleep.h"

#include "library.h"

namespace gpuroom::shim_test {
namespace {

class SleepTest : public CapiTest {
 protected:
  void TearDown() override {
    EXPECT_EQ(Library().set_thread_hint(GPUROOM_HINT_NONE, nullptr), GPUROOM_OK);
    CapiTest::TearDown();
  }
  CUdeviceptr Tagged(const char* tag, uint64_t bytes) {
    EXPECT_EQ(Library().set_thread_hint(GPUROOM_HINT_NONE, tag), GPUROOM_OK);
    const CUdeviceptr p = Segment(bytes);
    EXPECT_EQ(Library().set_thread_hint(GPUROOM_HINT_NONE, nullptr), GPUROOM_OK);
    return p;
  }
  static int Sleep(const char* tag, gpuroom_sleep_report* report, int hold = GPUROOM_HOLD_NONE) {
    const gpuroom_tag_action action = {tag, GPUROOM_SLEEP_KEEP};
    const gpuroom_sleep_request request = {&action, 1, nullptr, hold, 1};
    return Library().sleep(&request, sizeof request, report, sizeof *report);
  }
};

TEST_F(SleepTest, SegmentsSleepAndWakeByTag) {
  const CUdeviceptr a = Tagged("a", 4 * kMiB);
  const CUdeviceptr b = Tagged("b", 4 * kMiB);
  Fill(a, 4 * kMiB, 1);
  Fill(b, 4 * kMiB, 2);
  gpuroom_sleep_report report{};
  ASSERT_EQ(Sleep("a", &report), GPUROOM_OK) << Library().last_error();
  EXPECT_EQ(report.ranges, 1u);
  EXPECT_EQ(report.released, 4 * kMiB);
  EXPECT_EQ(Stats().asleep_bytes, 4 * kMiB);
  EXPECT_EQ(Stats().device_used, 4 * kMiB);
  EXPECT_EQ(CountBad(b, 4 * kMiB, 2), 0u);
  const char* tag = "a";
  ASSERT_EQ(Library().wake(&tag, 1, 0, &report, sizeof report), GPUROOM_OK) << Library().last_error();
  EXPECT_EQ(report.kept, 4 * kMiB);
  EXPECT_EQ(CountBad(a, 4 * kMiB, 1), 0u);
  FreeSegment(a);
  FreeSegment(b);
}

TEST_F(SleepTest, PoolSegmentsSleepAndTheirTensorsAreFreedAsleep) {
  const CUdeviceptr p = Alloc(3 * kMiB);
  Fill(p, 3 * kMiB, 4);
  gpuroom_sleep_report report{};
  ASSERT_EQ(Sleep("", &report), GPUROOM_OK) << Library().last_error();
  EXPECT_EQ(report.ranges, 1u);
  ASSERT_EQ(Library().wake(nullptr, 0, 0, nullptr, 0), GPUROOM_OK) << Library().last_error();
  EXPECT_EQ(CountBad(p, 3 * kMiB, 4), 0u);
  ASSERT_EQ(Sleep("", &report), GPUROOM_OK);
  Free(p);
  Library().torch_reset();  // gives the segment back as it sleeps
  EXPECT_EQ(Stats().asleep_bytes, 0u);
  EXPECT_EQ(Stats().pool_reserved, 0u);
}

TEST_F(SleepTest, ReportsAndStatesFillAsMuchAsThereIsRoomFor) {
  const CUdeviceptr p = Tagged("a", 2 * kMiB);
  gpuroom_sleep_report report{};
  report.kept = 77;
  const gpuroom_sleep_request all = {nullptr, 0, nullptr, GPUROOM_HOLD_NONE, 0};
  ASSERT_EQ(Library().sleep(&all, sizeof all, &report, sizeof report.ranges), GPUROOM_OK)
      << Library().last_error();
  EXPECT_EQ(report.ranges, 1u);
  EXPECT_EQ(report.kept, 77u);
  size_t count = 0;
  EXPECT_EQ(Library().sleep_states(nullptr, 0, &count, sizeof(gpuroom_tag_state)), GPUROOM_OK);
  ASSERT_GE(count, 1u);
  gpuroom_tag_state state{};
  EXPECT_EQ(Library().sleep_states(&state, 1, &count, sizeof state), GPUROOM_OK);
  EXPECT_STREQ(state.tag, "a");
  EXPECT_EQ(state.kept, 2 * kMiB);
  EXPECT_EQ(state.ranges, 1u);
  FreeSegment(p);
}

// Without hooks nothing of the program's can be held back; it may still say so.
TEST_F(SleepTest, AHoldHoldsWhatPassesTheHooks) {
  const CUdeviceptr p = Tagged("a", 2 * kMiB);
  gpuroom_sleep_report report{};
  ASSERT_EQ(Sleep("a", &report, GPUROOM_HOLD_FAIL), GPUROOM_OK) << Library().last_error();
  CUdeviceptr small = 0;
  ASSERT_CU(Cu().MemAlloc(&small, 64));
  EXPECT_CU_IS(Cu().MemsetD8(small, 1, 64), InFront() ? CUDA_ERROR_ILLEGAL_STATE : CUDA_SUCCESS);
  ASSERT_EQ(Library().wake(nullptr, 0, 0, nullptr, 0), GPUROOM_OK) << Library().last_error();
  EXPECT_CU(Cu().MemsetD8(small, 1, 64));
  EXPECT_CU(Cu().MemFree(small));
  FreeSegment(p);
}

}  // namespace
}  // namespace gpuroom::shim_test
