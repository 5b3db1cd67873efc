// The host has no memory for the library's own records: each of its allocations fails in turn, first by
// itself and then with all that follow, in whichever thread they are made. No call ends the program; each
// gives an answer, what was to be done is done or not, and what comes after works.
#include <dlfcn.h>
#include <link.h>

#include <atomic>
#include <cstdlib>
#include <optional>

#include "sleep_fixture.h"

extern "C" void* __libc_malloc(size_t);

namespace {

struct Extent {
  uintptr_t begin = 0;
  uintptr_t end = 0;
};

Extent g_library;                      // where libgpuroom.so is mapped
std::atomic<int> g_left{0};            // the library's allocations until one fails; 0: none does
std::atomic<bool> g_and_after{false};  // and all that follow fail as well
std::atomic<bool> g_failed{false};

bool IsLibrarys(const void* caller) {
  const auto at = reinterpret_cast<uintptr_t>(caller);
  return at >= g_library.begin && at < g_library.end;
}

bool FailsNow() {
  int left = g_left.load();
  while (left > 0) {
    const int then = left == 1 && g_and_after.load() ? 1 : left - 1;
    if (g_left.compare_exchange_weak(left, then)) return left == 1;
  }
  return false;
}

}  // namespace

extern "C" void* malloc(size_t bytes) {
  if (g_left.load() > 0 && IsLibrarys(__builtin_return_address(0)) && FailsNow()) {
    g_failed = true;
    return nullptr;
  }
  return __libc_malloc(bytes);
}

namespace gpuroom::shim_test {
namespace {

int FindLibrary(dl_phdr_info* info, size_t, void*) {
  if (std::string(info->dlpi_name).find("libgpuroom.so") == std::string::npos) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type == PT_LOAD) g_library.end = info->dlpi_addr + segment.p_vaddr + segment.p_memsz;
  }
  g_library.begin = info->dlpi_addr;
  return 1;
}

constexpr uint64_t kPiece = 2 * kMiB;  // which ctest makes the threshold of ranges

class NoMemoryTest : public SleepTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(dl_iterate_phdr(FindLibrary, nullptr), 1);
    SleepTest::SetUp();
    small_ = Alloc(64);
  }
  void TearDown() override {
    Free(small_);
    EXPECT_EQ(gpuroom_trim(0), GPUROOM_OK);
    SleepTest::TearDown();
  }

  // Runs `call` once for each allocation that the library makes in it, with that one failing and then with
  // all from it on, and `check` after each, for which every allocation works. Returns how many there were.
  template <typename Call, typename Check>
  int FailEach(Call call, Check check) {
    int turns = 0;
    for (const bool and_after : {false, true}) {
      g_and_after = and_after;
      do {
        g_failed = false;
        g_left = ++turns;
        const CUresult result = call();
        g_left = 0;
        EXPECT_TRUE(result == CUDA_SUCCESS || result == CUDA_ERROR_OUT_OF_MEMORY) << NameOf(result);
        EXPECT_CU(Cu().MemsetD8(small_, 1, 64)) << "the gate is closed, or refuses";
        check(result);
      } while (g_failed && !HasFailure());
      if (and_after) break;
      turns = 0;
    }
    return turns - 1;
  }
  static CUresult ResultOf(int result) {
    if (result == GPUROOM_OK) return CUDA_SUCCESS;
    return result == GPUROOM_OUT_OF_MEMORY ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_UNKNOWN;
  }
  static void Move(CUdeviceptr p, int tier) {
    EXPECT_EQ(gpuroom_range_migrate(p, 0, tier), GPUROOM_OK) << gpuroom_last_error();
    EXPECT_EQ(PlacementOf(p).host_bytes, tier == GPUROOM_TIER_HOST ? kPiece : 0);
  }

 private:
  CUdeviceptr small_ = 0;
};

// A range and memory that the program mapped itself, at two addresses, with contents.
class NoMemoryContentsTest : public NoMemoryTest {
 protected:
  void SetUp() override {
    NoMemoryTest::SetUp();
    range_ = Alloc(kPiece);
    mapped_.emplace(kPiece, 2);
    Fill(range_, kPiece, 3);
    Fill(mapped_->va, kPiece, 4);
  }
  void TearDown() override {
    Free(range_);
    mapped_->Free();
    NoMemoryTest::TearDown();
  }
  void ExpectContents() {
    EXPECT_EQ(CountBad(range_, kPiece, 3), 0u);
    EXPECT_EQ(CountBad(mapped_->va, kPiece, 4), 0u);
    EXPECT_EQ(CountBad(mapped_->At(1), kPiece, 4), 0u);
  }
  void FailEachOfAMove(int from, int to) {
    for (const CUdeviceptr p : {range_, mapped_->va}) Move(p, from);
    const int turns = FailEach(
        [&] {
          gpuroom_move moves[] = {{range_, 0, to, 0, 0}, {mapped_->va, 0, to, 0, 0}};
          return ResultOf(gpuroom_migrate_batch(moves, 2, sizeof moves[0]));
        },
        [&](CUresult result) {
          if (result == CUDA_SUCCESS) {
            EXPECT_EQ(PlacementOf(range_).host_bytes, to == GPUROOM_TIER_HOST ? kPiece : 0);
          }
          ExpectContents();
          for (const CUdeviceptr p : {range_, mapped_->va}) Move(p, from);
        });
    EXPECT_GT(turns, 0);
    for (const CUdeviceptr p : {range_, mapped_->va}) Move(p, GPUROOM_TIER_DEVICE);
  }
  void FailEachOfASleep(gpuroom_sleep_action action) {
    const std::string directory = testing::TempDir();
    const Tags all = {{nullptr, action}};
    const int turns = FailEach([&] { return ResultOf(TrySleep(all, GPUROOM_HOLD_NONE, directory.c_str())); },
                               [&](CUresult result) {
                                 EXPECT_EQ(Stats().asleep_bytes, result == CUDA_SUCCESS ? 2 * kPiece : 0);
                                 Wake();
                                 ExpectContents();
                               });
    EXPECT_GT(turns, 0);
  }
  void FailEachOfAWake(gpuroom_sleep_action action, bool lazy) {
    const std::string directory = testing::TempDir();
    const Tags all = {{nullptr, action}};
    const auto sleep = [&] {
      for (const CUdeviceptr p : {range_, mapped_->va}) Move(p, GPUROOM_TIER_DEVICE);
      Sleep(all, GPUROOM_HOLD_NONE, directory.c_str());
    };
    sleep();
    const int turns = FailEach([&] { return ResultOf(gpuroom_wake(nullptr, 0, lazy ? 1 : 0, nullptr, 0)); },
                               [&](CUresult result) {
                                 EXPECT_EQ(Stats().asleep_bytes, result == CUDA_SUCCESS ? 0 : 2 * kPiece);
                                 Wake();
                                 ExpectContents();
                                 sleep();
                               });
    EXPECT_GT(turns, 0);
    Wake();
    ExpectContents();
  }

