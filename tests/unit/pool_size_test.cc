#include <gtest/gtest.h>

#include "pool/size_class.h"

namespace gpuroom {
namespace {

TEST(PoolSizeTest, EveryClassHoldsItsRequestsAndNoMore) {
  uint64_t before = 0;
  for (int i = 0; i < kClasses; ++i) {
    const uint64_t most = ClassBytes(i);
    EXPECT_EQ(ClassOf(before + 1), i);
    EXPECT_EQ(ClassOf(most), i);
    EXPECT_GT(most, before);
    EXPECT_EQ(most % (most <= kSmallMost ? kUnitBytes : kLargeUnit), 0U) << most;
    before = most;
  }
  EXPECT_EQ(before, kClassMost);
}

TEST(PoolSizeTest, AtMostAnEighthIsWasted) {
  for (uint64_t bytes = 1; bytes < 64 * kMiB; bytes += 1 + bytes / 777) {
    const uint64_t rounded = RoundedBytes(bytes);
    ASSERT_GE(rounded, bytes);
    ASSERT_EQ(RoundedBytes(rounded), rounded) << bytes;
    ASSERT_LE(rounded - bytes, std::max<uint64_t>(bytes / 8, kUnitBytes - 1)) << bytes;
  }
  for (uint64_t bytes : {16 * kMiB + 1, kGiB + 1, 100 * kGiB - 1, kRequestMost}) {
    EXPECT_LE(RoundedBytes(bytes) - bytes, bytes / 8);
  }
}

TEST(PoolSizeTest, SegmentsAreAsPyTorchHasThem) {
  EXPECT_EQ(SegmentBytes(RoundedBytes(1)), 2 * kMiB);
  EXPECT_EQ(SegmentBytes(RoundedBytes(kMiB)), 2 * kMiB);
  EXPECT_EQ(SegmentBytes(RoundedBytes(kMiB + 1)), 20 * kMiB);
  EXPECT_EQ(SegmentBytes(RoundedBytes(9 * kMiB)), 20 * kMiB);
  EXPECT_EQ(SegmentBytes(RoundedBytes(10 * kMiB)), 10 * kMiB);
  EXPECT_EQ(SegmentBytes(RoundedBytes(11 * kMiB)), 12 * kMiB);
  EXPECT_EQ(SegmentBytes(RoundedBytes(kGiB + 1)), kGiB + 2 * kMiB);
}

}  // namespace
}  // namespace gpuroom
