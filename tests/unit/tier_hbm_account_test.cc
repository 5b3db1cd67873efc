// What the processes that share a GPU know of each other: DeviceTier and PeerTier with a ledger. Each ledger
// here stands for a process; a first look at others is never an old one, so each check makes a tier of its
// own.
#include <cstdio>

#include "tier/peer_tier.h"
#include "tier_fake_driver.h"
#include "tier_ledger_fixture.h"

namespace gpuroom {
namespace {

constexpr uint64_t kGpuBytes = 1 * kGiB;

class HbmAccountTest : public LedgerTest {
 protected:
  void SetUp() override {
    LedgerTest::SetUp();
    Fake().device_capacity = kGpuBytes;
    own_ledger_ = OpenLedger();
    other_ledger_ = OpenLedger();
  }
  DeviceTier Tier(CUdevice device = 0, uint64_t limit = Budget::kUnlimited) {
    return DeviceTier(driver_, device, limit, 0, own_ledger_.get());
  }
  // What the other process sees of this one.
  uint64_t Shown(char gpu = 1) { return other_ledger_->Others(*other_ledger_->AccountOf(NameOf(gpu))); }
  void LetOtherUse(uint64_t bytes, char gpu = 1) {
    ASSERT_TRUE(other_ledger_->Claim(bytes, UINT64_MAX, *other_ledger_->AccountOf(NameOf(gpu))).ok());
  }
  // As FakeDriver names device `gpu` - 1.
  static GpuUuid NameOf(char gpu) { return {gpu}; }

