#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>
#include <thread>

#include "tier/host_ahead.h"
#include "tier/host_tier.h"
#include "tier_fake_driver.h"
#include "tier_ledger_fixture.h"

namespace gpuroom {
namespace {

constexpr uint64_t kLimit = 100 * kMiB;
constexpr uint64_t kKeep = 30 * kMiB;

// As another process may hold it.
Chunk Exported(Chunk chunk) {
  chunk.exported = true;
  return chunk;
}

// With a node ledger, and without one.
class HostTierTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) {
      path_ = testing::TempDir() + "gpuroom-host-tier-" + std::to_string(getpid());
      auto ledger = Ledger::Open(path_.c_str());
      ASSERT_TRUE(ledger.ok()) << ledger.status().what();
      ledger_ = std::move(*ledger);
    }
    share_.emplace(kLimit, kKeep, ledger_.get());
    tier_.emplace(driver_, 1, *share_);
  }
  void TearDown() override {
    if (!path_.empty()) unlink(path_.c_str());
  }
  uint64_t Claimed() { return ledger_ != nullptr ? ledger_->Own() : share_->local.used(); }

  const Driver driver_ = FakeDriver();
  std::string path_;
  std::unique_ptr<Ledger> ledger_;
  std::optional<HostShare> share_;
  std::optional<HostTier> tier_;
};

TEST_P(HostTierTest, CreatesOnItsNodeWithinTheLimit) {
  const Result<Chunk> chunk = tier_->Create(60 * kMiB);
  ASSERT_TRUE(chunk.ok());
  EXPECT_EQ(chunk->tier, Tier::kHost);
  EXPECT_EQ(Fake().last.location.type, CU_MEM_LOCATION_TYPE_HOST_NUMA);
  EXPECT_EQ(Fake().last.location.id, 1);
  EXPECT_EQ(tier_->Free(), 40 * kMiB);
  EXPECT_EQ(tier_->in_use().used(), 60 * kMiB);
  EXPECT_EQ(tier_->Create(42 * kMiB).status().code(), Code::kOutOfMemory);
  EXPECT_EQ(Fake().creates, 1);
  EXPECT_EQ(tier_->in_use().used(), 60 * kMiB);
  ASSERT_TRUE(tier_->Release(*chunk).ok());
  EXPECT_EQ(Claimed(), 0u);
  EXPECT_TRUE(Fake().live.empty());
}

TEST_P(HostTierTest, KeepsSmallEnoughChunksAndHandsThemOutAgain) {
  const Result<Chunk> chunk = tier_->Create(20 * kMiB);
  ASSERT_TRUE(chunk.ok());
  ASSERT_TRUE(tier_->Release(*chunk).ok());
  EXPECT_EQ(Claimed(), 20 * kMiB);  // kept chunks stay claimed
  EXPECT_EQ(tier_->in_use().used(), 0u);
  EXPECT_EQ(tier_->Free(), kLimit);
  const Result<Chunk> again = tier_->Create(20 * kMiB);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->handle, chunk->handle);
  EXPECT_EQ(Fake().creates, 1);
  EXPECT_TRUE(tier_->Release(*again).ok());
}

TEST_P(HostTierTest, HandsOutWhatIsKeptAndCreatesNothing) {
  Chunk chunk;
  EXPECT_FALSE(tier_->TakeKeptUpTo(100 * kMiB, &chunk));
  EXPECT_FALSE(tier_->TakeSmallestKept(&chunk));
  for (const uint64_t mib : {4, 8, 16}) ASSERT_TRUE(tier_->CreateKept(mib * kMiB));
  EXPECT_FALSE(tier_->TakeKeptUpTo(2 * kMiB, &chunk));
  ASSERT_TRUE(tier_->TakeKeptUpTo(10 * kMiB, &chunk));
  EXPECT_EQ(chunk.bytes, 8 * kMiB);
  EXPECT_EQ(tier_->in_use().used(), 8 * kMiB);
  EXPECT_EQ(tier_->kept_bytes(), 20 * kMiB);
  Chunk smallest;
  ASSERT_TRUE(tier_->TakeSmallestKept(&smallest));
  EXPECT_EQ(smallest.bytes, 4 * kMiB);
  EXPECT_EQ(tier_->in_use().used(), 12 * kMiB);
  EXPECT_EQ(Claimed(), 28 * kMiB);
  EXPECT_EQ(Fake().creates, 3);
  EXPECT_TRUE(tier_->Release(chunk).ok());
  EXPECT_TRUE(tier_->Release(smallest).ok());
}