  CUdeviceptr range_ = 0;
  std::optional<Mapped> mapped_;
};

TEST_F(NoMemoryTest, AnAllocationIsRefusedAndTheNextOneWorks) {
  CUdeviceptr p = 0;
  const int failures = FailEach([&] { return Cu().MemAlloc(&p, kSpilled); },
                                [&](CUresult result) {
                                  if (result == CUDA_SUCCESS) {
                                    EXPECT_CU(Cu().MemFree(p));
                                  }
                                });
  EXPECT_GT(failures, 0);
  p = Alloc(kSpilled);
  Fill(p, kSpilled, 3);
  EXPECT_EQ(CountBad(p, kSpilled, 3), 0u);
  EXPECT_CU(Cu().MemFree(p));
}

TEST_F(NoMemoryTest, ASmallOneThatHbmHasNoRoomForIsRefusedAndTheNextOneWorks) {
  const CUdeviceptr rest = AllocHot(kForRanges);
  std::vector<CUdeviceptr> fillers;
  while (MemInfo().free > kHost) fillers.push_back(Alloc(std::min(kMiB, MemInfo().free - kHost)));
  CUdeviceptr p = 0;
  const int failures = FailEach([&] { return Cu().MemAlloc(&p, 4096); },
                                [&](CUresult result) {
                                  if (result == CUDA_SUCCESS) Free(p);
                                });
  EXPECT_GT(failures, 0);
  p = Alloc(4096);
  EXPECT_EQ(PlacementOf(p).host_bytes, 4096u);
  Free(p);
  for (const CUdeviceptr filler : fillers) Free(filler);
  Free(rest);
}

TEST_F(NoMemoryTest, AQuestionIsAnsweredOrFails) {
  const CUdeviceptr p = Alloc(kThreshold);
  gpuroom_placement placement{};
  FailEach(
      [&] {
        return gpuroom_describe(p, &placement, sizeof placement) == 0 ? CUDA_SUCCESS
                                                                      : CUDA_ERROR_OUT_OF_MEMORY;
      },
      [](CUresult) {});
  EXPECT_CU(Cu().MemFree(p));
}

TEST_F(NoMemoryContentsTest, AMoveToTheHostIsMadeOrNot) {
  FailEachOfAMove(GPUROOM_TIER_DEVICE, GPUROOM_TIER_HOST);
}

TEST_F(NoMemoryContentsTest, AMoveToTheDeviceIsMadeOrNot) {
  FailEachOfAMove(GPUROOM_TIER_HOST, GPUROOM_TIER_DEVICE);
}

TEST_F(NoMemoryContentsTest, WhatGivesWayKeepsItsContents) {
  const CUdeviceptr rest = AllocHot(kForRanges - 2 * kPiece);
  CUdeviceptr p = 0;
  ASSERT_EQ(gpuroom_set_thread_hint(GPUROOM_HINT_HOT, nullptr), GPUROOM_OK);
  const int turns = FailEach([&] { return Cu().MemAlloc(&p, kPiece); },
                             [&](CUresult result) {
                               ExpectContents();
                               if (result == CUDA_SUCCESS) Free(p);
                               for (const CUdeviceptr moved : {range_, mapped_->va})
                                 Move(moved, GPUROOM_TIER_DEVICE);
                             });
  EXPECT_GT(turns, 0);
  Free(rest);
}

TEST_F(NoMemoryContentsTest, ASleepPutsAllToSleepOrNothing) { FailEachOfASleep(GPUROOM_SLEEP_KEEP); }

TEST_F(NoMemoryContentsTest, ASleepToDiskPutsAllToSleepOrNothing) { FailEachOfASleep(GPUROOM_SLEEP_DISK); }

TEST_F(NoMemoryContentsTest, AWakeWakesAllOrNothing) { FailEachOfAWake(GPUROOM_SLEEP_KEEP, false); }

TEST_F(NoMemoryContentsTest, ALazyWakeWakesAllOrNothing) { FailEachOfAWake(GPUROOM_SLEEP_KEEP, true); }

TEST_F(NoMemoryContentsTest, AWakeFromDiskWakesAllOrNothing) { FailEachOfAWake(GPUROOM_SLEEP_DISK, false); }

}  // namespace
}  // namespace gpuroom::shim_test
