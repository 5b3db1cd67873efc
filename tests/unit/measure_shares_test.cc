#include <gtest/gtest.h>

#include <cmath>

#include "measure/shares.h"

namespace gpuroom::measure {
namespace {

constexpr Place kHostNode{Tier::kHost, 3};

uint64_t BytesOf(Tier tier, const Plan& plan) {
  uint64_t sum = 0;
  for (const Piece& piece : plan.pieces) sum += piece.tier == tier ? piece.bytes : 0;
  return sum;
}

TEST(SharesTest, AShareIsAWholeNumberOfGranules) {
  EXPECT_EQ(SlowBytes(4 * kGiB, 0), 0u);
  EXPECT_EQ(SlowBytes(4 * kGiB, 0.005), 10 * kGranularity);  // of 2,048
  EXPECT_EQ(SlowBytes(4 * kGiB, 0.25), kGiB);
  EXPECT_EQ(SlowBytes(4 * kGiB, 1), 4 * kGiB);
}

TEST(SharesTest, AShareIsNeverRoundedToNothingOrBeyondTheRange) {
  EXPECT_EQ(SlowBytes(2 * kGranularity, 0.005), kGranularity);
  EXPECT_EQ(SlowBytes(kGranularity, 0.5), kGranularity);
  EXPECT_EQ(SlowBytes(0, 0.5), 0u);
  for (const double share : kShares) EXPECT_LE(SlowBytes(6 * kGranularity, share), 6 * kGranularity);
}

TEST(SharesTest, TheTailLiesAtTheEndInOnePiece) {
  const Plan plan = TailPlan(10 * kGranularity, 3 * kGranularity, 1, kHostNode);
  ASSERT_EQ(plan.pieces.size(), 2u);
  EXPECT_EQ(plan.pieces[0].tier, Tier::kDevice);
  EXPECT_EQ(plan.pieces[0].place, 1);
  EXPECT_EQ(plan.pieces[0].bytes, 7 * kGranularity);
  EXPECT_EQ(plan.pieces[1].tier, Tier::kHost);
  EXPECT_EQ(plan.pieces[1].place, 3);
  EXPECT_EQ(plan.pieces[1].bytes, 3 * kGranularity);
}

TEST(SharesTest, AllInOneTierIsOnePiece) {
  for (const uint64_t slow : {uint64_t{0}, 8 * kGranularity}) {
    EXPECT_EQ(TailPlan(8 * kGranularity, slow, 0, kHostNode).pieces.size(), 1u);
    EXPECT_EQ(InterleavedPlan(8 * kGranularity, slow, 0, kHostNode).pieces.size(), 1u);
  }
}

TEST(SharesTest, HalfAndHalfAlternates) {
  const Plan plan = InterleavedPlan(8 * kGranularity, 4 * kGranularity, 0, kHostNode);
  ASSERT_EQ(plan.pieces.size(), 8u);
  for (size_t i = 1; i < plan.pieces.size(); ++i) EXPECT_NE(plan.pieces[i].tier, plan.pieces[i - 1].tier);
}

// Every share of ranges of every length: the sums are right, and at every granule
// the slow part so far is less than one granule from its share.
TEST(SharesTest, InterleavingIsEven) {
  for (uint64_t all = 1; all <= 96; ++all) {
    for (uint64_t slow = 0; slow <= all; ++slow) {
      const Plan plan = InterleavedPlan(all * kGranularity, slow * kGranularity, 0, kHostNode);
      ASSERT_EQ(BytesOf(Tier::kHost, plan), slow * kGranularity) << all;
      ASSERT_EQ(BytesOf(Tier::kDevice, plan), (all - slow) * kGranularity) << all;
      uint64_t seen = 0;
      uint64_t seen_slow = 0;
      for (const Piece& piece : plan.pieces) {
        for (uint64_t granule = 0; granule < piece.bytes / kGranularity; ++granule) {
          seen += 1;
          seen_slow += piece.tier == Tier::kHost ? 1 : 0;
          const double share = static_cast<double>(slow * seen) / static_cast<double>(all);
          ASSERT_LT(std::abs(static_cast<double>(seen_slow) - share), 1) << slow << " of " << all;
        }
      }
    }
  }
}

TEST(SharesTest, TheIdealIsTheSlowerOfTheTwoLinks) {
  EXPECT_DOUBLE_EQ(IdealSpeed(4588, 51, 0), 4588);
  EXPECT_DOUBLE_EQ(IdealSpeed(4588, 51, 1), 51);
  EXPECT_DOUBLE_EQ(IdealSpeed(4588, 51, 0.5), 102);            // the link's half takes longer
  EXPECT_DOUBLE_EQ(IdealSpeed(4588, 375, 0.05), 4588 / 0.95);  // more than the device alone
  EXPECT_DOUBLE_EQ(IdealSpeed(0, 51, 0.5), 0);
}

}  // namespace
}  // namespace gpuroom::measure
