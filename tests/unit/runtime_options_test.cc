#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "base/env.h"
#include "base/size.h"
#include "runtime/options.h"

namespace gpuroom {
namespace {

class ShimOptions : public testing::Test {
 protected:
  static constexpr const char* kNames[] = {env::kHbmLimit,
                                           env::kHostLimit,
                                           env::kHostPart,
                                           env::kReserve,
                                           env::kRangeThreshold,
                                           env::kHostKeep,
                                           env::kReport,
                                           env::kStatsFile,
                                           env::kStatsInterval,
                                           env::kPolicy,
                                           env::kResidentBelow,
                                           env::kExpect,
                                           env::kPeers,
                                           env::kRules,
                                           env::kLinkSpeeds,
                                           env::kHostAhead,
                                           env::kBackend,
                                           env::kPrefetchBelow,
                                           env::kOversubscriptionRatio,
                                           env::kAllowOversubscription};
  void SetUp() override { Clear(); }
  void TearDown() override { Clear(); }
  static void Clear() {
    for (const char* name : kNames) unsetenv(name);
  }
  static void Set(const char* name, const char* value) { setenv(name, value, 1); }
};

TEST_F(ShimOptions, NothingSetMeansNothingToDo) {
  const Options options = ReadOptions();
  EXPECT_EQ(options.hbm_limit, Limit());
  EXPECT_EQ(options.host_limit, 0u);
  EXPECT_EQ(options.ReserveOf(8 * kGiB), 512 * kMiB);
  EXPECT_EQ(options.range_threshold, 16 * kMiB);
  EXPECT_EQ(options.host_keep, 0u);
  EXPECT_FALSE(options.report);
  EXPECT_EQ(options.stats_file, "");
  EXPECT_EQ(options.stats_interval, 0u);
  EXPECT_EQ(options.policy, Policy::kGpuFirst);
  EXPECT_EQ(options.ResidentBelow(8 * kGiB), 2 * kGiB);
  EXPECT_EQ(options.peers.kind, PeerChoice::Kind::kNone);
  EXPECT_TRUE(options.rules.rules().empty());
  EXPECT_EQ(options.link_speeds.device, 0u);
  EXPECT_EQ(options.host_ahead, 0u);
  EXPECT_EQ(options.backend, Backend::kTiers);
  EXPECT_EQ(options.managed.prefetch_below, 2 * kGiB);
  EXPECT_EQ(options.managed.ratio, 5.0);
  EXPECT_FALSE(options.managed.allow_oversubscription);
}

TEST_F(ShimOptions, ReadsWhatTheCommandSets) {
  Set(env::kHbmLimit, "6442450944");
  Set(env::kHostLimit, "8589934592");
  Set(env::kReserve, "1048576");
  Set(env::kRangeThreshold, "4194304");
  Set(env::kHostKeep, "0");
  Set(env::kReport, "1");
  Set(env::kStatsFile, "/tmp/stats");
  Set(env::kStatsInterval, "500ms");
  const Options options = ReadOptions();
  EXPECT_EQ(options.hbm_limit, (Limit{6 * kGiB, 0}));
  EXPECT_EQ(options.host_limit, 8 * kGiB);
  EXPECT_EQ(options.ReserveOf(8 * kGiB), kMiB);
  EXPECT_EQ(options.range_threshold, 4 * kMiB);
  EXPECT_EQ(options.host_keep, 0u);
  EXPECT_TRUE(options.report);
  EXPECT_EQ(options.stats_file, "/tmp/stats");
  EXPECT_EQ(options.stats_interval, 500u);
}

TEST_F(ShimOptions, DefaultsFollowTheLimits) {
  Set(env::kHbmLimit, "1073741824");
  Set(env::kHostLimit, "2147483648");
  const Options options = ReadOptions();
  EXPECT_EQ(options.ReserveOf(8 * kGiB), 32 * kMiB);
  EXPECT_EQ(options.ReserveOf(kGiB), 32 * kMiB);  // all that there is
  EXPECT_EQ(options.ReserveOf(512 * kMiB), 16 * kMiB);
  EXPECT_EQ(options.host_keep, 512 * kMiB);
}

TEST_F(ShimOptions, WhatDoesNotParseIsIgnoredWithALine) {
  Set(env::kHbmLimit, "lots");
  Set(env::kRangeThreshold, "-5");
  testing::internal::CaptureStderr();
  const Options options = ReadOptions();
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(options.hbm_limit, Limit());
  EXPECT_EQ(options.range_threshold, 16 * kMiB);
  EXPECT_NE(log.find("GPUROOM_HBM_LIMIT is 'lots'"), std::string::npos) << log;
  EXPECT_NE(log.find("GPUROOM_RANGE_THRESHOLD is '-5'"), std::string::npos) << log;
}

TEST_F(ShimOptions, AThresholdOfNothingIsOneByteAndOnlyOneTurnsTheReportOn) {
  Set(env::kRangeThreshold, "0");
  Set(env::kHbmLimit, "");
  Set(env::kReport, "yes");
  const Options options = ReadOptions();
  EXPECT_EQ(options.range_threshold, 1u);
  EXPECT_EQ(options.hbm_limit, Limit());
  EXPECT_FALSE(options.report);
}

TEST_F(ShimOptions, ReadsWhatSteersPlans) {
  Set(env::kPolicy, "balanced");
  Set(env::kResidentBelow, "1073741824");
  Set(env::kPeers, "1:21474836480,2");
  Set(env::kRules, "min=1073741824,hint=cold;tag=kv_cache,policy=cpu_first");
  Set(env::kLinkSpeeds, "device=4560000000000,peer=375000000000,host=51300000000");
  Set(env::kHostAhead, "4294967296");
  const Options options = ReadOptions();
  EXPECT_EQ(options.policy, Policy::kBalanced);
  EXPECT_EQ(options.ResidentBelow(8 * kGiB), kGiB);
  EXPECT_EQ(FormatPeerChoice(options.peers), "1:21474836480,2");
  EXPECT_EQ(options.rules.Text(), "min=1073741824,hint=cold;tag=kv_cache,policy=cpu_first");
  EXPECT_EQ(options.link_speeds.device, 4'560'000'000'000u);
  EXPECT_EQ(options.link_speeds.peer, 375'000'000'000u);
  EXPECT_EQ(options.link_speeds.host, 51'300'000'000u);
  EXPECT_EQ(options.host_ahead, 4 * kGiB);
}

TEST_F(ShimOptions, ReadsWhatConcernsManagedMemory) {
  Set(env::kBackend, "managed");
  Set(env::kPrefetchBelow, "1048576");
  Set(env::kOversubscriptionRatio, "1.5");
  Set(env::kAllowOversubscription, "1");
  const Options options = ReadOptions();
  EXPECT_EQ(options.backend, Backend::kManaged);
  EXPECT_EQ(options.managed.prefetch_below, kMiB);
  EXPECT_EQ(options.managed.ratio, 1.5);
  EXPECT_TRUE(options.managed.allow_oversubscription);
}

TEST_F(ShimOptions, WhatIsResidentFollowsTheLimitAndTheThreshold) {
  constexpr uint64_t kTotal = 128 * kGiB;
  Set(env::kHbmLimit, "8589934592");
  EXPECT_EQ(ReadOptions().ResidentBelow(kTotal), 512 * kMiB);
  Set(env::kHbmLimit, "50%");
  EXPECT_EQ(ReadOptions().ResidentBelow(16 * kGiB), 512 * kMiB);
  Set(env::kHbmLimit, "137438953472");
  EXPECT_EQ(ReadOptions().ResidentBelow(kTotal), 2 * kGiB);
  Set(env::kHbmLimit, "67108864");  // 1/16 is 4 MiB
  EXPECT_EQ(ReadOptions().ResidentBelow(kTotal), 16 * kMiB);
  Set(env::kResidentBelow, "0");
  EXPECT_EQ(ReadOptions().ResidentBelow(kTotal), 16 * kMiB);
}

TEST_F(ShimOptions, AHbmLimitMayBeAPartOfTheGpu) {
  Set(env::kHbmLimit, "50%");
  EXPECT_EQ(ReadOptions().hbm_limit.Of(80 * kGiB), 40 * kGiB);
  EXPECT_EQ(ReadOptions().hbm_limit.Of(24 * kGiB), 12 * kGiB);
  Set(env::kHbmLimit, "120%");
  EXPECT_EQ(ReadOptions().hbm_limit, Limit());
}

TEST_F(ShimOptions, TheHostsMemoryMayBeInParts) {
  EXPECT_EQ(ReadOptions().host_part.kind, HostPart::Kind::kAuto);
  Set(env::kHostPart, "equal");
  EXPECT_EQ(ReadOptions().host_part.kind, HostPart::Kind::kEqual);
  Set(env::kHostPart, "25%");
  EXPECT_EQ(ReadOptions().host_part.Of(8 * kGiB, 1), 2 * kGiB);
  Set(env::kHostPart, "some");
  EXPECT_EQ(ReadOptions().host_part.kind, HostPart::Kind::kAuto);
}

TEST_F(ShimOptions, WhatIsForeseenIsSpreadUnlessAPolicySaysOtherwise) {
  EXPECT_EQ(ReadOptions().expect, 0u);
  Set(env::kExpect, "32212254720");
  EXPECT_EQ(ReadOptions().expect, 30 * kGiB);
  EXPECT_EQ(ReadOptions().policy, Policy::kBalanced);
  EXPECT_EQ(ReadOptions().ResidentBelow(8 * kGiB), 64 * kMiB);
  Set(env::kPolicy, "gpu_first");
  EXPECT_EQ(ReadOptions().policy, Policy::kGpuFirst);
  Set(env::kExpect, "0");
  unsetenv(env::kPolicy);
  EXPECT_EQ(ReadOptions().policy, Policy::kGpuFirst);
  EXPECT_EQ(ReadOptions().ResidentBelow(8 * kGiB), 2 * kGiB);
}

TEST_F(ShimOptions, WhatSteersPlansIsIgnoredWithALineWhereItDoesNotParse) {
  Set(env::kPolicy, "fastest");
  Set(env::kPeers, "all");
  Set(env::kRules, "hint=hot;hint=warm");
  Set(env::kLinkSpeeds, "quick");
  Set(env::kBackend, "uvm");
  Set(env::kOversubscriptionRatio, "0");
  testing::internal::CaptureStderr();
  const Options options = ReadOptions();
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(options.policy, Policy::kGpuFirst);
  EXPECT_EQ(options.peers.kind, PeerChoice::Kind::kNone);
  EXPECT_TRUE(options.rules.rules().empty());
  EXPECT_EQ(options.link_speeds.device, 0u);
  EXPECT_EQ(options.backend, Backend::kTiers);
  EXPECT_EQ(options.managed.ratio, 5.0);
  EXPECT_NE(log.find("GPUROOM_BACKEND is 'uvm': not a backend; take tiers or managed"), std::string::npos)
      << log;
  EXPECT_NE(log.find("GPUROOM_OVERSUBSCRIPTION_RATIO is '0': not a ratio"), std::string::npos) << log;
  EXPECT_NE(log.find("GPUROOM_POLICY is 'fastest': not a policy"), std::string::npos) << log;
  EXPECT_NE(log.find("GPUROOM_PEERS is 'all': not a list of GPUs"), std::string::npos) << log;
  EXPECT_NE(log.find("GPUROOM_RULES: rule 2, 'hint=warm': not a hint"), std::string::npos) << log;
  EXPECT_NE(log.find("GPUROOM_LINK_SPEEDS is 'quick': not link speeds"), std::string::npos) << log;
}

TEST_F(ShimOptions, AnEmptyVariableIsIgnoredWithALine) {
  for (const char* name :
       {env::kHbmLimit, env::kHostLimit, env::kReserve, env::kRangeThreshold, env::kHostKeep, env::kPolicy,
        env::kResidentBelow, env::kExpect, env::kPeers, env::kRules, env::kLinkSpeeds, env::kHostAhead,
        env::kBackend, env::kPrefetchBelow, env::kOversubscriptionRatio}) {
    Set(name, "");
    testing::internal::CaptureStderr();
    EXPECT_EQ(ReadOptions().hbm_limit, Limit());
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_NE(log.find(std::string(name) + " is '': empty; it is ignored\n"), std::string::npos) << log;
    unsetenv(name);
  }
}

TEST_F(ShimOptions, ALongValueLeavesRoomForTheReason) {
  Set(env::kPolicy, std::string(100'000, 'x').c_str());
  testing::internal::CaptureStderr();
  (void)ReadOptions();
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("xx': not a policy; take gpu_first, balanced or cpu_first; it is ignored\n"),
            std::string::npos)
      << log;
}

// However long the rule is, the line says what became of the rules.
TEST_F(ShimOptions, RulesThatAreDroppedAreOneLine) {
  Set(env::kRules, ("hint=hot;hint=" + std::string(100'000, 'x')).c_str());
  testing::internal::CaptureStderr();
  const Options options = ReadOptions();
  EXPECT_TRUE(options.rules.rules().empty());
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
  EXPECT_NE(log.find("GPUROOM_RULES: rule 2, 'hint=xx"), std::string::npos) << log;
  EXPECT_NE(log.find("not a hint; take hot, cold, stream or none; all rules are ignored"), std::string::npos)
      << log;
}

}  // namespace
}  // namespace gpuroom