TEST_P(HostTierTest, KeepsNoMoreThanItsShareOfChunks) {
  std::vector<Chunk> chunks;
  for (int i = 0; i < 4; ++i) chunks.push_back(*tier_->Create(20 * kMiB));
  for (const Chunk& chunk : chunks) EXPECT_TRUE(tier_->Release(chunk).ok());
  EXPECT_EQ(Fake().live.size(), 1u);
  EXPECT_EQ(Claimed(), 20 * kMiB);
}

TEST_P(HostTierTest, KeptChunksOfOtherSizesMakeRoom) {
  const Chunk kept = *tier_->Create(24 * kMiB);
  ASSERT_TRUE(tier_->Release(kept).ok());
  const Result<Chunk> large = tier_->Create(90 * kMiB);
  ASSERT_TRUE(large.ok());
  EXPECT_EQ(Claimed(), 90 * kMiB);
  EXPECT_EQ(Fake().live.size(), 1u);
  EXPECT_TRUE(tier_->Release(*large).ok());
}

TEST_P(HostTierTest, ARequestTakesNoMoreOfWhatIsKeptThanItNeeds) {
  for (const uint64_t mib : {12, 32, 52}) ASSERT_TRUE(tier_->CreateKept(mib * kMiB));
  const Result<Chunk> first = tier_->Create(20 * kMiB);  // one of 32 goes
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(tier_->kept_bytes(), 64 * kMiB);
  const Result<Chunk> second = tier_->Create(16 * kMiB);  // what that left
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(tier_->kept_bytes(), 64 * kMiB);
  const Result<Chunk> third = tier_->Create(60 * kMiB);  // no one will do
  ASSERT_TRUE(third.ok());
  EXPECT_EQ(tier_->kept_bytes(), 0u);
  for (const auto& chunk : {first, second, third}) EXPECT_TRUE(tier_->Release(Exported(*chunk)).ok());
}

TEST_P(HostTierTest, WhatIsGivenBackCountsAsFreeAllTheTime) {
  for (const uint64_t mib : {10, 20, 30}) ASSERT_TRUE(tier_->CreateKept(mib * kMiB));
  std::vector<uint64_t> free;
  Fake().in_release = [&] { free.push_back(tier_->Free()); };
  tier_->Trim();
  EXPECT_EQ(free, std::vector<uint64_t>(3, kLimit));
}

// Whoever looks meanwhile: another thread's claim is no other process's.
TEST_P(HostTierTest, ThisProcessCountsOnce) {
  constexpr uint64_t kBytes = 40 * kMiB;  // more than is kept
  std::atomic<bool> done{false};
  std::thread other([&] {
    for (int i = 0; i < 20000; ++i) {
      const Result<Chunk> chunk = tier_->Create(kBytes);
      ASSERT_TRUE(chunk.ok());
      ASSERT_TRUE(tier_->Release(*chunk).ok());
    }
    done = true;
  });
  uint64_t least = kLimit;
  while (!done) {
    share_->Refresh();
    least = std::min(least, share_->Unclaimed());
  }
  other.join();
  EXPECT_GE(least, kLimit - kBytes);
}

TEST_P(HostTierTest, WhatIsCreatedAheadCountsAsFreeAllTheTime) {
  uint64_t free = 0;
  Fake().in_create = [&] { free = tier_->Free(); };
  ASSERT_TRUE(tier_->CreateKept(30 * kMiB));
  EXPECT_EQ(free, kLimit);
  Fake().host_capacity = Fake().host_used;
  EXPECT_FALSE(tier_->CreateKept(30 * kMiB));
  EXPECT_EQ(tier_->Free(), kLimit);
}

TEST_P(HostTierTest, ARequestWaitsForWhatIsJustGivenBack) {
  ASSERT_TRUE(tier_->CreateKept(90 * kMiB));
  std::atomic<bool> got{false};
  std::thread other;
  Fake().in_release = [&] {
    other = std::thread([&] { got = tier_->Create(60 * kMiB).ok(); });
    usleep(50000);  // it may have asked by now
  };
  tier_->Trim();
  other.join();
  EXPECT_TRUE(got);
}

