// The ledger between processes: races, fork, exec and kill -9. Where a test
// kills at random the seed is fixed; GPUROOM_STRESS_ROUNDS sets how many rounds.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "tier/ledger.h"
#include "tier_ledger_fixture.h"

namespace gpuroom {
namespace {

// An object that forked children share; of lock-free atomics only.
template <typename T>
class Shared {
 public:
  Shared()
      : memory_(mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
        object_(new (memory_) T) {}
  ~Shared() { munmap(memory_, sizeof(T)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  T* operator->() const { return object_; }

 private:
  void* memory_;
  T* object_;
};

TEST_F(LedgerTest, ProcessesNeverPassTheLimitTogether) {
  constexpr uint64_t kLimit = 10;
  struct Seen {
    std::atomic<uint64_t> held{0};
    std::atomic<uint64_t> granted{0};
    std::atomic<bool> passed{false};
  };
  Shared<Seen> seen;
  const auto work = [&](Child&) {
    auto ledger = Ledger::Open(path_.c_str());
    if (!ledger.ok()) return false;
    for (int i = 0; i < 500; ++i) {
      const Status claimed = (*ledger)->Claim(4, kLimit);
      if (claimed.code() == Code::kOutOfMemory) continue;
      if (!claimed.ok()) return false;
      ++seen->granted;
      if (seen->held.fetch_add(4) + 4 > kLimit) seen->passed = true;
      seen->held.fetch_sub(4);
      (*ledger)->Release(4);
    }
    return true;
  };
  std::array<std::unique_ptr<Child>, 4> children;
  for (auto& child : children) child = std::make_unique<Child>(work);
  for (auto& child : children) EXPECT_EQ(child->Wait(), 0);
  EXPECT_FALSE(seen->passed);
  EXPECT_GT(seen->granted, 0u);
  EXPECT_EQ(Total(*OpenLedger()), 0u);
}

TEST_F(LedgerTest, AKilledProcessGivesItsShareBackBeforeItIsReaped) {
  auto ledger = OpenLedger();
  Child child([&](Child& self) {
    auto own = Ledger::Open(path_.c_str());
    if (!own.ok() || !(*own)->Claim(90, 100).ok()) return false;
    self.Send();
    return self.Await();
  });
  ASSERT_TRUE(child.Await());
  EXPECT_EQ(ledger->Claim(11, 100).code(), Code::kOutOfMemory);
  child.KillOnly();
  EXPECT_TRUE(ledger->Claim(100, 100).ok());
  EXPECT_EQ(Total(*ledger), 100u);
}

TEST_F(LedgerTest, LooksInTurnLeaveOutEveryKilledProcessInTheEnd) {
  constexpr uint64_t kCount = 6;
  std::vector<std::unique_ptr<Child>> children;
  for (uint64_t i = 0; i < kCount; ++i) {
    children.push_back(std::make_unique<Child>([&](Child& child) {
      auto ledger = OpenLedger();
      if (ledger == nullptr || !ledger->Claim(10, 100).ok()) return false;
      child.Send();
      return child.Await();
    }));
    ASSERT_TRUE(children.back()->Await());
  }
  auto ledger = OpenLedger();
  EXPECT_EQ(ledger->OthersInTurn(), kCount * 10);
  for (uint64_t i = 1; i < kCount; ++i) children[i]->KillOnly();
  for (uint64_t i = 0; i < kCount; ++i) ledger->OthersInTurn();
  EXPECT_EQ(ledger->OthersInTurn(), 10u);
  children[0]->KillOnly();
  EXPECT_EQ(ledger->OthersInTurn(), 0u);
}

TEST_F(LedgerTest, AProcessThatExecsGivesItsShareBack) {
  auto ledger = OpenLedger();
  Child child([&](Child& self) {
    auto own = Ledger::Open(path_.c_str());
    if (!own.ok() || !(*own)->Claim(90, 100).ok()) return false;
    dup2(self.in(), STDIN_FILENO);
    self.Send();
    if (!self.Await()) return false;
    // Says that it runs by the end of our side of the pipe: both are close-on-exec.
    execl("/bin/sh", "sh", "-c", "read line", static_cast<char*>(nullptr));
    return false;
  });
  ASSERT_TRUE(child.Await());
  EXPECT_EQ(Total(*ledger), 90u);
  child.Send();
  EXPECT_FALSE(child.Await());  // until the exec
  EXPECT_EQ(kill(child.pid(), 0), 0);
  EXPECT_TRUE(ledger->Claim(100, 100).ok());
}

TEST_F(LedgerTest, AForkedChildHoldsNothingAndReleasesNothing) {
  auto ledger = OpenLedger();
  ASSERT_TRUE(ledger->Claim(60, 100).ok());
  for (const bool told : {true, false}) {
    Child child([&](Child&) {
      if (told) ledger->ForgetAfterFork();
      const bool refused = ledger->Claim(1, 100).code() == Code::kUnsupported;
      ledger->Release(60);
      const bool nothing = ledger->Own() == 0 && Total(*ledger) == 0;
      ledger.reset();
      return refused && nothing;
    });
    EXPECT_EQ(child.Wait(), 0) << "told: " << told;
    EXPECT_EQ(Total(*ledger), 60u);
    EXPECT_EQ(OpenLedger()->Claim(41, 100).code(), Code::kOutOfMemory);
  }
}

TEST_F(LedgerTest, AForkedChildOpensALedgerOfItsOwn) {
  auto ledger = OpenLedger();
  ASSERT_TRUE(ledger->Claim(60, 100).ok());
  Child child([&](Child&) {
    ledger->ForgetAfterFork();
    auto own = Ledger::Open(path_.c_str());
    return own.ok() && (*own)->Claim(41, 100).code() == Code::kOutOfMemory && (*own)->Claim(40, 100).ok() &&
           Total(**own) == 100;
  });
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(Total(*ledger), 60u);
}

// The child of a killed process that never closed its copy of the descriptor
// keeps the kernel's lock alive. The owner's identity tells that it has gone.
TEST_F(LedgerTest, AnInheritedDescriptorDoesNotKeepADeadShare) {
  auto ledger = OpenLedger();
  int hold[2];
  ASSERT_EQ(pipe2(hold, O_CLOEXEC), 0);
  Child child([&](Child& self) {
    close(hold[1]);
    auto own = Ledger::Open(path_.c_str());
    if (!own.ok() || !(*own)->Claim(90, 100).ok()) return false;
    if (fork() == 0) {
      char byte;
      self.Send();  // now there are two
      static_cast<void>(!read(hold[0], &byte, 1));
      _exit(0);
    }
    return self.Await();
  });
  close(hold[0]);
  ASSERT_TRUE(child.Await());
  EXPECT_EQ(Total(*ledger), 90u);
  child.KillOnly();
  EXPECT_EQ(Total(*ledger), 0u) << "while the owner is a zombie";
  EXPECT_TRUE(ledger->Claim(100, 100).ok());
  ledger->Release(100);
  child.Kill();
  EXPECT_EQ(Total(*ledger), 0u) << "when the owner is reaped";
  EXPECT_TRUE(ledger->Claim(100, 100).ok());
  close(hold[1]);
}

TEST_F(LedgerTest, StaysAwayFromTheStandardStreams) {
  Child child([&](Child&) {
    for (int fd = 0; fd <= 2; ++fd) close(fd);
    auto own = Ledger::Open(path_.c_str());
    bool taken = false;
    for (int fd = 0; fd <= 2; ++fd) taken = taken || fcntl(fd, F_GETFD) != -1;
    return own.ok() && !taken;
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST_F(LedgerTest, AFileSizeLimitIsAnAnswerAndNotASignal) {
  Child child([&](Child&) {
    const rlimit none = {0, 0};
    setrlimit(RLIMIT_FSIZE, &none);
    return Ledger::Open(path_.c_str()).status().code() == Code::kUnsupported;
  });
  EXPECT_EQ(child.Wait(), 0);
}

constexpr int kNoTrace = 77;

// Everything that others can see happens in system calls, so killing a process at
// every one of them in turn, before and after, covers every state it can leave.
TEST_F(LedgerTest, KilledAtEverySystemCallOfAClaim) {
  auto ledger = OpenLedger();
  ASSERT_TRUE(ledger->Claim(10, 100).ok());
  bool finished = false;
  int stop = 0;
  for (; !finished && stop < 1000; ++stop) {
    Child child([&](Child&) {
      if (!Child::Traced()) _exit(kNoTrace);
      auto own = Ledger::Open(path_.c_str());
      const bool good = own.ok() && (*own)->Claim(50, 100).ok() && !(*own)->Claim(41, 100).ok();
      if (good) (*own)->Release(20);
      if (good) (*own).reset();
      return good;
    });
    const int status = child.RunToStop(stop);
    if (WIFEXITED(status) && WEXITSTATUS(status) == kNoTrace) GTEST_SKIP() << "ptrace is not available here";
    finished = WIFEXITED(status);
    if (finished) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
    } else {
      child.Kill();
    }
    ASSERT_EQ(Total(*ledger), 10u) << "killed at stop " << stop;
    ASSERT_TRUE(ledger->Claim(90, 100).ok()) << "killed at stop " << stop;
    ledger->Release(90);
  }
  EXPECT_TRUE(finished);
  EXPECT_GT(stop, 40) << "the sweep did not reach the claims";
}

TEST_F(LedgerTest, KilledAtEverySystemCallOfTheFirstOpen) {
  bool finished = false;
  int stop = 0;
  for (; !finished && stop < 1000; ++stop) {
    unlink(path_.c_str());
    Child child([&](Child&) {
      if (!Child::Traced()) _exit(kNoTrace);
      return Ledger::Open(path_.c_str()).ok();
    });
    const int status = child.RunToStop(stop);
    if (WIFEXITED(status) && WEXITSTATUS(status) == kNoTrace) GTEST_SKIP() << "ptrace is not available here";
    finished = WIFEXITED(status);
    if (!finished) child.Kill();
    auto ledger = OpenLedger();
    ASSERT_NE(ledger, nullptr) << "killed at stop " << stop;
    ASSERT_TRUE(ledger->Claim(100, 100).ok()) << "killed at stop " << stop;
    ASSERT_EQ(Total(*ledger), 100u);
  }
  EXPECT_TRUE(finished);
  EXPECT_GT(stop, 20);
}

// Two processes claim 60 of 100 each, the second while the first stands still at
// each of its system calls in turn, the table's lock in hand at most of them.
TEST_F(LedgerTest, ClaimsThatCrossAtAnySystemCallAreNotBothGranted) {
  auto ledger = OpenLedger();
  int granted_here = 0;
  int granted_there = 0;
  int stop = 0;
  for (bool finished = false; !finished && stop < 1000; ++stop) {
    Child child([&](Child&) {
      auto own = Ledger::Open(path_.c_str());
      if (!own.ok()) _exit(2);
      if (!Child::Traced()) _exit(kNoTrace);
      const bool granted = (*own)->Claim(60, 100).ok();
      static_cast<void>((*own).release());  // keeps the share until the process has ended
      return granted;
    });
    int status = child.RunToStop(stop);
    if (WIFEXITED(status) && WEXITSTATUS(status) == kNoTrace) GTEST_SKIP() << "ptrace is not available here";
    finished = WIFEXITED(status);
    const bool here = !finished && ledger->Claim(60, 100).ok();
    if (!finished) status = child.RunOut();
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) <= 1) << "stop " << stop;
    const bool there = WEXITSTATUS(status) == 0;
    ASSERT_FALSE(here && there) << "stop " << stop;
    granted_here += here;
    granted_there += there;
    if (here) ledger->Release(60);
  }
  EXPECT_GT(granted_here, 0);
  EXPECT_GT(granted_there, 0);
  EXPECT_GT(stop, 10) << "the sweep did not reach the claim";
}

// What the stress counts: the host's memory and that of a GPU.
constexpr size_t kAccounts = 2;
using Accounts = std::array<Ledger::Account, kAccounts>;

Accounts AccountsOf(Ledger& ledger) { return {Ledger::kHost, *ledger.AccountOf(UuidNamed('g'))}; }

// One worker of the stress: claims and releases at random until it is paused or killed.
struct Worker {
  std::atomic<uint64_t> steps{0};
  std::array<std::atomic<uint64_t>, kAccounts> own{};
  std::atomic<bool> pause{false};
};

constexpr uint64_t kStressLimit = 64 * kMi;

bool RunWorker(Child& self, const char* path, Worker& worker, unsigned seed) {
  auto ledger = Ledger::Open(path);
  if (!ledger.ok()) return false;
  const Accounts accounts = AccountsOf(**ledger);
  std::mt19937 random(seed);
  for (;;) {
    if (worker.pause) {
      for (size_t i = 0; i < kAccounts; ++i) worker.own[i] = (*ledger)->Own(accounts[i]);
      self.Send();
      if (!self.Await()) return true;
    }
    const uint64_t bytes = (1 + random() % 16) * kMi;
    const Ledger::Account account = accounts[random() % kAccounts];
    if (random() % 2 == 0) {
      const Status claimed = (*ledger)->Claim(bytes, kStressLimit, account);
      if (!claimed.ok() && claimed.code() != Code::kOutOfMemory) return false;
    } else {
      (*ledger)->Release(std::min(bytes, (*ledger)->Own(account)), account);
    }
    ++worker.steps;
  }
}

int StressRounds() {
  const char* text = std::getenv("GPUROOM_STRESS_ROUNDS");
  return text == nullptr ? 200 : std::atoi(text);
}

TEST_F(LedgerTest, KilledProcessesLeaveExactlyTheSurvivorsShares) {
  constexpr size_t kWorkers = 8;
  auto ledger = OpenLedger();
  const Accounts accounts = AccountsOf(*ledger);
  std::mt19937 random(2026);
  Shared<std::array<Worker, kWorkers>> state;
  std::array<std::unique_ptr<Child>, kWorkers> children;
  for (int round = 0; round < StressRounds(); ++round) {
    for (size_t i = 0; i < kWorkers; ++i) {
      Worker& worker = (*state.operator->())[i];
      worker.pause = false;
      worker.steps = 0;
      if (children[i] != nullptr) {
        children[i]->Send();
        continue;
      }
      const unsigned seed = random();
      children[i] =
          std::make_unique<Child>([&](Child& self) { return RunWorker(self, path_.c_str(), worker, seed); });
    }
    const unsigned survivors = random() % (1u << kWorkers);
    for (size_t i = 0; i < kWorkers; ++i) {
      if ((survivors >> i & 1) != 0) continue;
      const uint64_t target = random() % 16;
      while ((*state.operator->())[i].steps < target && !children[i]->Ended()) {
        sched_yield();
      }
      children[i].reset();
    }
    std::array<uint64_t, kAccounts> expected{};
    for (size_t i = 0; i < kWorkers; ++i) {
      if (children[i] == nullptr) continue;
      Worker& worker = (*state.operator->())[i];
      worker.pause = true;
      ASSERT_TRUE(children[i]->Await()) << "a worker failed in round " << round;
      for (size_t account = 0; account < kAccounts; ++account) expected[account] += worker.own[account];
    }
    for (size_t i = 0; i < kAccounts; ++i) {
      const Ledger::Account account = accounts[i];
      const uint64_t rest = kStressLimit - expected[i];
      ASSERT_EQ(ledger->Others(account), expected[i]) << "round " << round << " account " << account;
      ASSERT_TRUE(ledger->Claim(rest, kStressLimit, account).ok()) << "round " << round;
      ASSERT_EQ(ledger->Claim(1, kStressLimit, account).code(), Code::kOutOfMemory);
      ledger->Release(rest, account);
    }
  }
}

}  // namespace
}  // namespace gpuroom
