// What is counted of a process: times by bucket, and refusals by reason.
#include <gtest/gtest.h>

#include <numeric>

#include "runtime/activity.h"

namespace gpuroom {
namespace {

TEST(ActivityTest, ATimeIsInTheFirstBucketThatHoldsIt) {
  for (size_t i = 0; i < TimeCounts::kBounds.size(); ++i) {
    TimeHistogram times;
    times.Add(TimeCounts::kBounds[i]);
    times.Add(TimeCounts::kBounds[i] + 1);
    const TimeCounts now = times.Read();
    EXPECT_EQ(now.counts[i], 1u);
    EXPECT_EQ(now.counts[i + 1], 1u);
    EXPECT_EQ(now.nanoseconds, 2 * TimeCounts::kBounds[i] + 1);
  }
}

TEST(ActivityTest, EveryTimeIsCountedOnce) {
  TimeHistogram times;
  for (const uint64_t time : {uint64_t{0}, uint64_t{1}, uint64_t{123456789}, uint64_t{1} << 60})
    times.Add(time);
  const TimeCounts now = times.Read();
  EXPECT_EQ(std::accumulate(now.counts.begin(), now.counts.end(), uint64_t{0}), 4u);
}

TEST(ActivityTest, RefusalsAreCountedByReasonAndTheLastIsKnown) {
  Refusals refusals;
  Refusals::Counts counts;
  Refusal last;
  refusals.Read(&counts, &last);
  EXPECT_EQ(last.code, Code::kOk);
  refusals.Note(Status(Code::kOutOfMemory, "no room"), 0, 1);
  refusals.Note(Status(Code::kBusy, "a capture"), 2, 3);
  refusals.Note(Status(Code::kOutOfMemory, "still none"), 4, 5);
  refusals.Read(&counts, &last);
  EXPECT_EQ(counts[static_cast<size_t>(Code::kOutOfMemory)], 2u);
  EXPECT_EQ(counts[static_cast<size_t>(Code::kBusy)], 1u);
  EXPECT_STREQ(last.text, "still none");
  EXPECT_EQ(last.device, 4);
  EXPECT_EQ(last.bytes, 5u);
}

}  // namespace
}  // namespace gpuroom