TEST_P(HostTierTest, ARequestWaitsForWhatIsJustCreatedAhead) {
  std::atomic<bool> got{false};
  std::thread other;
  Fake().in_create = [&] {
    Fake().in_create = nullptr;
    other = std::thread([&] { got = tier_->Create(60 * kMiB).ok(); });
    usleep(50000);
  };
  ASSERT_TRUE(tier_->CreateKept(64 * kMiB));
  other.join();
  EXPECT_TRUE(got);
}

TEST_P(HostTierTest, KeptChunksServeLargerPieces) {
  const Chunk small = *tier_->Create(4 * kMiB);
  const Chunk medium = *tier_->Create(10 * kMiB);
  ASSERT_TRUE(tier_->Release(small).ok());
  ASSERT_TRUE(tier_->Release(medium).ok());
  const Chunk first = *tier_->CreateUpTo(16 * kMiB);
  EXPECT_EQ(first.handle, medium.handle);
  const Chunk second = *tier_->CreateUpTo(6 * kMiB);
  EXPECT_EQ(second.handle, small.handle);
  EXPECT_EQ(Fake().creates, 2);
  const Chunk third = *tier_->CreateUpTo(2 * kMiB);  // nothing kept: new, whole
  EXPECT_EQ(third.bytes, 2 * kMiB);
  for (const Chunk& chunk : {first, second, third}) EXPECT_TRUE(tier_->Release(Exported(chunk)).ok());
}

TEST_P(HostTierTest, WhatAnotherProcessMayHoldIsNeverKept) {
  const Chunk shared = *tier_->Create(4 * kMiB);
  ASSERT_TRUE(tier_->Release(Exported(shared)).ok());
  EXPECT_TRUE(Fake().live.empty());
  Chunk exported = *tier_->Create(4 * kMiB);
  exported.exported = true;
  ASSERT_TRUE(tier_->Release(exported).ok());
  EXPECT_TRUE(Fake().live.empty());
}

TEST_P(HostTierTest, ChunksAreCreatedAheadAsFarAsTheLimitAllows) {
  {
    const HostAhead ahead(*tier_, 0, 200 * kMiB);
    for (int i = 0; i < 1000 && tier_->kept_bytes() == 0; ++i) usleep(10000);
    EXPECT_EQ(tier_->kept_bytes(), 64 * kMiB);  // the limit has room for one
    const Chunk chunk = *tier_->Create(64 * kMiB);
    EXPECT_TRUE(tier_->Release(Exported(chunk)).ok());
    for (int i = 0; i < 1000 && tier_->kept_bytes() == 0; ++i) usleep(10000);
    EXPECT_EQ(tier_->kept_bytes(), 64 * kMiB);  // there was room again
  }
  EXPECT_EQ(Fake().creates, 2);  // both ahead: what was asked for is what was kept
  EXPECT_EQ(Claimed(), 64 * kMiB);
  tier_->Trim();
  EXPECT_TRUE(Fake().live.empty());
}

TEST_P(HostTierTest, NothingIsCreatedAheadForWhatHoldsBackups) {
  const HostAhead ahead(*tier_, 0, 64 * kMiB);
  for (int i = 0; i < 1000 && tier_->kept_bytes() == 0; ++i) usleep(10000);
  tier_->Lend(64 * kMiB);  // before it is taken, as it ends after it came back
  Chunk chunk;
  ASSERT_TRUE(tier_->TakeKeptUpTo(64 * kMiB, &chunk));
  usleep(100000);  // it looks every 20 ms
  EXPECT_EQ(tier_->kept_bytes(), 0u);
  ASSERT_TRUE(tier_->Release(Exported(chunk)).ok());  // not to be kept
  tier_->EndLoan(64 * kMiB);
  for (int i = 0; i < 1000 && tier_->kept_bytes() == 0; ++i) usleep(10000);
  EXPECT_EQ(tier_->kept_bytes(), 64 * kMiB);
}

TEST_P(HostTierTest, TrimGivesAllKeptChunksBackAndRetriesWhatFailed) {
  const Chunk one = *tier_->Create(10 * kMiB);
  const Chunk two = *tier_->Create(12 * kMiB);
  ASSERT_TRUE(tier_->Release(one).ok());
  ASSERT_TRUE(tier_->Release(two).ok());
  Fake().fail_releases = 1;
  tier_->Trim();
  EXPECT_EQ(Fake().live.size(), 1u);
  EXPECT_EQ(tier_->Free(), kLimit);
  tier_->Trim();
  EXPECT_TRUE(Fake().live.empty());
  EXPECT_EQ(Claimed(), 0u);
}

