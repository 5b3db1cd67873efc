#include "profile.h"

#include <gtest/gtest.h>

namespace gpuroom::sim {
namespace {

Profile Parse(const char* text) {
  Profile profile;
  std::string error;
  EXPECT_TRUE(ParseProfile(text, &profile, &error)) << error;
  return profile;
}

TEST(ProfileTest, ReadsASpecification) {
  const Profile profile = Parse("2x80GiB,host=256GiB,nodes=2,peer=none,driver=12040,name=A Thing,coherent");
  EXPECT_EQ(profile.devices, 2);
  EXPECT_EQ(profile.hbm, 80 * kGiB);
  EXPECT_EQ(profile.NodeCapacity(1), 128 * kGiB);
  EXPECT_EQ(profile.NodeCapacity(2), 0U);
  EXPECT_EQ(profile.peer, PeerLink::kNone);
  EXPECT_EQ(profile.driver, 12040);
  EXPECT_EQ(profile.name, "A Thing");
  EXPECT_TRUE(profile.coherent);
}

TEST(ProfileTest, KnowsNamesAndLetsOptionsChangeThem) {
  EXPECT_EQ(Parse("8xh200").devices, 8);
  EXPECT_TRUE(Parse("gh200-egm").coherent);
  EXPECT_EQ(Parse("rtx4090,host=8GiB").host, 8 * kGiB);
  EXPECT_EQ(Parse("0x1GiB").devices, 0);
}

TEST(ProfileTest, ASmallProfileCountsExactly) {
  EXPECT_EQ(Parse("1GiB").ContextOverhead(), 0U);
  EXPECT_GT(Parse("h200").ContextOverhead(), 0U);
}

TEST(ProfileTest, RefusesWhatItDoesNotUnderstand) {
  for (const char* text :
       {"h100x", "80", "1GiB,host", "1GiB,peer=wire", "1GiB,nodes=0", "17x1GiB", "1GiB,x=1", "-1GiB"}) {
    Profile profile;
    std::string error;
    EXPECT_FALSE(ParseProfile(text, &profile, &error)) << text;
    EXPECT_NE(error.find("GPUROOM_SIM"), std::string::npos);
  }
}

}  // namespace
}  // namespace gpuroom::sim
