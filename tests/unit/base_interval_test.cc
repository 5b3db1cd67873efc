// Spans of time as people write them.
#include <gtest/gtest.h>

#include <string>

#include "base/interval.h"

namespace gpuroom {
namespace {

TEST(IntervalTest, ReadsAWholeNumberAndAUnit) {
  EXPECT_EQ(*ParseInterval("10ms"), 10u);
  EXPECT_EQ(*ParseInterval("10s"), 10'000u);
  EXPECT_EQ(*ParseInterval("2m"), 120'000u);
  EXPECT_EQ(*ParseInterval("24h"), kLongestInterval);
}

TEST(IntervalTest, RefusesAnythingElseInWords) {
  for (const char* text : {"", "s", "10", "-1s", "1.5s", "10 s", "10S", "10sec", "10s ", " 10s", "0x10s"}) {
    const Result<uint64_t> interval = ParseInterval(text);
    ASSERT_FALSE(interval.ok()) << text;
    EXPECT_NE(std::string(interval.status().what()).find("not a span of time"), std::string::npos) << text;
  }
  for (const char* text : {"25h", "86401s", "18446744073709551615h", "99999999999999999999999s"})
    EXPECT_NE(std::string(ParseInterval(text).status().what()).find("too long"), std::string::npos) << text;
}

TEST(IntervalTest, APeriodIsTenMillisecondsAtLeast) {
  for (const char* text : {"0s", "9ms", "0h"}) {
    EXPECT_TRUE(ParseInterval(text).ok()) << text;
    EXPECT_NE(std::string(ParsePeriod(text).status().what()).find("too short"), std::string::npos) << text;
  }
  EXPECT_EQ(*ParsePeriod("10ms"), kShortestPeriod);
}

}  // namespace
}  // namespace gpuroom
