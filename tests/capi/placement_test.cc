// Saying where memory is to lie, moving it, and seeing where it lies.
#include <cstring>

#include "library.h"

namespace gpuroom::shim_test {
namespace {

class PlacementTest : public CapiTest {
 protected:
  void TearDown() override {
    Library().set_thread_placement(GPUROOM_POLICY_DEFAULT, GPUROOM_BACKEND_DEFAULT, GPUROOM_HINT_NONE,
                                   nullptr);
    CapiTest::TearDown();
  }
  int Place(int policy, int backend = GPUROOM_BACKEND_DEFAULT, int hint = GPUROOM_HINT_NONE,
            const char* tag = nullptr) {
    return Library().set_thread_placement(policy, backend, hint, tag);
  }
};

TEST_F(PlacementTest, HoldsForTheThreadsNextAllocations) {
  ASSERT_EQ(Place(GPUROOM_POLICY_DEFAULT, GPUROOM_BACKEND_DEFAULT, GPUROOM_HINT_COLD), GPUROOM_OK);
  const CUdeviceptr cold = Segment(20 * kMiB);
  EXPECT_EQ(Describe(cold).host_bytes, 20 * kMiB);
  EXPECT_EQ(Describe(cold).hint, GPUROOM_HINT_COLD);
  ASSERT_EQ(Place(GPUROOM_POLICY_DEFAULT, GPUROOM_BACKEND_MANAGED), GPUROOM_OK);
  const CUdeviceptr managed = Segment(20 * kMiB);
  EXPECT_EQ(Stats().managed_used, 20 * kMiB);
  ASSERT_EQ(Place(GPUROOM_POLICY_DEFAULT), GPUROOM_OK);
  const CUdeviceptr plain = Segment(20 * kMiB);
  EXPECT_EQ(Describe(plain).device_bytes, 20 * kMiB);
  for (const CUdeviceptr p : {cold, managed, plain}) FreeSegment(p);
}

TEST_F(PlacementTest, ThePolicyIsTheThreadsOwn) {
  ASSERT_EQ(Place(GPUROOM_POLICY_CPU_FIRST), GPUROOM_OK);
  const CUdeviceptr p = Segment(40 * kMiB);  // more than what belongs in HBM at any rate
  EXPECT_EQ(Describe(p).host_bytes, 40 * kMiB);
  FreeSegment(p);
}

TEST_F(PlacementTest, WhatIsNoPlacementIsRefusedAndChangesNothing) {
  ASSERT_EQ(Place(GPUROOM_POLICY_CPU_FIRST), GPUROOM_OK);
  EXPECT_EQ(Place(3), GPUROOM_INVALID_ARGUMENT);
  EXPECT_STREQ(Library().last_error(), "policy must be a gpuroom_policy");
  EXPECT_EQ(Place(-2), GPUROOM_INVALID_ARGUMENT);
  EXPECT_EQ(Place(0, 2), GPUROOM_INVALID_ARGUMENT);
  EXPECT_STREQ(Library().last_error(), "backend must be a gpuroom_backend");
  EXPECT_EQ(Place(0, 0, 4), GPUROOM_INVALID_ARGUMENT);
  EXPECT_STREQ(Library().last_error(), "hint must be a gpuroom_hint");
  EXPECT_EQ(Place(0, 0, 0, "a,b"), GPUROOM_INVALID_ARGUMENT);
  EXPECT_EQ(Place(0, 0, 0, std::string(64, 'x').c_str()), GPUROOM_INVALID_ARGUMENT);
  const CUdeviceptr p = Segment(40 * kMiB);
  EXPECT_EQ(Describe(p).host_bytes, 40 * kMiB);
  FreeSegment(p);
}

TEST_F(PlacementTest, WhatTheReserveLosesLargeAllocationsCanHave) {
  const CUdeviceptr row[] = {Segment(24 * kMiB),
                             Segment(24 * kMiB)};  // of 64 MiB, 16 of which are the reserve
  EXPECT_EQ(Stats().device_free, 0u);
  ASSERT_EQ(Library().set_reserve(0, 4 * kMiB), GPUROOM_OK) << Library().last_error();
  EXPECT_EQ(Stats().device_free, 12 * kMiB);
  ASSERT_EQ(Library().set_reserve(0, 20 * kMiB),
            GPUROOM_OK);  // more than there is: nothing is free, nothing is lost
  EXPECT_EQ(Stats().device_free, 0u);
  EXPECT_EQ(Describe(row[0]).device_bytes + Describe(row[1]).device_bytes, 48 * kMiB);
  EXPECT_EQ(Library().set_reserve(77, 0), GPUROOM_NOT_FOUND);
  for (const CUdeviceptr p : row) FreeSegment(p);
}

TEST_F(PlacementTest, MemoryMovesWhereItIsAskedTo) {
  const CUdeviceptr p = Segment(20 * kMiB);
  Fill(p, 20 * kMiB, 8);
  ASSERT_EQ(Library().range_migrate(p, 0, GPUROOM_TIER_HOST), GPUROOM_OK) << Library().last_error();
  EXPECT_EQ(Describe(p).host_bytes, 20 * kMiB);
  EXPECT_EQ(CountBad(p, 20 * kMiB, 8), 0u);
  ASSERT_EQ(Library().prefetch(p, 0, GPUROOM_TIER_DEVICE, nullptr), GPUROOM_OK) << Library().last_error();
  EXPECT_EQ(Describe(p).device_bytes, 20 * kMiB);
  EXPECT_EQ(CountBad(p, 20 * kMiB, 8), 0u);
  FreeSegment(p);
}

// What the program launches passes no gate then, so nothing may move behind its back.
TEST_F(PlacementTest, NothingGivesWayUnlessTheHooksAreInFront) {
  ASSERT_EQ(Place(GPUROOM_POLICY_DEFAULT, GPUROOM_BACKEND_DEFAULT, GPUROOM_HINT_STREAM), GPUROOM_OK);
  const CUdeviceptr old = Segment(44 * kMiB);
  const uint64_t device_bytes = Describe(old).device_bytes;
  ASSERT_EQ(Place(GPUROOM_POLICY_DEFAULT, GPUROOM_BACKEND_DEFAULT, GPUROOM_HINT_HOT), GPUROOM_OK);
  const CUdeviceptr hot = Segment(44 * kMiB);
  if (InFront()) {
    EXPECT_EQ(Describe(hot).device_bytes, 44 * kMiB);
    EXPECT_LT(Describe(old).device_bytes, device_bytes);
  } else {
    EXPECT_LT(Describe(hot).device_bytes, 44 * kMiB);
    EXPECT_EQ(Describe(old).device_bytes, device_bytes);
  }
  FreeSegment(hot);
  FreeSegment(old);
}

TEST_F(PlacementTest, StatisticsFillAsMuchAsThereIsRoomFor) {
  gpuroom_stats stats{};
  stats.device_used = 77;
  EXPECT_EQ(Library().get_stats(0, &stats, sizeof(uint64_t)), GPUROOM_OK);
  EXPECT_EQ(stats.device_limit, kHbm);
  EXPECT_EQ(stats.device_used, 77u);
  EXPECT_EQ(Library().get_stats(9, &stats, sizeof stats), GPUROOM_NOT_FOUND);
  EXPECT_EQ(Library().get_stats(0, nullptr, sizeof stats), GPUROOM_INVALID_ARGUMENT);
  EXPECT_EQ(Library().trim(9), GPUROOM_NOT_FOUND);
}

TEST_F(PlacementTest, TheReportIsWrittenAsFarAsThereIsRoom) {
  Stats();  // so that the device is known
  char report[16384] = {};
  const size_t length = Library().report(report, sizeof report);
  EXPECT_NE(std::string(report).find("GPU 0: HBM "), std::string::npos) << report;
  EXPECT_EQ(length, std::strlen(report));
  char beginning[4] = {'x', 'x', 'x', 'x'};
  EXPECT_EQ(Library().report(beginning, 3), length);
  EXPECT_EQ(std::string(beginning, 4), std::string("gp\0x", 4));
  EXPECT_EQ(Library().report(nullptr, 0), length);
}

TEST_F(PlacementTest, StatisticsSayWhatALargeAllocationCouldHave) {
  const gpuroom_stats before = Stats();
  EXPECT_EQ(before.device_total, kHbm);
  EXPECT_LT(before.device_free, kHbm - before.device_used);  // the reserve is left out
  const CUdeviceptr segment = Segment(20 * kMiB);
  EXPECT_EQ(Stats().device_free, before.device_free - Describe(segment).device_bytes);
  FreeSegment(segment);
}

// GPUROOM_EXPECT foresees 96 MiB, and HBM has 48 for them.
class ExpectTest : public PlacementTest {};

TEST_F(ExpectTest, WhatIsForeseenGetsHbmInEqualParts) {
  std::vector<CUdeviceptr> row;
  for (int i = 0; i < 4; ++i) {
    row.push_back(Segment(24 * kMiB));
    Fill(row.back(), 24 * kMiB, i);
    EXPECT_EQ(Describe(row.back()).device_bytes, 12 * kMiB) << i;
  }
  const CUdeviceptr more = Segment(24 * kMiB);  // than was foreseen
  EXPECT_EQ(Describe(more).host_bytes, 24 * kMiB);
  FreeSegment(more);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(CountBad(row[i], 24 * kMiB, i), 0u);
  // What was freed is foreseen again.
  FreeSegment(row[1]);
  row[1] = Segment(24 * kMiB);
  EXPECT_EQ(Describe(row[1]).device_bytes, 12 * kMiB);
  for (const CUdeviceptr p : row) FreeSegment(p);
}

// GPUROOM_EXPECT foresees 256 MiB, and HBM has 48 for them.
using ExpectMuchTest = PlacementTest;

TEST_F(ExpectMuchTest, WhatComesFirstGoesToTheHost) {
  const CUdeviceptr first = Segment(16 * kMiB);
  EXPECT_EQ(Describe(first).host_bytes, 16 * kMiB);
  const CUdeviceptr second = Segment(16 * kMiB);
  EXPECT_EQ(Describe(second).device_bytes, 4 * kMiB);  // 48 of the 240 to come
  FreeSegment(second);
  FreeSegment(first);
  const CUdeviceptr large = Segment(32 * kMiB);  // more than a sixteenth
  EXPECT_EQ(Describe(large).device_bytes, 6 * kMiB);
  FreeSegment(large);
}

TEST_F(ExpectTest, SmallDataIsNotSpread) {
  ASSERT_EQ(Place(GPUROOM_POLICY_DEFAULT, GPUROOM_BACKEND_DEFAULT, GPUROOM_HINT_NONE, "small"), GPUROOM_OK);
  const CUdeviceptr p = Segment(12 * kMiB);  // a range for its tag alone
  EXPECT_EQ(Describe(p).host_bytes, 0u);
  FreeSegment(p);
}

}  // namespace
}  // namespace gpuroom::shim_test
