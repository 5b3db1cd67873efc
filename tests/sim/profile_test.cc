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
  for (const char* text : {"h100x", "80", "1GiB,host", "1GiB,peer=wire", "1GiB,x=1", "1GiB,coherent=no",
                           "1GiB,integrated=1", "1GiB,host=", "x1GiB", ","}) {
    Profile profile;
    std::string error;
    EXPECT_FALSE(ParseProfile(text, &profile, &error)) << text;
    EXPECT_NE(error.find("GPUROOM_SIM"), std::string::npos);
  }
}

TEST(ProfileTest, RefusesNumbersThatNoMachineHas) {
  for (const char* text : {"1GiB,nodes=0",
                           "1GiB,nodes=-3",
                           "1GiB,nodes=17",
                           "1GiB,nodes=99999999999",
                           "17x1GiB",
                           "-1x1GiB",
                           "99999999999x1GiB",
                           "-1GiB",
                           "0",
                           "0GiB",
                           "nan",
                           "inf",
                           "1e30",
                           "1e30TiB",
                           "2097152TiB",
                           "1025TiB",
                           "16x8000000TiB",
                           "1GiB,host=-1GiB",
                           "1GiB,host=nan",
                           "1GiB,host=inf",
                           "1GiB,host=1e30",
                           "1GiB,host=1025TiB",
                           "1GiB,driver=-1",
                           "1GiB,driver=1000000",
                           "1GiB,driver=2147483648"}) {
    Profile profile;
    std::string error;
    EXPECT_FALSE(ParseProfile(text, &profile, &error)) << text;
    EXPECT_NE(error.find("GPUROOM_SIM"), std::string::npos);
  }
}

TEST(ProfileTest, TakesTheLargestMachine) {
  const Profile profile = Parse("16x1024TiB,host=1024TiB,nodes=16");
  EXPECT_EQ(profile.hbm, 1024 * 1024 * kGiB);
  EXPECT_EQ(profile.NodeCapacity(15), 64 * 1024 * kGiB);
}

// The simulated driver goes on without devices then, and must not go on with half of the text.
TEST(ProfileTest, ARefusedProfileLeavesTheOutputAlone) {
  Profile profile = Parse("2x1GiB,nodes=2");
  std::string error;
  EXPECT_FALSE(ParseProfile("4x2GiB,host=8GiB,nodes=-3", &profile, &error));
  EXPECT_EQ(profile.devices, 2);
  EXPECT_EQ(profile.nodes, 2);
  EXPECT_EQ(profile.hbm, kGiB);
}

}  // namespace
}  // namespace gpuroom::sim