TEST_P(HostTierTest, AReleaseThatFailsChangesNothing) {
  const Chunk chunk = *tier_->Create(50 * kMiB);
  Fake().fail_releases = 1;
  EXPECT_EQ(tier_->Release(chunk).code(), Code::kDriver);
  EXPECT_EQ(tier_->in_use().used(), 50 * kMiB);
  EXPECT_EQ(Claimed(), 50 * kMiB);
  EXPECT_TRUE(tier_->Release(chunk).ok());
  EXPECT_EQ(tier_->in_use().used(), 0u);
}

TEST_P(HostTierTest, WhatTheDriverRefusesIsNotClaimed) {
  Fake().host_capacity = 10 * kMiB;
  EXPECT_EQ(tier_->Create(20 * kMiB).status().code(), Code::kOutOfMemory);
  EXPECT_EQ(Claimed(), 0u);
  EXPECT_EQ(tier_->in_use().used(), 0u);
}

TEST_P(HostTierTest, TiersOfOneShareHaveOneLimit) {
  HostTier other(driver_, 0, *share_);
  const Chunk here = *tier_->Create(60 * kMiB);
  EXPECT_FALSE(other.Create(50 * kMiB).ok());
  const Result<Chunk> there = other.Create(40 * kMiB);
  ASSERT_TRUE(there.ok());
  EXPECT_EQ(other.Free(), 0u);
  EXPECT_TRUE(other.Release(*there).ok());
  EXPECT_TRUE(tier_->Release(here).ok());
}

TEST_P(HostTierTest, WhatOneNodeKeepsIsFreeToTheOthers) {
  HostTier other(driver_, 0, *share_);
  for (const uint64_t mib : {40, 50}) ASSERT_TRUE(tier_->CreateKept(mib * kMiB));
  EXPECT_EQ(other.Free(), kLimit);
  const Result<Chunk> there = other.Create(45 * kMiB);
  ASSERT_TRUE(there.ok());
  EXPECT_EQ(Fake().last.location.id, 0);
  EXPECT_EQ(tier_->kept_bytes(), 40 * kMiB);
  EXPECT_TRUE(other.Release(*there).ok());
}

TEST_P(HostTierTest, ANodeWithoutMemoryTakesNothingFromTheOthers) {
  HostTier other(driver_, 0, *share_);
  ASSERT_TRUE(tier_->CreateKept(40 * kMiB));
  Fake().host_capacity = Fake().host_used;
  EXPECT_EQ(other.Create(20 * kMiB).status().code(), Code::kOutOfMemory);
  EXPECT_EQ(tier_->kept_bytes(), 40 * kMiB);
}

TEST_P(HostTierTest, WhereItsNodeHasNoMoreItComesFromAnother) {
  tier_->FindPlace([] { return std::vector<int>{3, 2}; });
  const Result<Chunk> here = tier_->Create(20 * kMiB);
  ASSERT_TRUE(here.ok());
  Fake().refuse = [](const CUmemAllocationProp& prop) {
    return prop.location.id == 2 ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
  };
  const Result<Chunk> elsewhere = tier_->Create(30 * kMiB);
  ASSERT_TRUE(elsewhere.ok());
  EXPECT_EQ(here->place, 1);
  EXPECT_EQ(elsewhere->place, 2);
  EXPECT_EQ(tier_->in_use().used(), 50 * kMiB);
  EXPECT_EQ(tier_->Free(), 50 * kMiB);
  // The limit is the same on all nodes.
  EXPECT_EQ(tier_->Create(52 * kMiB).status().code(), Code::kOutOfMemory);
  EXPECT_EQ(Claimed(), 50 * kMiB);
  Fake().refuse = [](const CUmemAllocationProp&) { return CUDA_ERROR_OUT_OF_MEMORY; };
  EXPECT_EQ(tier_->Create(30 * kMiB).status().code(), Code::kOutOfMemory);
  EXPECT_EQ(Claimed(), 50 * kMiB);
  ASSERT_TRUE(tier_->Release(*elsewhere).ok());
  ASSERT_TRUE(tier_->Release(*here).ok());
}

// GPUs that have parts of the node's limit. Each ledger stands for a process.
class HostPartTest : public LedgerTest {
 protected:
  const Driver driver_ = FakeDriver();
};