  const Driver driver_ = FakeDriver();
  std::unique_ptr<Ledger> own_ledger_;
  std::unique_ptr<Ledger> other_ledger_;
};

TEST_F(HbmAccountTest, TheLedgerShowsWhatIsUsedAndAtMostAStepMore) {
  {
    DeviceTier tier = Tier();
    EXPECT_EQ(Shown(), 0u);
    uint64_t used = 0;
    for (const uint64_t mib : {1, 40, 23, 1, 300, 63, 64, 65}) {
      ASSERT_TRUE(tier.ClaimSmall(mib * kMiB));
      used += mib * kMiB;
      EXPECT_GE(Shown(), used);
      EXPECT_LE(Shown(), used + HbmAccount::kStep);
    }
    for (const uint64_t mib : {65, 64, 63, 300, 1, 23, 40, 1}) {
      tier.ReleaseSmall(mib * kMiB);
      used -= mib * kMiB;
      EXPECT_GE(Shown(), used);
      EXPECT_LE(Shown(), used + HbmAccount::kStep);
    }
    const Result<Chunk> chunk = tier.Create(200 * kMiB);
    EXPECT_GE(Shown(), 200 * kMiB);
    ASSERT_TRUE(tier.Release(*chunk).ok());
    ASSERT_TRUE(tier.ClaimChunk(200 * kMiB));
    EXPECT_GE(Shown(), 200 * kMiB);
  }
  EXPECT_EQ(Shown(), 0u);
}

// Write calls of this process so far; 0: this machine does not count them.
uint64_t WriteCalls() {
  unsigned long long calls = 0;
  std::FILE* file = std::fopen("/proc/self/io", "r");
  const bool read =
      file != nullptr && std::fscanf(file, "rchar: %*u\nwchar: %*u\nsyscr: %*u\nsyscw: %llu", &calls) == 1;
  if (file != nullptr) std::fclose(file);
  return read ? calls : 0;
}

TEST_F(HbmAccountTest, AllocationsWithinAStepDoNotTouchTheLedger) {
  DeviceTier tier = Tier();
  ASSERT_TRUE(tier.ClaimSmall(64 * kMiB));
  ASSERT_TRUE(tier.ClaimSmall(kMiB));
  const uint64_t before = WriteCalls();
  if (before == 0) GTEST_SKIP() << "this machine does not count system calls";
  // Around the multiple of a step that was just passed, too.
  for (int i = 0; i < 100; ++i) {
    tier.ReleaseSmall(2 * kMiB);
    ASSERT_TRUE(tier.ClaimSmall(2 * kMiB));
  }
  EXPECT_EQ(WriteCalls(), before);
}

TEST_F(HbmAccountTest, WhatOthersUseIsNotFree) {
  EXPECT_EQ(Tier().FreeForChunks(), kGpuBytes);
  LetOtherUse(600 * kMiB);
  EXPECT_EQ(Tier().FreeForChunks(), kGpuBytes - 600 * kMiB);
  EXPECT_EQ(Tier(0, 300 * kMiB).FreeForChunks(), 300 * kMiB);
  EXPECT_EQ(Tier(1).FreeForChunks(), kGpuBytes);
  DeviceTier tier = Tier(0, 500 * kMiB);
  ASSERT_TRUE(tier.ClaimChunk(400 * kMiB));
  EXPECT_EQ(tier.FreeForChunks(), 24 * kMiB);
  LetOtherUse(600 * kMiB);  // together more than there is
  EXPECT_EQ(Tier().FreeForChunks(), 0u);
}

TEST_F(HbmAccountTest, TheDriverHasTheLastWord) {
  LetOtherUse(kGpuBytes);
  DeviceTier tier = Tier();
  EXPECT_EQ(tier.FreeForChunks(), 0u);
  EXPECT_TRUE(tier.Create(100 * kMiB).ok());
  EXPECT_TRUE(tier.ClaimSmall(100 * kMiB));
}

TEST_F(HbmAccountTest, WhatAKilledProcessUsedComesBack) {
  Child child([&](Child& self) {
    own_ledger_->ForgetAfterFork();
    other_ledger_->ForgetAfterFork();
    const auto ledger = OpenLedger();
    DeviceTier tier(driver_, 0, Budget::kUnlimited, 0, ledger.get());
    const bool claimed = tier.ClaimSmall(600 * kMiB);
    self.Send();
    return claimed && self.Await();
  });
  ASSERT_TRUE(child.Await());
  EXPECT_LE(Tier().FreeForChunks(), kGpuBytes - 600 * kMiB);
  child.Kill();
  EXPECT_EQ(Tier().FreeForChunks(), kGpuBytes);
}

TEST_F(HbmAccountTest, AGpuThatAnotherProcessUsesLendsNothingByItself) {
  DeviceTier idle = Tier();
  EXPECT_EQ(PeerTier(idle, 100 * kMiB, true).Free(), 100 * kMiB);
  LetOtherUse(2 * kMiB);
  DeviceTier busy = Tier();
  PeerTier automatic(busy, 100 * kMiB, true);
  EXPECT_EQ(automatic.Free(), 0u);
  EXPECT_EQ(automatic.Create(2 * kMiB).status().code(), Code::kOutOfMemory);
  PeerTier named(busy, 100 * kMiB, false);
  EXPECT_EQ(named.Free(), 100 * kMiB);
  EXPECT_TRUE(named.Create(2 * kMiB).ok());
}

// A program that computes on a GPU and has no memory there yet is seen as well.
TEST_F(HbmAccountTest, AGpuInUseIsShown) {
  DeviceTier tier = Tier();
  tier.MarkUsed();
  EXPECT_EQ(Shown(), HbmAccount::kStep);
  ASSERT_TRUE(tier.ClaimSmall(100 * kMiB));
  tier.ReleaseSmall(100 * kMiB);
  EXPECT_EQ(Shown(), HbmAccount::kStep);
}

TEST_F(HbmAccountTest, AGpuThatTheLedgerCannotCountIsTheProcesssOwn) {
  Driver nameless = driver_;
  nameless.DeviceGetUuid = [](CUuuid* uuid, CUdevice) {
    *uuid = {};
    return CUDA_SUCCESS;
  };
  DeviceTier tier(nameless, 0, 300 * kMiB, 0, own_ledger_.get());
  EXPECT_EQ(tier.FreeForChunks(), 300 * kMiB);
  EXPECT_TRUE(tier.ClaimSmall(100 * kMiB));
  EXPECT_FALSE(tier.UsedByOthers());
}

}  // namespace
}  // namespace gpuroom
