// Sleep in processes that fork and that end.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "child.h"
#include "sleep_fixture.h"

namespace gpuroom::shim_test {
namespace {

constexpr uint64_t kSize = 4 * kMiB;

class SleepProcessTest : public SleepTest {
 protected:
  void TearDown() override {
    EXPECT_EQ(gpuroom_trim(0), GPUROOM_OK);
    SleepTest::TearDown();
  }
  static void ExpectEnds(const char* role, const Environment& environment = {}) {
    Environment all = {{"GPUROOM_SIM_STRICT", "0"}};  // it leaves memory behind
    all.insert(all.end(), environment.begin(), environment.end());
    Child child = StartChild(role, all);
    EXPECT_EQ(child.ReadLine(), "asleep\n");
    EXPECT_EQ(child.Wait(), 0);
  }
};

TEST_F(SleepProcessTest, AForkedChildHoldsNothingAndTheParentWakes) {
  const CUdeviceptr p = AllocTagged("t", kSize);
  Fill(p, kSize, 3);
  Sleep({}, GPUROOM_HOLD_WAIT);
  const pid_t pid = fork();
  if (pid == 0) {
    // Calls answer as the driver's own do in a forked child, and none waits for a wake.
    const uint64_t word = 0;
    const bool copied = Cu().MemcpyHtoD(p, &word, sizeof word) == CUDA_SUCCESS;
    const bool woke = gpuroom_wake(nullptr, 0, 0, nullptr, 0) == GPUROOM_OK;
    _exit(copied || woke ? 1 : 0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  Wake();
  EXPECT_EQ(CountBad(p, kSize, 3), 0u);
  Free(p);
}

TEST_F(SleepProcessTest, MayEndAsleep) {
  ExpectEnds("kept");
  ExpectEnds("waiting");
  ExpectEnds("returning");
}

TEST_F(SleepProcessTest, AResetOfTheDeviceForgetsWhatSleeps) { ExpectEnds("reset"); }

TEST_F(SleepProcessTest, LeavesNoFilesBehind) {
  const std::filesystem::path directory = testing::TempDir() + "gpuroom-sleep-" + std::to_string(getpid());
  std::filesystem::create_directory(directory);
  ExpectEnds("disk", {{"GPUROOM_SLEEP_DIR", directory.string()}});
  EXPECT_TRUE(std::filesystem::is_empty(directory));
  std::filesystem::remove_all(directory);
}

// A destructor that copies when the process ends asleep: it is refused instead of waiting for ever.
struct CopiesAtExit {
  ~CopiesAtExit() {
    const uint64_t word = 0;
    if (p != 0 && Cu().MemcpyHtoD(p, &word, sizeof word) != CUDA_ERROR_ILLEGAL_STATE) _exit(3);
  }
  CUdeviceptr p = 0;
};
CopiesAtExit g_copies;

bool ResetForgets() {
  const auto reset = reinterpret_cast<CUresult (*)(CUdevice)>(dlsym(LibCuda(), "cuDevicePrimaryCtxReset_v2"));
  std::array<gpuroom_tag_state, 4> states{};
  size_t count = 0;
  if (reset(0) != CUDA_SUCCESS) return false;
  gpuroom_sleep_states(states.data(), states.size(), &count, sizeof states[0]);
  for (size_t i = 0; i < count; ++i) {
    if (states[i].ranges != 0) return false;
  }
  return gpuroom_wake(nullptr, 0, 0, nullptr, 0) == GPUROOM_OK;
}

int Say() {
  std::printf("asleep\n");
  std::fflush(stdout);
  return 0;
}

}  // namespace

int Play(const std::string& role) {
  UseDevice(0);
  CUdeviceptr p = 0;
  if (gpuroom_set_thread_hint(GPUROOM_HINT_COLD, "t") != GPUROOM_OK || Cu().MemAlloc(&p, 32 * kMiB) != 0 ||
      Cu().MemFree(p) != 0) {
    return 1;  // host memory is kept now
  }
  gpuroom_set_thread_hint(GPUROOM_HINT_NONE, "t");
  if (Cu().MemAlloc(&p, 32 * kMiB) != 0) return 1;
  const gpuroom_tag_action action = {"t", role == "disk" ? GPUROOM_SLEEP_DISK : GPUROOM_SLEEP_KEEP};
  const int hold = role == "waiting" ? GPUROOM_HOLD_WAIT : GPUROOM_HOLD_NONE;
  const gpuroom_sleep_request request = {&action, 1, nullptr, hold, 0};
  if (gpuroom_sleep(&request, sizeof request, nullptr, 0) != GPUROOM_OK) return 2;
  if (role == "waiting") g_copies.p = p;
  if (role == "returning" && gpuroom_wake(nullptr, 0, 1, nullptr, 0) != GPUROOM_OK) return 2;
  if (role == "reset" && !ResetForgets()) return 4;
  return Say();
}

}  // namespace gpuroom::shim_test

int main(int argc, char** argv) {
  if (argc == 2 && argv[1][0] != '-') return gpuroom::shim_test::Play(argv[1]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
