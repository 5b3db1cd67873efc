#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tier/budget.h"

namespace gpuroom {
namespace {

TEST(Budget, GrantsUpToItsLimitAndNoFurther) {
  Budget budget(100);
  EXPECT_TRUE(budget.limited());
  EXPECT_TRUE(budget.Claim(60));
  EXPECT_FALSE(budget.Claim(41));
  EXPECT_EQ(budget.used(), 60u);  // a refusal changes nothing
  EXPECT_TRUE(budget.Claim(40));
  EXPECT_EQ(budget.free(), 0u);
  EXPECT_TRUE(budget.Claim(0));
  EXPECT_FALSE(budget.Claim(1));
  budget.Release(100);
  EXPECT_EQ(budget.free(), 100u);
}

TEST(Budget, ServesNoMoreThanItsGrant) {
  Budget budget(100);
  budget.SetGrant(40);
  EXPECT_FALSE(budget.Claim(41));
  EXPECT_TRUE(budget.Claim(30));
  EXPECT_EQ(budget.free(), 10u);
  EXPECT_EQ(budget.unused(), 70u);
  budget.SetGrant(20);
  EXPECT_EQ(budget.free(), 0u);
  EXPECT_EQ(budget.used(), 30u) << "what is in use stays so";
  EXPECT_FALSE(budget.Claim(1));
  budget.SetGrant(Budget::kUnlimited);
  EXPECT_FALSE(budget.Claim(71)) << "a grant never exceeds the limit";
  EXPECT_TRUE(budget.Claim(70));
}

TEST(Budget, KeepsFreeWhatItIsToldTo) {
  Budget budget(100);
  EXPECT_FALSE(budget.Claim(91, 10));
  EXPECT_TRUE(budget.Claim(90, 10));
  EXPECT_FALSE(budget.Claim(1, 10));
  EXPECT_TRUE(budget.Claim(10));
}

TEST(Budget, DoesNotOverflow) {
  Budget budget(100);
  ASSERT_TRUE(budget.Claim(50));
  EXPECT_FALSE(budget.Claim(UINT64_MAX));
  EXPECT_FALSE(budget.Claim(UINT64_MAX - 49));
  EXPECT_FALSE(budget.Claim(1, UINT64_MAX));
  EXPECT_FALSE(budget.Claim(UINT64_MAX, UINT64_MAX));
  EXPECT_EQ(budget.used(), 50u);
  Budget endless(Budget::kUnlimited);
  EXPECT_FALSE(endless.limited());
  EXPECT_TRUE(endless.Claim(UINT64_MAX - 1));
  EXPECT_FALSE(endless.Claim(2));
}

TEST(Budget, NoneAtAllGrantsNothing) {
  Budget budget(0);
  EXPECT_FALSE(budget.Claim(1));
  EXPECT_TRUE(budget.Claim(0));
}

TEST(Budget, RemembersItsPeak) {
  Budget budget(100);
  ASSERT_TRUE(budget.Claim(70));
  budget.Release(30);
  ASSERT_TRUE(budget.Claim(20));
  EXPECT_EQ(budget.peak(), 70u);
}

TEST(Budget, ThreadsTogetherNeverPassTheLimit) {
  constexpr uint64_t kLimit = 1000;
  Budget budget(kLimit);
  std::atomic<uint64_t> held{0};
  std::atomic<bool> passed{false};
  std::vector<std::thread> threads;
  for (unsigned id = 0; id < 8; ++id) {
    threads.emplace_back([&, id] {
      for (uint64_t i = 0; i < 20000; ++i) {
        const uint64_t bytes = 1 + (i * 7919 + id * 104729) % 400;
        if (!budget.Claim(bytes)) continue;
        if (held.fetch_add(bytes) + bytes > kLimit) passed = true;
        held.fetch_sub(bytes);
        budget.Release(bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(passed);
  EXPECT_EQ(budget.used(), 0u);
  EXPECT_LE(budget.peak(), kLimit);
}

}  // namespace
}  // namespace gpuroom
