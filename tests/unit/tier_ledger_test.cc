// The ledger's accounting, its file and what it refuses. Death and races of
// processes are in tier_ledger_crash_test.cc.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/env.h"
#include "tier/ledger.h"
#include "tier_ledger_fixture.h"

namespace gpuroom {
namespace {

TEST_F(LedgerTest, ClaimsUpToTheLimitAndNoFurther) {
  auto ledger = OpenLedger();
  EXPECT_TRUE(ledger->Claim(60, 100).ok());
  EXPECT_EQ(ledger->Claim(41, 100).code(), Code::kOutOfMemory);
  EXPECT_EQ(ledger->Own(), 60u);
  EXPECT_TRUE(ledger->Claim(40, 100).ok());
  EXPECT_TRUE(ledger->Claim(0, 100).ok());
  EXPECT_EQ(ledger->Claim(1, 100).code(), Code::kOutOfMemory);
  EXPECT_EQ(Total(*ledger), 100u);
  ledger->Release(70);
  EXPECT_EQ(ledger->Own(), 30u);
  EXPECT_EQ(Total(*ledger), 30u);
  // A limit lowered below what is held refuses, and takes nothing away.
  EXPECT_EQ(ledger->Claim(1, 10).code(), Code::kOutOfMemory);
  EXPECT_EQ(Total(*ledger), 30u);
}

TEST_F(LedgerTest, HugeAmountsDoNotWrap) {
  auto ledger = OpenLedger();
  auto other = OpenLedger();
  EXPECT_EQ(ledger->Claim(UINT64_MAX, UINT64_MAX).code(), Code::kOutOfMemory);
  ASSERT_TRUE(ledger->Claim(kMaxLedgerShare, UINT64_MAX).ok());
  EXPECT_EQ(ledger->Claim(1, UINT64_MAX).code(), Code::kOutOfMemory);
  EXPECT_EQ(ledger->Claim(UINT64_MAX, UINT64_MAX).code(), Code::kOutOfMemory);
  ASSERT_TRUE(other->Claim(kMaxLedgerShare, UINT64_MAX).ok());
  EXPECT_EQ(Total(*other), 2 * kMaxLedgerShare);
  ledger->Release(UINT64_MAX);  // more than is held: logged, and clamped
  EXPECT_EQ(ledger->Own(), 0u);
  EXPECT_EQ(Total(*other), kMaxLedgerShare);
}

TEST_F(LedgerTest, SharesAddUpAndGoWithTheirOwner) {
  auto first = OpenLedger();
  auto second = OpenLedger();
  ASSERT_TRUE(first->Claim(60, 100).ok());
  EXPECT_EQ(second->Claim(41, 100).code(), Code::kOutOfMemory);
  EXPECT_EQ(Total(*second), 60u);
  ASSERT_TRUE(second->Claim(40, 100).ok());
  EXPECT_EQ(Total(*first), 100u);
  EXPECT_EQ(first->Own(), 60u);
  second.reset();
  EXPECT_EQ(Total(*first), 60u);
  EXPECT_TRUE(first->Claim(40, 100).ok());
}

TEST_F(LedgerTest, ThreadsNeverPassTheLimitTogether) {
  auto ledger = OpenLedger();
  auto other = OpenLedger();
  ASSERT_TRUE(other->Claim(3, 10).ok());
  std::atomic<int> held{0};
  std::atomic<bool> passed{false};
  std::atomic<int> granted{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        if (!ledger->Claim(2, 10).ok()) continue;
        ++granted;
        if (held.fetch_add(2) + 2 > 7) passed = true;
        held -= 2;
        ledger->Release(2);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(passed);
  EXPECT_GT(granted, 0);
  EXPECT_EQ(ledger->Own(), 0u);
  EXPECT_EQ(Total(*ledger), 3u);
}

TEST_F(LedgerTest, EachGpuHasAnAccountThatAllProcessesCallAlike) {
  auto first = OpenLedger();
  auto second = OpenLedger();
  const Ledger::Account red = *first->AccountOf(UuidNamed('r'));
  const Ledger::Account blue = *first->AccountOf(UuidNamed('b'));
  EXPECT_NE(red, blue);
  EXPECT_EQ(*first->AccountOf(UuidNamed('r')), red);
  // The second asks in another order, so its numbers are others.
  const Ledger::Account blue_there = *second->AccountOf(UuidNamed('b'));
  const Ledger::Account red_there = *second->AccountOf(UuidNamed('r'));
  ASSERT_TRUE(first->Claim(60, 100, red).ok());
  ASSERT_TRUE(second->Claim(7, 100, blue_there).ok());
  EXPECT_EQ(second->Claim(41, 100, red_there).code(), Code::kOutOfMemory);
  EXPECT_TRUE(second->Claim(40, 100, red_there).ok());
  EXPECT_EQ(first->Others(red), 40u);
  EXPECT_EQ(first->Others(blue), 7u);
  EXPECT_EQ(first->OthersInTurn(blue), 7u);
  EXPECT_EQ(first->Others(), 0u);
  first->Release(60, red);
  EXPECT_EQ(second->Others(red_there), 0u);
  EXPECT_EQ(second->Own(red_there), 40u);
  EXPECT_EQ(second->Own(), 0u);
}

TEST_F(LedgerTest, AGpuWithoutAUuidHasNoAccount) {
  EXPECT_EQ(OpenLedger()->AccountOf(GpuUuid{}).status().code(), Code::kUnsupported);
}

TEST_F(LedgerTest, AFullTableOfGpusLeavesTheHostsAccountAlone) {
  for (uint32_t i = 0; i < kLedgerGpus; ++i) {
    ASSERT_TRUE(OpenLedger()->AccountOf(UuidNamed(static_cast<char>(i + 1))).ok()) << i;
  }
  auto ledger = OpenLedger();
  EXPECT_EQ(ledger->AccountOf(UuidNamed('\x7f')).status().code(), Code::kBusy);
  EXPECT_TRUE(ledger->AccountOf(UuidNamed('\x01')).ok());
  EXPECT_TRUE(ledger->Claim(5, 10).ok());
}

TEST_F(LedgerTest, ANewOwnerOfASlotHoldsNothingOfAnyGpu) {
  auto lasting = OpenLedger();
  const Ledger::Account account = *lasting->AccountOf(UuidNamed('r'));
  // What a killed process leaves in slot 1.
  WriteFile(WordOf(1, 50), kLedgerBytes + sizeof(uint64_t));
  EXPECT_EQ(lasting->Others(account), 0u);
  WriteFile(WordOf(1, 50), kLedgerBytes + sizeof(uint64_t));
  auto next = OpenLedger();
  EXPECT_EQ(lasting->Others(account), 0u);
}

TEST_F(LedgerTest, GpusMoveAlongToANewFile) {
  auto first = OpenLedger();
  auto second = OpenLedger();
  const Ledger::Account red = *first->AccountOf(UuidNamed('r'));
  const Ledger::Account blue = *first->AccountOf(UuidNamed('b'));
  ASSERT_TRUE(first->Claim(5, 100, red).ok());
  ASSERT_TRUE(first->Claim(6, 100, blue).ok());
  ASSERT_EQ(unlink(path_.c_str()), 0);
  const Ledger::Account there = *second->AccountOf(UuidNamed('b'));
  EXPECT_EQ(second->Others(there), 0u);
  EXPECT_TRUE(first->Claim(1, 100, red).ok());
  EXPECT_EQ(second->Others(there), 6u);
  EXPECT_EQ(second->Others(*second->AccountOf(UuidNamed('r'))), 6u);
}

// A process that holds the table's lock and was stopped keeps nobody from counting what is counted already.
TEST_F(LedgerTest, AGpuIsNotNotedWithoutTheTablesLock) {
  auto first = OpenLedger();
  auto second = OpenLedger();
  const Ledger::Account red = *first->AccountOf(UuidNamed('r'));
  RawLock table(path_, kLedgerTableLock, 1);
  EXPECT_EQ(second->AccountOf(UuidNamed('b')).status().code(), Code::kBusy);
  const Ledger::Account there = *second->AccountOf(UuidNamed('r'));
  EXPECT_TRUE(second->Claim(5, 10, there).ok());
  EXPECT_EQ(first->Others(red), 5u);
}

TEST_F(LedgerTest, CreatesAPrivateFileWhateverTheUmask) {
  const mode_t before = umask(0777);
  auto ledger = OpenLedger();
  umask(before);
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(info.st_size, kLedgerBytes);
}

TEST_F(LedgerTest, RefusesFilesThatOthersCouldOpen) {
  ASSERT_NE(OpenLedger(), nullptr);
  for (const mode_t mode : {0620u, 0602u, 0640u, 0604u}) {
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
    EXPECT_EQ(OpenStatus().code(), Code::kInvalidArgument) << std::oct << mode;
  }
  ASSERT_EQ(chmod(path_.c_str(), 0600), 0);
  EXPECT_TRUE(OpenStatus().ok());
}

TEST_F(LedgerTest, RefusesAnotherUsersFile) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give a file to another user";
  ASSERT_NE(OpenLedger(), nullptr);
  ASSERT_EQ(chown(path_.c_str(), 12345, 12345), 0);
  EXPECT_EQ(OpenStatus().code(), Code::kInvalidArgument);
}

TEST_F(LedgerTest, RefusesLinksAndWhatIsNoFile) {
  const std::string other = folder_ + "/other";
  ASSERT_EQ(symlink(other.c_str(), path_.c_str()), 0);
  EXPECT_EQ(OpenStatus().code(), Code::kInvalidArgument);
  EXPECT_NE(access(other.c_str(), F_OK), 0) << "followed a symbolic link";
  ASSERT_EQ(unlink(path_.c_str()), 0);

  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(OpenStatus().code(), Code::kInvalidArgument);
  ASSERT_EQ(unlink(path_.c_str()), 0);

  ASSERT_EQ(mkdir(path_.c_str(), 0700), 0);
  EXPECT_EQ(OpenStatus().code(), Code::kInvalidArgument);
  ASSERT_EQ(rmdir(path_.c_str()), 0);

  ASSERT_NE(OpenLedger(), nullptr);
  ASSERT_EQ(link(path_.c_str(), other.c_str()), 0);
  EXPECT_EQ(OpenStatus().code(), Code::kInvalidArgument);
}

TEST_F(LedgerTest, SaysWhatIsWrongWithAPath) {
  EXPECT_EQ(Ledger::Open("ledger").status().code(), Code::kInvalidArgument);
  EXPECT_EQ(Ledger::Open("").status().code(), Code::kInvalidArgument);
  EXPECT_EQ(Ledger::Open(("/" + std::string(5000, 'x')).c_str()).status().code(), Code::kInvalidArgument);
  const Status missing = Ledger::Open((folder_ + "/none/ledger").c_str()).status();
  EXPECT_EQ(missing.code(), Code::kNotFound);
  EXPECT_NE(std::strstr(missing.what(), "GPUROOM_LEDGER"), nullptr);
  EXPECT_EQ(Ledger::Open("/dev/null/ledger").status().code(), Code::kNotFound);
}

TEST_F(LedgerTest, OpensTheFileThatTheEnvironmentNames) {
  ASSERT_EQ(setenv(env::kLedger, path_.c_str(), 1), 0);
  auto ledger = Ledger::OpenDefault();
  unsetenv(env::kLedger);
  ASSERT_TRUE(ledger.ok()) << ledger.status().what();
  ASSERT_TRUE((*ledger)->Claim(5, 10).ok());
  EXPECT_EQ(Total(*OpenLedger()), 5u);
}

// The shared file may be made first by others, and is in the spare folder then.
class LedgerSpareTest : public LedgerTest {
 protected:
  void TearDown() override {
    unlink((spare_ + "/ledger").c_str());
    rmdir(spare_.c_str());
    LedgerTest::TearDown();
  }
  Result<std::unique_ptr<Ledger>> TryOpen() const {
    LedgerSpares spares{};
    std::strcpy(spares[0].data(), (folder_ + "/none/folder").c_str());  // cannot be made
    std::strcpy(spares[1].data(), spare_.c_str());
    return Ledger::Open(path_.c_str(), spares);
  }
  std::unique_ptr<Ledger> OpenWithSpare() const {
    auto opened = TryOpen();
    EXPECT_TRUE(opened.ok()) << opened.status().what();
    return opened.ok() ? std::move(*opened) : nullptr;
  }
  bool SpareIsThere() const { return access((spare_ + "/ledger").c_str(), F_OK) == 0; }
  // As others would: a name that is no file of ours.
  void Squat() const { ASSERT_EQ(mkdir(path_.c_str(), 0700), 0); }

