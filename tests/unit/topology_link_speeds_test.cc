#include <gtest/gtest.h>

#include "topology/link_speeds.h"

namespace gpuroom {
namespace {

TEST(LinkSpeeds, OneLineAndBack) {
  const LinkSpeeds speeds{4'560'000'000'000, 375'000'000'000, 51'000'000'000};
  EXPECT_EQ(FormatLinkSpeeds(speeds), "device=4560000000000,peer=375000000000,host=51000000000");
  const Result<LinkSpeeds> back = ParseLinkSpeeds(FormatLinkSpeeds(speeds));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->device, speeds.device);
  EXPECT_EQ(back->peer, speeds.peer);
  EXPECT_EQ(back->host, speeds.host);
}

TEST(LinkSpeeds, AMachineWithoutPeersLeavesThemOut) {
  EXPECT_EQ(FormatLinkSpeeds({1'000'000'000, 0, 2'000'000}), "device=1000000000,host=2000000");
  const Result<LinkSpeeds> speeds = ParseLinkSpeeds("host=2000000,device=1000000000");
  ASSERT_TRUE(speeds.ok());
  EXPECT_EQ(speeds->peer, 0u);
}

TEST(LinkSpeeds, WhatIsNoneIsRefused) {
  for (const char* text : {"", "fast", "device=1000000000", "device=1000000000,host=", "device=,host=1000000",
                           "device=1000000000,host=-5", "device=1000000000,host=1e9", "device:5,host:5",
                           "device=1000000000,host=1000000,egm=5", "device=0,host=1000000",
                           "device=1000000000,host=999999", "device=1000000000,host=1000000,peer=1",
                           "device=18446744073709551615,host=1000000", "device=1000000000,,host=1000000"}) {
    const Result<LinkSpeeds> speeds = ParseLinkSpeeds(text);
    ASSERT_FALSE(speeds.ok()) << text;
    EXPECT_EQ(speeds.status().code(), Code::kInvalidArgument);
    EXPECT_STRNE(speeds.status().what(), "");
  }
}

}  // namespace
}  // namespace gpuroom
