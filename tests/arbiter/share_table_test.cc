// What the policy promises, one promise a test, and all of them under random loads.
#include "arbiter/share_table.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "share_world.h"

namespace gpuroom {
namespace {

constexpr uint64_t kLink = 50 * kGiB;
constexpr uint64_t kQuantum = kSecond;

ShareGpu Gpu(uint64_t gib) { return {gib * kGiB, kLink}; }

ShareTerms Terms(SharePriority priority = SharePriority::kNormal, uint64_t reserve = 0) {
  return {priority, reserve, kQuantum, 0};
}

Habit AlwaysBusy(uint64_t gib) { return {{gib * kGiB}, kForever, 0, false}; }

TEST(ShareTable, SaysNothingWhileNobodyWaits) {
  ShareTable table({Gpu(100)});
  ASSERT_TRUE(table.Join(1, Terms(), 0).ok());
  table.Report(1, 0, 60 * kGiB, 0);
  table.SetBusy(1, true, 5);
  EXPECT_TRUE(table.Decide(10 * kSecond).empty());
  EXPECT_FALSE(table.NextLook(10 * kSecond).has_value());
}

TEST(ShareTable, RefusesASecondJoinAndReservesAboveTheLimit) {
  ShareTable table({Gpu(100)});
  EXPECT_TRUE(table.Join(1, Terms(SharePriority::kNormal, 60 * kGiB), 0).ok());
  EXPECT_EQ(table.Join(1, Terms(), 0).code(), Code::kInvalidArgument);
  EXPECT_EQ(table.Join(2, Terms(SharePriority::kNormal, 41 * kGiB), 0).code(), Code::kOutOfMemory);
  EXPECT_TRUE(table.Join(2, Terms(SharePriority::kNormal, 40 * kGiB), 0).ok());
}

TEST(ShareTable, AGpuMayComeLater) {
  ShareTable table({});
  ASSERT_TRUE(table.Join(1, Terms(), 0).ok());
  ASSERT_EQ(table.AddGpu(Gpu(100)), 0u);
  ASSERT_TRUE(table.Join(2, Terms(), 0).ok());
  ASSERT_EQ(table.AddGpu(Gpu(50)), 1u);
  table.Report(1, 1, 50 * kGiB, 0);
  table.Ask(2, {100 * kGiB, 10 * kGiB}, 1);
  const std::vector<ShareOrder> orders = table.Decide(1);
  ASSERT_EQ(orders.size(), 2u);
  EXPECT_EQ(orders[0].kind, ShareOrder::Kind::kIn);
  EXPECT_EQ(orders[0].gpu, 0u);
  EXPECT_EQ(orders[1].kind, ShareOrder::Kind::kOut);
  EXPECT_EQ(orders[1].gpu, 1u);
}

TEST(ShareTable, WhatNobodyWaitsForMayBeTaken) {
  ShareTable table({Gpu(100)});
  ASSERT_TRUE(table.Join(1, Terms(), 0).ok());
  ASSERT_TRUE(table.Join(2, Terms(), 0).ok());
  table.Report(1, 0, 60 * kGiB, 0);
  EXPECT_EQ(table.TakeFree(2, 0, 30 * kGiB), 30 * kGiB);
  EXPECT_EQ(table.TakeFree(2, 0, 30 * kGiB), 10 * kGiB);
  EXPECT_EQ(table.awake(2, 0), 40 * kGiB);
  table.MovedIn(2, 0, 40 * kGiB, 1);
  table.Freed(1, 0, 60 * kGiB);
  table.Ask(1, {70 * kGiB}, 2);
  EXPECT_EQ(table.TakeFree(2, 0, kGiB), 0u) << "another waits";
}

TEST(ShareTable, MovesTheShortfallAndBothWaysAtOnce) {
  ShareTable table({Gpu(100)});
  ASSERT_TRUE(table.Join(1, Terms(), 0).ok());
  ASSERT_TRUE(table.Join(2, Terms(), 0).ok());
  table.Report(1, 0, 60 * kGiB, 0);
  table.Report(2, 0, 40 * kGiB, 0);
  table.Ask(2, {20 * kGiB}, 1);
  const std::vector<ShareOrder> orders = table.Decide(1);
  ASSERT_EQ(orders.size(), 1u);
  EXPECT_EQ(orders[0].kind, ShareOrder::Kind::kOut);
  EXPECT_EQ(orders[0].member, 1u);
  EXPECT_EQ(orders[0].bytes, 20 * kGiB);
  EXPECT_TRUE(table.Decide(2).empty()) << "an order is given once";
  // The first slice that is out goes to the other at once, while the next ones are on their way.
  table.MovedOut(1, 0, kGiB, kGiB);
  const std::vector<ShareOrder> next = table.Decide(3);
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next[0].kind, ShareOrder::Kind::kIn);
  EXPECT_EQ(next[0].member, 2u);
  EXPECT_EQ(next[0].bytes, kGiB);
}

TEST(ShareTable, TakesFromWhoIsIdleLongestAndNotBelowItsReserve) {
  ShareTable table({Gpu(100)});
  for (uint64_t id : {1, 2, 3})
    ASSERT_TRUE(table.Join(id, Terms(SharePriority::kNormal, 10 * kGiB), id).ok());
  table.Report(1, 0, 50 * kGiB, 0);
  table.Report(2, 0, 50 * kGiB, 0);
  table.SetBusy(1, true, 5);
  table.SetBusy(1, false, 9);  // so that 2 is idle longer
  table.Ask(3, {50 * kGiB}, 10);
  const std::vector<ShareOrder> orders = table.Decide(10);
  ASSERT_EQ(orders.size(), 2u);
  EXPECT_EQ(orders[0].member, 2u);
  EXPECT_EQ(orders[0].bytes, 40 * kGiB);
  EXPECT_EQ(orders[1].member, 1u);
  EXPECT_EQ(orders[1].bytes, 10 * kGiB);
}

TEST(ShareTable, WhoRunsKeepsItsMemoryForItsTurn) {
  ShareTable table({Gpu(100)});
  ASSERT_TRUE(table.Join(1, Terms(), 0).ok());
  ASSERT_TRUE(table.Join(2, Terms(), 0).ok());
  table.Report(1, 0, 100 * kGiB, 0);
  table.SetBusy(1, true, 0);
  table.Ask(2, {50 * kGiB}, kQuantum / 2);
  EXPECT_TRUE(table.Decide(kQuantum / 2).empty());
  EXPECT_EQ(table.NextLook(kQuantum / 2), kQuantum);
  EXPECT_EQ(table.Decide(kQuantum).size(), 1u);
}

TEST(ShareTable, RefusesWhatCanNeverFit) {
  ShareTable table({Gpu(100)});
  ASSERT_TRUE(table.Join(1, Terms(), 0).ok());
  ASSERT_TRUE(table.Join(2, Terms(), 0).ok());
  table.Report(1, 0, 60 * kGiB, 50 * kGiB);
  table.Ask(2, {51 * kGiB}, 1);
  const std::vector<ShareOrder> orders = table.Decide(1);
  ASSERT_EQ(orders.size(), 1u);
  EXPECT_EQ(orders[0].kind, ShareOrder::Kind::kRefuse);
  EXPECT_FALSE(table.waiting(2));
  EXPECT_TRUE(table.Decide(2).empty());
}

TEST(ShareTable, AsksAnotherWhereAMoveFails) {
  ShareTable table({Gpu(100)});
  for (uint64_t id : {1, 2, 3}) ASSERT_TRUE(table.Join(id, Terms(), id).ok());
  table.Report(1, 0, 50 * kGiB, 0);
  table.Report(2, 0, 50 * kGiB, 0);
  table.Ask(3, {20 * kGiB}, 10);
  ASSERT_EQ(table.Decide(10).at(0).member, 1u);
  table.MovedOut(1, 0, 20 * kGiB, 4 * kGiB);
  const std::vector<ShareOrder> orders = table.Decide(11);
  ASSERT_EQ(orders.size(), 2u);
  EXPECT_EQ(orders[0].kind, ShareOrder::Kind::kIn);
  EXPECT_EQ(orders[0].bytes, 4 * kGiB);
  EXPECT_EQ(orders[1].kind, ShareOrder::Kind::kOut);
  EXPECT_EQ(orders[1].member, 2u);
  EXPECT_EQ(orders[1].bytes, 16 * kGiB);
}

TEST(ShareTable, AVictimThatEndsLeavesAllItHad) {
  ShareTable table({Gpu(100)});
  ASSERT_TRUE(table.Join(1, Terms(), 0).ok());
  ASSERT_TRUE(table.Join(2, Terms(), 0).ok());
  table.Report(1, 0, 100 * kGiB, 0);
  table.Ask(2, {30 * kGiB}, 1);
  ASSERT_EQ(table.Decide(1).size(), 1u);
  table.Leave(1);
  table.MovedOut(1, 0, 30 * kGiB, 30 * kGiB);  // too late: it is not known any more
  const std::vector<ShareOrder> orders = table.Decide(2);
  ASSERT_EQ(orders.size(), 1u);
  EXPECT_EQ(orders[0].kind, ShareOrder::Kind::kIn);
  EXPECT_EQ(orders[0].bytes, 30 * kGiB);
  table.MovedIn(2, 0, 30 * kGiB, 3);
  EXPECT_FALSE(table.waiting(2));
}

// Progress of two that are always busy, each in parts of half the time.
void ExpectFair(uint64_t first_gib, uint64_t second_gib) {
  ShareWorld world({Gpu(100)}, 1);
  world.Add(1, Terms(), AlwaysBusy(first_gib));
  world.Add(2, Terms(), AlwaysBusy(second_gib));
  world.Run(1000 * kSecond);
  for (uint64_t id : {1, 2}) EXPECT_GE(world.worked(id), world.now() / 2 * 8 / 10) << "process " << id;
  EXPECT_GT(world.swaps(), 20u);
}

TEST(ShareWorld, TwoBusyMembersEachHaveFourFifthsOfTheIdeal) {
  ExpectFair(60, 60);
  ExpectFair(100, 100);
  ExpectFair(100, 10);
  ExpectFair(51, 50);
}

TEST(ShareWorld, TwoOfSixtyPerCentExchangeTwentyPerSwap) {
  ShareWorld world({Gpu(100)}, 1);
  world.Add(1, Terms(), AlwaysBusy(60));
  world.Add(2, Terms(), AlwaysBusy(60));
  world.Run(1000 * kSecond, 100);
  EXPECT_LE(world.moved_out(), 100 * 20 * kGiB);
}

TEST(ShareWorld, InteractiveHasItsMemoryWithinOneAndAHalfTimesTheLinksTime) {
  ShareWorld world({Gpu(100)}, 1);
  world.Add(1, Terms(SharePriority::kBatch), AlwaysBusy(90));
  world.Add(2, Terms(SharePriority::kInteractive), {{50 * kGiB}, kSecond / 10, 5 * kSecond, true},
            kSecond * 20);
  world.Run(2000 * kSecond);
  EXPECT_GT(world.swaps(), 200u);
  // 40 GiB of it lie where the batch member's 90 GiB were, and have to move each time.
  EXPECT_LE(world.longest_wait(2), 3 * (40 * kSecond / 50) / 2);
  EXPECT_GT(world.worked(1), world.now() / 2);
}

TEST(ShareWorld, BatchIsNotStarvedByInteractiveThatNeverRests) {
  ShareWorld world({Gpu(100)}, 1);
  world.Add(1, Terms(SharePriority::kInteractive), AlwaysBusy(80));
  world.Add(2, Terms(SharePriority::kBatch), AlwaysBusy(80));
  world.Run(1000 * kSecond);
  EXPECT_GT(world.worked(2), world.now() / 50);
  EXPECT_GT(world.worked(1), world.now() * 7 / 10);
}

TEST(ShareWorld, ALargeRequestIsNotKeptOutByManySmallOnes) {
  ShareWorld world({Gpu(100)}, 1);
  for (uint64_t id = 1; id <= 20; ++id) {
    world.Add(id, Terms(), {{20 * kGiB}, kSecond / 2, kSecond / 2, true});
  }
  world.Add(21, Terms(), {{100 * kGiB}, kSecond, kSecond, true});
  world.Run(400 * kSecond);
  EXPECT_LE(world.longest_wait(21), 200 * kSecond);
  EXPECT_GT(world.worked(21), 0u);
}

// Members of all kinds on two GPUs, some of them on both; every tenth of a minute one is killed and another
// comes.
class ShareLoad : public testing::TestWithParam<uint64_t> {};

uint64_t SwapsToRun() {
  const char* swaps = std::getenv("GPUROOM_TEST_SHARE_SWAPS");
  return swaps == nullptr ? 1250 : std::strtoull(swaps, nullptr, 10);
}

void AddRandom(ShareWorld& world, uint64_t id, std::mt19937_64& random) {
  const uint64_t priority = random() % 3;
  const ShareTerms terms{static_cast<SharePriority>(priority), random() % 4 * kGiB,
                         kSecond / 10 * (1 + random() % 10), random() % 2 * kSecond / 4};
  const auto bytes = [&] { return random() % 3 == 0 ? 0 : (4 + random() % 50) * kGiB; };
  // Interactive members rest more than they work; some of the others never do.
  const uint64_t work =
      priority != 2 && random() % 3 == 0 ? kForever / 4 : kSecond / 20 * (1 + random() % 40);
  world.Add(id, terms, {{bytes(), bytes()}, work, kSecond / 2 * (1 + random() % 10), true},
            random() % kSecond);
}

TEST_P(ShareLoad, NobodyStarvesAndNothingIsGivenTwice) {
  constexpr uint64_t kMembers = 8;
  std::mt19937_64 random(GetParam());
  ShareWorld world({Gpu(100), Gpu(80)}, GetParam());
  world.FailMoves(GetParam() % 2 == 0 ? 0 : 2);
  for (uint64_t id = 0; id < kMembers; ++id) AddRandom(world, id, random);
  // The longest turn is that of a swap of 53 GiB, 6.4 s. Who waits has risen to the front after two
  // priorities of eight turns each; those before it then have a turn and a swap each.
  const uint64_t bound = (2 * ShareTable::kPatienceTurns + 2 * kMembers) * 8 * kSecond;
  for (uint64_t round = 0; world.swaps() < SwapsToRun() && !HasFailure(); ++round) {
    const uint64_t swaps = world.swaps();
    world.Run(world.now() + 6 * kSecond * 50, SwapsToRun());
    EXPECT_GT(world.swaps(), swaps) << "the world stands still";
    for (uint64_t id = 0; id < kMembers; ++id) EXPECT_LE(world.longest_wait(id), bound) << "process " << id;
    const uint64_t killed = random() % kMembers;
    world.Kill(killed);
    AddRandom(world, killed, random);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ShareLoad, testing::Range<uint64_t>(1, 9));

}  // namespace
}  // namespace gpuroom
