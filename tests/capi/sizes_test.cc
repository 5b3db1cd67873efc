// Programs that were compiled with an older header, whose structures are smaller, or with a newer one.
#include <cstddef>
#include <cstring>
#include <vector>

#include "library.h"

namespace gpuroom::shim_test {
namespace {

// A structure as a later header has it, with a member that this library does not know.
template <typename T>
struct Newer {
  T known;
  uint64_t unknown = 77;
};

class SizesTest : public CapiTest {
 protected:
  void SetUp() override {
    CapiTest::SetUp();
    segment_ = Segment(kThreshold);
  }
  void TearDown() override {
    FreeSegment(segment_);
    CapiTest::TearDown();
  }
  // Puts everything to sleep.
  static int Sleep(const gpuroom_sleep_request& request, size_t bytes) {
    return Library().sleep(&request, bytes, nullptr, 0);
  }
  static constexpr gpuroom_sleep_request kEverything = {nullptr, 0, nullptr, GPUROOM_HOLD_NONE, 0};

  CUdeviceptr segment_ = 0;
};

TEST_F(SizesTest, AnOlderPlacementIsFilledAsFarAsItGoes) {
  gpuroom_placement placement{};
  placement.host_bytes = 77;
  ASSERT_EQ(Library().describe(segment_, &placement, offsetof(gpuroom_placement, host_bytes)), 0);
  EXPECT_EQ(placement.address, segment_);
  EXPECT_EQ(placement.host_bytes, 77u);
}

TEST_F(SizesTest, WhatTheLibraryDoesNotKnowOfAnAnswerIsZero) {
  Newer<gpuroom_placement> placement;
  ASSERT_EQ(Library().describe(segment_, &placement.known, sizeof placement), 0);
  EXPECT_EQ(placement.known.bytes, kThreshold);
  EXPECT_EQ(placement.unknown, 0u);
  Newer<gpuroom_stats> stats;
  ASSERT_EQ(Library().get_stats(0, &stats.known, sizeof stats), GPUROOM_OK);
  EXPECT_EQ(stats.known.device_limit, kHbm);
  EXPECT_EQ(stats.unknown, 0u);
  Newer<gpuroom_sleep_report> report;
  ASSERT_EQ(Library().wake(nullptr, 0, 0, &report.known, sizeof report), GPUROOM_OK);
  EXPECT_EQ(report.unknown, 0u);
}

TEST_F(SizesTest, StatesLieAsFarApartAsTheProgramSays) {
  std::vector<Newer<gpuroom_tag_state>> newer(4);
  size_t count = 0;
  ASSERT_EQ(Library().sleep_states(&newer[0].known, newer.size(), &count, sizeof newer[0]), GPUROOM_OK);
  ASSERT_EQ(count, 1u);
  EXPECT_STREQ(newer[0].known.tag, "");
  EXPECT_GE(newer[0].known.awake, kThreshold);
  EXPECT_EQ(newer[0].unknown, 0u);
  EXPECT_EQ(newer[1].unknown, 77u);
  gpuroom_tag_state older{};
  older.kept = 77;
  ASSERT_EQ(Library().sleep_states(&older, 1, &count, offsetof(gpuroom_tag_state, kept)), GPUROOM_OK);
  EXPECT_EQ(older.awake, newer[0].known.awake);
  EXPECT_EQ(older.kept, 77u);
}

TEST_F(SizesTest, MovesLieAsFarApartAsTheProgramSays) {
  const CUdeviceptr other = Segment(kThreshold);
  Newer<gpuroom_move> moves[] = {{{segment_, 0, GPUROOM_TIER_HOST, 0, 0}, 0},
                                 {{other, 0, GPUROOM_TIER_HOST, 0, 0}, 0}};
  ASSERT_EQ(Library().migrate_batch(&moves[0].known, 2, sizeof moves[0]), GPUROOM_OK)
      << Library().last_error();
  for (const CUdeviceptr p : {segment_, other}) EXPECT_EQ(Describe(p).host_bytes, kThreshold);
  for (const auto& move : moves) EXPECT_EQ(move.known.moved, kThreshold);
  FreeSegment(other);
}

TEST_F(SizesTest, AMoveThatAsksForWhatTheLibraryDoesNotKnowIsRefusedWithAllOthers) {
  Newer<gpuroom_move> moves[] = {{{segment_, 0, GPUROOM_TIER_HOST, 0, 0}, 0},
                                 {{segment_, 0, GPUROOM_TIER_HOST, 0, 0}, 1}};
  EXPECT_EQ(Library().migrate_batch(&moves[0].known, 2, sizeof moves[0]), GPUROOM_INVALID_ARGUMENT);
  EXPECT_NE(std::strstr(Library().last_error(), "too old"), nullptr) << Library().last_error();
  EXPECT_EQ(Describe(segment_).host_bytes, 0u);
  EXPECT_EQ(Library().migrate_batch(&moves[0].known, 1, offsetof(gpuroom_move, moved)),
            GPUROOM_INVALID_ARGUMENT);
  EXPECT_EQ(Library().migrate_batch(&moves[0].known, 1, sizeof(gpuroom_move) + 4), GPUROOM_INVALID_ARGUMENT);
  EXPECT_EQ(Describe(segment_).host_bytes, 0u);
}

TEST_F(SizesTest, ARequestThatAsksForWhatTheLibraryDoesNotKnowIsRefused) {
  Newer<gpuroom_sleep_request> request{kEverything, 1};
  EXPECT_EQ(Sleep(request.known, sizeof request), GPUROOM_INVALID_ARGUMENT);
  EXPECT_EQ(Sleep(kEverything, offsetof(gpuroom_sleep_request, hold)), GPUROOM_INVALID_ARGUMENT);
  EXPECT_EQ(Stats().asleep_bytes, 0u);
  request.unknown = 0;
  EXPECT_EQ(Sleep(request.known, sizeof request), GPUROOM_OK) << Library().last_error();
  EXPECT_EQ(Stats().asleep_bytes, kThreshold);
  EXPECT_EQ(Library().wake(nullptr, 0, 0, nullptr, 0), GPUROOM_OK);
}

}  // namespace
}  // namespace gpuroom::shim_test