TEST_F(HostPartTest, APartIsPromisedWholeAndIsNobodyElses) {
  auto own = OpenLedger();
  auto other = OpenLedger();
  HostShare share(40 * kMiB, 0, own.get(), kLimit);
  HostTier tier(driver_, 0, share);
  EXPECT_EQ(tier.Free(), 40 * kMiB);
  EXPECT_EQ(other->Others(), 0u);  // of a GPU that is only looked at
  tier.Promise();
  tier.Promise();
  EXPECT_EQ(other->Others(), 40 * kMiB);
  EXPECT_EQ(other->Claim(62 * kMiB, kLimit).code(), Code::kOutOfMemory);
  ASSERT_TRUE(other->Claim(60 * kMiB, kLimit).ok());
  EXPECT_EQ(tier.Free(), 40 * kMiB);
  const Result<Chunk> chunk = tier.Create(40 * kMiB);
  ASSERT_TRUE(chunk.ok());
  EXPECT_EQ(tier.Free(), 0u);
  EXPECT_EQ(tier.Create(2 * kMiB).status().code(), Code::kOutOfMemory);
  EXPECT_EQ(other->Others(), 40 * kMiB);
  EXPECT_TRUE(tier.Release(*chunk).ok());
}

TEST_F(HostPartTest, APartIsPromisedBeforeItsFirstByte) {
  auto own = OpenLedger();
  auto other = OpenLedger();
  HostShare share(40 * kMiB, 0, own.get(), kLimit);
  HostTier tier(driver_, 0, share);
  const Result<Chunk> chunk = tier.Create(2 * kMiB);
  EXPECT_EQ(other->Others(), 40 * kMiB);
  EXPECT_TRUE(tier.Release(*chunk).ok());
}

TEST_F(HostPartTest, EachRankGetsWhatItIsTold) {
  constexpr uint64_t kPart = 24 * kMiB;
  std::vector<std::unique_ptr<Ledger>> ledgers;
  std::vector<std::unique_ptr<HostShare>> shares;
  std::vector<std::unique_ptr<HostTier>> tiers;
  for (int rank = 0; rank < 4; ++rank) {
    ledgers.push_back(OpenLedger());
    shares.push_back(std::make_unique<HostShare>(kPart, 0, ledgers.back().get(), kLimit));
    tiers.push_back(std::make_unique<HostTier>(driver_, 0, *shares.back()));
    tiers.back()->Promise();
  }
  for (const auto& tier : tiers) {
    EXPECT_EQ(tier->Free(), kPart);
    EXPECT_TRUE(tier->Create(kPart).ok());
  }
}

TEST_F(HostPartTest, WhereOthersHoldMoreThePartIsSmaller) {
  auto other = OpenLedger();
  ASSERT_TRUE(other->Claim(81 * kMiB, kLimit).ok());
  auto own = OpenLedger();
  HostShare share(40 * kMiB, 0, own.get(), kLimit);
  HostTier tier(driver_, 0, share);
  testing::internal::CaptureStderr();
  tier.Promise();
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("other processes hold 22.0 MiB already"), std::string::npos) << log;
  EXPECT_EQ(tier.Free(), 18 * kMiB);
  other->Release(81 * kMiB);
  EXPECT_EQ(tier.Free(), 18 * kMiB);
  EXPECT_TRUE(tier.Create(18 * kMiB).ok());
  EXPECT_FALSE(tier.Create(2 * kMiB).ok());
}

TEST_F(HostPartTest, WhatWasPromisedGoesWithTheShare) {
  auto own = OpenLedger();
  auto other = OpenLedger();
  {
    HostShare share(40 * kMiB, 0, own.get(), kLimit);
    share.Promise();
    EXPECT_EQ(other->Others(), 40 * kMiB);
  }
  EXPECT_EQ(other->Others(), 0u);
}

TEST_F(HostPartTest, WithoutALedgerAPartIsTheProcesssOwn) {
  HostShare share(40 * kMiB, 0, nullptr, kLimit);
  HostTier tier(driver_, 0, share);
  tier.Promise();
  EXPECT_EQ(tier.Free(), 40 * kMiB);
  EXPECT_TRUE(tier.Create(40 * kMiB).ok());
}

INSTANTIATE_TEST_SUITE_P(Sharing, HostTierTest, testing::Bool(),
                         [](const auto& test) { return test.param ? "Ledger" : "Alone"; });

}  // namespace
}  // namespace gpuroom
