#include <gtest/gtest.h>

#include <cstdlib>

#include "base/size.h"
#include "topology/host_part.h"

namespace gpuroom {
namespace {

class HostPartChoice : public testing::Test {
 protected:
  void SetUp() override { Clear(); }
  void TearDown() override { Clear(); }
  static void Clear() {
    for (const char* name : {"LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE"}) unsetenv(name);
  }
  static uint64_t PartOf(const char* text, int gpus) { return ParseHostPart(text)->Of(80 * kGiB, gpus); }
};

TEST_F(HostPartChoice, IsASizeOrAPartOfTheLimit) {
  EXPECT_EQ(PartOf("6GiB", 8), 6 * kGiB);
  EXPECT_EQ(PartOf("100GiB", 8), 80 * kGiB);
  EXPECT_EQ(PartOf("25%", 8), 20 * kGiB);
  EXPECT_EQ(PartOf("33%", 8) % (2 * kMiB), 0u);
}

TEST_F(HostPartChoice, EqualGoesByTheGpusThatTheProcessSees) {
  EXPECT_EQ(PartOf("equal", 8), 10 * kGiB);
  EXPECT_EQ(PartOf("equal", 3), RoundDown(80 * kGiB / 3, 2 * kMiB));
  EXPECT_EQ(PartOf("equal", 1), 0u);  // it is all of it, as without parts
  EXPECT_EQ(PartOf("equal", 0), 0u);
}

TEST_F(HostPartChoice, AutoGoesByTheRanksThatALauncherStarted) {
  EXPECT_EQ(PartOf("auto", 8), 0u);
  setenv("SLURM_NTASKS_PER_NODE", "4(x2)", 1);
  EXPECT_EQ(PartOf("auto", 8), 20 * kGiB);
  setenv("LOCAL_WORLD_SIZE", "2", 1);  // torchrun inside a Slurm job: its ranks are the ones that count
  EXPECT_EQ(PartOf("auto", 8), 40 * kGiB);
  EXPECT_EQ(PartOf("equal", 8), 10 * kGiB);
}

TEST_F(HostPartChoice, WhatIsNoNumberOfRanksIsPassedOver) {
  for (const char* text : {"", "many", "-4", "0", "99999999999999999999"}) {
    setenv("LOCAL_WORLD_SIZE", text, 1);
    EXPECT_EQ(PartOf("auto", 8), 0u) << text;
  }
}

TEST_F(HostPartChoice, IsWrittenAsItIsRead) {
  for (const char* text : {"auto", "equal", "25%", "6442450944"}) {
    EXPECT_EQ(FormatHostPart(*ParseHostPart(text)), text);
  }
}

TEST_F(HostPartChoice, RefusesWhatIsNone) {
  for (const char* text : {"", "none", "0%", "200%", "half", "-1GiB"}) {
    EXPECT_EQ(ParseHostPart(text).status().code(), Code::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace gpuroom
