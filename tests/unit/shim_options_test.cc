#include <gtest/gtest.h>

#include <cstdlib>

#include "base/env.h"
#include "base/size.h"
#include "shim/options.h"

namespace headroom::shim {
namespace {

class ShimOptions : public testing::Test {
 protected:
  static constexpr const char* kNames[] = {env::kHbmLimit,       env::kHostLimit, env::kReserve,
                                           env::kRangeThreshold, env::kHostKeep,  env::kReport,
                                           env::kStatsFile};
  void SetUp() override { Clear(); }
  void TearDown() override { Clear(); }
  static void Clear() {
    for (const char* name : kNames) unsetenv(name);
  }
  static void Set(const char* name, const char* value) { setenv(name, value, 1); }
};

TEST_F(ShimOptions, NothingSetMeansNothingToDo) {
  const Options options = ReadOptions();
  EXPECT_EQ(options.hbm_limit, Budget::kUnlimited);
  EXPECT_EQ(options.host_limit, 0u);
  EXPECT_EQ(options.reserve, 512 * kMiB);
  EXPECT_EQ(options.range_threshold, 16 * kMiB);
  EXPECT_EQ(options.host_keep, 0u);
  EXPECT_FALSE(options.report);
  EXPECT_EQ(options.stats_file, nullptr);
}

TEST_F(ShimOptions, ReadsWhatTheCommandSets) {
  Set(env::kHbmLimit, "6442450944");
  Set(env::kHostLimit, "8589934592");
  Set(env::kReserve, "1048576");
  Set(env::kRangeThreshold, "4194304");
  Set(env::kHostKeep, "0");
  Set(env::kReport, "1");
  Set(env::kStatsFile, "/tmp/stats");
  const Options options = ReadOptions();
  EXPECT_EQ(options.hbm_limit, 6 * kGiB);
  EXPECT_EQ(options.host_limit, 8 * kGiB);
  EXPECT_EQ(options.reserve, kMiB);
  EXPECT_EQ(options.range_threshold, 4 * kMiB);
  EXPECT_EQ(options.host_keep, 0u);
  EXPECT_TRUE(options.report);
  EXPECT_STREQ(options.stats_file, "/tmp/stats");
}

TEST_F(ShimOptions, DefaultsFollowTheLimits) {
  Set(env::kHbmLimit, "1073741824");
  Set(env::kHostLimit, "2147483648");
  const Options options = ReadOptions();
  EXPECT_EQ(options.reserve, 64 * kMiB);
  EXPECT_EQ(options.host_keep, 512 * kMiB);
}

TEST_F(ShimOptions, WhatDoesNotParseIsIgnoredWithALine) {
  Set(env::kHbmLimit, "lots");
  Set(env::kRangeThreshold, "-5");
  testing::internal::CaptureStderr();
  const Options options = ReadOptions();
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(options.hbm_limit, Budget::kUnlimited);
  EXPECT_EQ(options.range_threshold, 16 * kMiB);
  EXPECT_NE(log.find("HEADROOM_HBM_LIMIT is 'lots'"), std::string::npos) << log;
  EXPECT_NE(log.find("HEADROOM_RANGE_THRESHOLD is '-5'"), std::string::npos) << log;
}

TEST_F(ShimOptions, AThresholdOfNothingIsOneByteAndOnlyOneTurnsTheReportOn) {
  Set(env::kRangeThreshold, "0");
  Set(env::kHbmLimit, "");
  Set(env::kReport, "yes");
  const Options options = ReadOptions();
  EXPECT_EQ(options.range_threshold, 1u);
  EXPECT_EQ(options.hbm_limit, Budget::kUnlimited);
  EXPECT_FALSE(options.report);
}

}  // namespace
}  // namespace headroom::shim