  const std::string spare_ = testing::TempDir() + "gpuroom-spare-" + std::to_string(getpid());
};

TEST_F(LedgerSpareTest, IsNotMadeWhereTheSharedFileServes) {
  auto ledger = OpenWithSpare();
  EXPECT_TRUE(ledger->Claim(1, 1).ok());
  EXPECT_FALSE(SpareIsThere());
}

TEST_F(LedgerSpareTest, HoldsTheBudgetWhereTheSharedFileCannot) {
  Squat();
  auto first = OpenWithSpare();
  auto second = OpenWithSpare();
  ASSERT_TRUE(first->Claim(60, 100).ok());
  EXPECT_EQ(second->Claim(41, 100).code(), Code::kOutOfMemory);
  EXPECT_EQ(Total(*second), 60u);
}

TEST_F(LedgerSpareTest, IsUsedFromThenOn) {
  Squat();
  auto first = OpenWithSpare();
  ASSERT_TRUE(first->Claim(60, 100).ok());
  ASSERT_EQ(rmdir(path_.c_str()), 0);
  EXPECT_EQ(OpenWithSpare()->Claim(41, 100).code(), Code::kOutOfMemory);
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
}

TEST_F(LedgerSpareTest, TakesOverWhenTheSharedFileIsTakenAwayMeanwhile) {
  auto first = OpenWithSpare();
  ASSERT_TRUE(first->Claim(60, 100).ok());
  ASSERT_EQ(unlink(path_.c_str()), 0);
  Squat();
  EXPECT_TRUE(first->Claim(1, 100).ok());
  EXPECT_EQ(OpenWithSpare()->Claim(40, 100).code(), Code::kOutOfMemory);
}

TEST_F(LedgerSpareTest, HasToBePrivate) {
  Squat();
  ASSERT_EQ(mkdir(spare_.c_str(), 0700), 0);
  ASSERT_EQ(chmod(spare_.c_str(), 0755), 0);
  EXPECT_EQ(TryOpen().status().code(), Code::kInvalidArgument);
  EXPECT_FALSE(SpareIsThere());
  ASSERT_EQ(rmdir(spare_.c_str()), 0);
  ASSERT_EQ(symlink(folder_.c_str(), spare_.c_str()), 0);
  EXPECT_EQ(TryOpen().status().code(), Code::kInvalidArgument);
  ASSERT_EQ(unlink(spare_.c_str()), 0);
}

TEST_F(LedgerSpareTest, IsNotForWhatThisProcessAloneLacks) {
  ASSERT_NE(OpenWithSpare(), nullptr);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 4096;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Code code = TryOpen().status().code();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(code, Code::kUnsupported);
  EXPECT_FALSE(SpareIsThere());
}

TEST_F(LedgerTest, NeverOverwritesAFileThatIsNoLedger) {
  const std::string letter = "Dear reader, this file is not a ledger, and it is the only copy.";
  WriteFile(letter);
  EXPECT_EQ(OpenStatus().code(), Code::kInvalidArgument);
  EXPECT_EQ(ReadFile(path_), letter);
  // Not even one that begins with zeros, as a disk image may.
  ASSERT_EQ(truncate(path_.c_str(), 0), 0);
  ASSERT_EQ(truncate(path_.c_str(), 1 << 20), 0);
  EXPECT_EQ(OpenStatus().code(), Code::kInvalidArgument);
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 1 << 20);
}

TEST_F(LedgerTest, CompletesAFileWhoseCreatorDiedEarly) {
  WriteFile("");
  EXPECT_TRUE(OpenStatus().ok());
  ASSERT_EQ(truncate(path_.c_str(), 0), 0);
  ASSERT_EQ(truncate(path_.c_str(), kLedgerBytes), 0);
  auto ledger = OpenLedger();
  ASSERT_NE(ledger, nullptr);
  EXPECT_TRUE(ledger->Claim(1, 1).ok());
}

TEST_F(LedgerTest, RebuildsAnotherVersionOnlyIfNobodyUsesIt) {
  auto user = OpenLedger();
  ASSERT_TRUE(user->Claim(7, 10).ok());
  WriteFile(std::string(4, '\x7f'), offsetof(LedgerHeader, version));
  EXPECT_EQ(OpenStatus().code(), Code::kBusy);
  EXPECT_EQ(Total(*user), 7u);
  user.reset();
  WriteFile(std::string(8192, '\xff'), kLedgerWords);
  auto ledger = OpenLedger();
  ASSERT_NE(ledger, nullptr);
  EXPECT_EQ(Total(*ledger), 0u);
  const std::string bytes = ReadFile(path_);
  EXPECT_EQ(static_cast<off_t>(bytes.size()), kLedgerBytes);
  EXPECT_EQ(bytes.substr(kLedgerWords), std::string(bytes.size() - kLedgerWords - 0, '\0')
                                            .replace(kLedgerOwners - kLedgerWords, sizeof(LedgerOwner),
                                                     bytes.substr(kLedgerOwners, sizeof(LedgerOwner))))
      << "something of the old layout is left";
}

TEST_F(LedgerTest, GarbageInSlotsCountsForNothingAndIsRepaired) {
  auto first = OpenLedger();
  auto second = OpenLedger();
  ASSERT_TRUE(first->Claim(5, 100).ok());
  ASSERT_TRUE(second->Claim(6, 100).ok());
  WriteFile(std::string(kLedgerBytes - kLedgerWords, '\xa5'), kLedgerWords);
  EXPECT_EQ(Total(*first), 5u);  // slot 1 is garbled, the others have no owner
  EXPECT_TRUE(second->Claim(1, 100).ok());
  EXPECT_EQ(Total(*first), 12u);
  EXPECT_EQ(second->Claim(89, 100).code(), Code::kOk);  // slot 0 is garbled still
  first->Release(1);
  EXPECT_EQ(Total(*second), 100u);
  EXPECT_EQ(second->Claim(1, 100).code(), Code::kOutOfMemory);
}

TEST_F(LedgerTest, AShareIsValidInItsOwnSlotOnly) {
  for (const uint64_t bytes : {uint64_t{1}, 2 * kMi, kMaxLedgerShare}) {
    EXPECT_EQ(DecodeShare(3, EncodeShare(3, bytes)), bytes);
    EXPECT_EQ(DecodeShare(4, EncodeShare(3, bytes)), 0u);
    for (int bit = 0; bit < 64; ++bit) {
      EXPECT_EQ(DecodeShare(3, EncodeShare(3, bytes) ^ uint64_t{1} << bit), 0u) << bytes << " bit " << bit;
    }
  }
  EXPECT_EQ(EncodeShare(3, 0), 0u);
}

TEST_F(LedgerTest, ATruncatedFileIsNoCrash) {
  auto first = OpenLedger();
  auto second = OpenLedger();
  ASSERT_TRUE(first->Claim(5, 100).ok());
  ASSERT_TRUE(second->Claim(6, 100).ok());
  ASSERT_EQ(truncate(path_.c_str(), 0), 0);
  EXPECT_EQ(Total(*first), 5u);
  EXPECT_TRUE(first->Claim(1, 100).ok());
  EXPECT_TRUE(second->Claim(1, 100).ok());
  EXPECT_EQ(Total(*first), 13u);
  ASSERT_EQ(truncate(path_.c_str(), kLedgerWords), 0);
  auto third = OpenLedger();  // extends it again, beside the two that use it
  ASSERT_NE(third, nullptr);
  second->Release(1);
  first->Release(1);
  EXPECT_EQ(Total(*third), 11u);
}

TEST_F(LedgerTest, AFullTableIsRefusedUntilASlotIsFree) {
  ASSERT_NE(OpenLedger(), nullptr);
  RawLock all(path_, kLedgerSlotLock, kLedgerSlots);
  EXPECT_EQ(OpenStatus().code(), Code::kBusy);
  all.Set(F_UNLCK, kLedgerSlotLock + kLedgerSlots - 1, 1);
  auto last = OpenLedger();
  ASSERT_NE(last, nullptr);
  EXPECT_TRUE(last->Claim(5, 10).ok());
  EXPECT_EQ(Total(*last), 5u);
  EXPECT_EQ(OpenStatus().code(), Code::kBusy);
}

// Read calls of this process so far.
uint64_t ReadCalls() {
  unsigned long long calls = 0;
  std::FILE* file = std::fopen("/proc/self/io", "r");
  const bool read = file != nullptr && std::fscanf(file, "rchar: %*u\nwchar: %*u\nsyscr: %llu", &calls) == 1;
  if (file != nullptr) std::fclose(file);
  return read ? calls : 0;
}

TEST_F(LedgerTest, ALookInTurnCostsNoMoreWithManyProcesses) {
  if (ReadCalls() == 0) GTEST_SKIP() << "this machine does not count system calls";
  auto ledger = OpenLedger();
  std::vector<std::unique_ptr<Ledger>> others;
  const auto reads = [&] {
    const uint64_t before = ReadCalls();
    EXPECT_EQ(ledger->OthersInTurn(), 10 * others.size());
    return ReadCalls() - before;
  };
  const auto open_up_to = [&](size_t count) {
    while (others.size() < count) {
      others.push_back(OpenLedger());
      ASSERT_TRUE(others.back()->Claim(10, UINT64_MAX).ok());
    }
  };
  open_up_to(1);
  const uint64_t alone = reads();
  open_up_to(200);
  EXPECT_LE(reads(), alone);
}

// Even a claim looks no closer than it has to.
TEST_F(LedgerTest, AClaimThatFitsCostsNoMoreWithManyProcesses) {
  if (ReadCalls() == 0) GTEST_SKIP() << "this machine does not count system calls";
  auto ledger = OpenLedger();
  const auto reads = [&] {
    const uint64_t before = ReadCalls();
    EXPECT_TRUE(ledger->Claim(1, kMi).ok());
    return ReadCalls() - before;
  };
  const uint64_t alone = reads();
  std::vector<std::unique_ptr<Ledger>> others;
  for (int i = 0; i < 200; ++i) {
    others.push_back(OpenLedger());
    ASSERT_TRUE(others.back()->Claim(10, UINT64_MAX).ok());
  }
  EXPECT_LE(reads(), alone);
}

TEST_F(LedgerTest, AStoppedLockHolderStopsNobody) {
  auto first = OpenLedger();
  auto second = OpenLedger();
  RawLock table(path_, kLedgerTableLock, 1);
  ASSERT_TRUE(first->Claim(60, 100).ok());
  EXPECT_EQ(second->Claim(41, 100).code(), Code::kOutOfMemory);
  EXPECT_TRUE(second->Claim(40, 100).ok());
  EXPECT_EQ(Total(*second), 100u);
  first->Release(60);
  EXPECT_EQ(Total(*second), 40u);
  auto third = OpenLedger();
  ASSERT_NE(third, nullptr);
  EXPECT_EQ(Total(*third), 40u);
}

// The number of the descriptor by which this process has the ledger open.
int FindDescriptor(const std::string& path) {
  struct stat wanted;
  if (stat(path.c_str(), &wanted) != 0) return -1;
  for (int fd = 3; fd < 1024; ++fd) {
    struct stat info;
    if (fstat(fd, &info) == 0 && info.st_ino == wanted.st_ino && info.st_dev == wanted.st_dev) return fd;
  }
  return -1;
}

TEST_F(LedgerTest, SurvivesItsDescriptorBeingClosedAndReused) {
  auto ledger = OpenLedger();
  ASSERT_TRUE(ledger->Claim(5, 100).ok());
  const int fd = FindDescriptor(path_);
  ASSERT_GT(fd, STDERR_FILENO);
  const std::string other = folder_ + "/other";
  const int precious = open(other.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(write(precious, "precious", 8), 8);
  ASSERT_EQ(dup2(precious, fd), fd);
  ledger->Release(1);
  EXPECT_TRUE(ledger->Claim(3, 100).ok());
  EXPECT_EQ(Total(*OpenLedger()), 7u);
  ledger.reset();
  EXPECT_EQ(ReadFile(other), "precious");
  EXPECT_EQ(fcntl(fd, F_GETFD), 0) << "closed a descriptor that was no longer its own";
  close(fd);
  close(precious);
  EXPECT_EQ(Total(*OpenLedger()), 0u);
}

TEST_F(LedgerTest, MovesToANewFileWhenTheOldOneIsUnlinked) {
  auto first = OpenLedger();
  auto second = OpenLedger();
  ASSERT_TRUE(first->Claim(60, 100).ok());
  ASSERT_EQ(unlink(path_.c_str()), 0);
  EXPECT_EQ(Total(*first), 60u);
  EXPECT_EQ(second->Claim(41, 100).code(), Code::kOutOfMemory);
  EXPECT_TRUE(second->Claim(40, 100).ok());
  EXPECT_EQ(Total(*first), 100u);
}

TEST_F(LedgerTest, AVanishedFolderIsAnErrorAndChangesNothing) {
  auto ledger = OpenLedger();
  ASSERT_TRUE(ledger->Claim(5, 100).ok());
  const std::string moved = folder_ + "-moved";
  ASSERT_EQ(unlink(path_.c_str()), 0);
  ASSERT_EQ(rename(folder_.c_str(), moved.c_str()), 0);
  EXPECT_EQ(ledger->Claim(1, 100).code(), Code::kNotFound);
  EXPECT_EQ(Total(*ledger), 5u);
  ledger->Release(2);
  EXPECT_EQ(ledger->Own(), 3u);
  ASSERT_EQ(rename(moved.c_str(), folder_.c_str()), 0);
  EXPECT_TRUE(ledger->Claim(1, 100).ok());
  EXPECT_EQ(Total(*OpenLedger()), 4u);
}

}  // namespace
}  // namespace gpuroom
