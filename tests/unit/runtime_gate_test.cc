#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "runtime/gate.h"

namespace gpuroom {
namespace {

constexpr uint64_t kMinute = 60000000000;

// As a sleep or a wake does.
void Change(Hold hold) {
  Gate::Enter();
  ASSERT_TRUE(Gate::Close(kMinute));
  Gate::SetHold(hold);
  Gate::Open();
  Gate::Leave();
}

class GateTest : public testing::Test {
 protected:
  void TearDown() override { Change(Hold::kNone); }
};

TEST_F(GateTest, SubmissionsHearWhatHolds) {
  for (const Hold hold : {Hold::kNone, Hold::kCheck, Hold::kFail}) {
    Change(hold);
    EXPECT_EQ(Gate::hold(), hold);
    EXPECT_EQ(Gate::EnterToSubmit(), hold);
    Gate::Leave();
  }
}

TEST_F(GateTest, EveryHoldIsCounted) {
  const uint32_t before = Gate::holds();
  Change(Hold::kFail);
  Change(Hold::kCheck);
  Change(Hold::kNone);
  EXPECT_EQ(Gate::holds(), before + 2);
}

TEST_F(GateTest, WhoWaitsIsOutsideAndGoesOnInTheEnd) {
  Change(Hold::kWait);
  std::atomic<int> passed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      EXPECT_EQ(Gate::EnterToSubmit(), Hold::kNone);
      ++passed;
      Gate::Leave();
    });
  }
  // Other calls pass, and the gate closes: who waits is not inside.
  Gate::Enter();
  ASSERT_TRUE(Gate::Close(kMinute));
  Gate::Open();
  Gate::Leave();
  EXPECT_EQ(passed, 0);
  Change(Hold::kNone);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(passed, 3);
}

TEST_F(GateTest, TellsWhetherAnythingWasSubmittedSinceItWasWatched) {
  Gate::Watch();
  EXPECT_FALSE(Gate::SubmittedSinceWatch());
  Gate::Enter();  // other calls are no work
  Gate::Leave();
  Change(Hold::kCheck);
  EXPECT_FALSE(Gate::SubmittedSinceWatch());
  EXPECT_EQ(Gate::EnterToSubmit(), Hold::kCheck);
  Gate::Leave();
  EXPECT_TRUE(Gate::SubmittedSinceWatch());
  Change(Hold::kNone);
  Gate::Watch();
  EXPECT_EQ(Gate::EnterToSubmit(), Hold::kNone);
  Gate::Leave();
  EXPECT_TRUE(Gate::SubmittedSinceWatch());
}

std::atomic<int> g_asked{0};

TEST_F(GateTest, WhoWaitsAsksForTheEndOfAHoldThatIsAskedFor) {
  Gate::AskBy([] {
    ++g_asked;
    g_asked.notify_all();
  });
  Change(Hold::kWait);
  std::atomic<bool> passed{false};
  std::thread thread([&] {
    EXPECT_EQ(Gate::EnterToSubmit(), Hold::kNone);
    passed = true;
    Gate::Leave();
  });
  Change(Hold::kNone);
  thread.join();
  EXPECT_EQ(g_asked, 0) << "a hold that only ends by itself";
  passed = false;
  Change(Hold::kAsk);
  thread = std::thread([&] {
    EXPECT_EQ(Gate::EnterToSubmit(), Hold::kNone);
    passed = true;
    Gate::Leave();
  });
  g_asked.wait(0);
  EXPECT_FALSE(passed);
  // The gate closes meanwhile: who waits is outside.
  Change(Hold::kNone);
  thread.join();
  EXPECT_TRUE(passed);
  Gate::AskBy(nullptr);
}

TEST_F(GateTest, WhoWaitsIsRefusedWhenTheHoldBecomesOneThatFails) {
  Change(Hold::kWait);
  std::thread thread([] {
    EXPECT_EQ(Gate::EnterToSubmit(), Hold::kFail);
    Gate::Leave();
  });
  Change(Hold::kFail);
  thread.join();
}

TEST_F(GateTest, AThreadThatEndsTheProcessIsRefused) {
  Change(Hold::kWait);
  std::thread thread([] {
    Gate::NeverWaitHere();
    EXPECT_EQ(Gate::EnterToSubmit(), Hold::kFail);
    Gate::Leave();
  });
  thread.join();
}

TEST_F(GateTest, NothingHoldsInAForkedChild) {
  Change(Hold::kFail);
  Gate::ForgetAfterFork();
  EXPECT_EQ(Gate::EnterToSubmit(), Hold::kNone);
  Gate::Leave();
}

// Takes every key there is, then passes the gate on a thread of its own. Returns 0 where each key still has
// the value that the thread gave it.
int PassWithoutKeys() {
  std::vector<pthread_key_t> keys;
  for (pthread_key_t key = 0; pthread_key_create(&key, nullptr) == 0;) keys.push_back(key);
  int changed = 0;
  std::thread thread([&] {
    for (pthread_key_t& key : keys) pthread_setspecific(key, &key);
    Gate::Enter();
    Gate::Leave();
    for (pthread_key_t& key : keys) changed += pthread_getspecific(key) != &key;
  });
  thread.join();
  return keys.empty() ? -1 : changed;
}

// In a process of its own: the gate asks for its key once. Under an emulator the kernel cannot execute the
// program again.
TEST(GateKeysTest, TakesNobodysKeyWhereNoneIsLeft) {
  if (GPUROOM_EMULATED) GTEST_SKIP() << "needs to execute itself again";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(std::exit(PassWithoutKeys()), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace gpuroom
