// Processes: fork, exec, a shared host budget, sudden death, and what is reported at exit.
#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>

#include "child.h"
#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

constexpr uint64_t kChildSpill = 80 * kMiB;  // two of these do not fit the host limit

class ProcessTest : public ShimTest {
 protected:
  // What is allocated here, in the children too, lies on the host: they share its limit.
  void SetUp() override {
    ShimTest::SetUp();
    ASSERT_EQ(gpuroom_set_thread_hint(GPUROOM_HINT_COLD, nullptr), GPUROOM_OK);
  }
};

TEST_F(ProcessTest, AForkedChildPassesThroughAndKeepsTheParentsShare) {
  const CUdeviceptr p = Alloc(kSpilled);
  const pid_t pid = fork();
  if (pid == 0) {
    // CUDA does not survive fork; the shim must answer as the driver does, and leave the
    // parent's books alone.
    CUdeviceptr q = 0;
    const CUresult result = Cu().MemAlloc(&q, kSpilled);
    const bool passed = result != CUDA_SUCCESS || PlacementOf(q).host_bytes == 0;
    _exit(passed ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(MemInfo().free, before_.free - kSpilled);
  // Another process sees the share still taken.
  Child child = StartChild("info");
  EXPECT_EQ(child.ReadLine(), std::to_string(kHbm + kHost - kSpilled) + "\n");
  EXPECT_EQ(child.Wait(), 0);
  Fill(p, kMiB, 1);
  EXPECT_EQ(CountBad(p, kMiB, 1), 0u);
  Free(p);
}

TEST_F(ProcessTest, AnExecutedChildWorks) {
  Child child = StartChild("spill");
  EXPECT_EQ(child.ReadLine(), "spilled\n");
  child.Tell("\n");
  EXPECT_EQ(child.Wait(), 0);
}

TEST_F(ProcessTest, TogetherProcessesStayWithinTheHostLimit) {
  Child one = StartChild("spill");
  ASSERT_EQ(one.ReadLine(), "spilled\n");  // holds 80 of 96 MiB
  Child two = StartChild("spill");
  EXPECT_EQ(two.ReadLine(), "CUDA_ERROR_OUT_OF_MEMORY\n");
  EXPECT_EQ(two.Wait(), 0);
  CUdeviceptr p = 0;
  EXPECT_CU_IS(Cu().MemAlloc(&p, 96 * kMiB), CUDA_ERROR_OUT_OF_MEMORY);
  const CUdeviceptr fits = Alloc(64 * kMiB);  // 48 in HBM and the 16 that are left
  EXPECT_EQ(PlacementOf(fits).host_bytes, 16 * kMiB);
  Free(fits);
  one.Tell("\n");
  EXPECT_EQ(one.Wait(), 0);
  Free(Alloc(96 * kMiB));
}

TEST_F(ProcessTest, KillingOneGivesItsShareBack) {
  Child child = StartChild("spill");
  ASSERT_EQ(child.ReadLine(), "spilled\n");
  CUdeviceptr p = 0;
  EXPECT_CU_IS(Cu().MemAlloc(&p, 96 * kMiB), CUDA_ERROR_OUT_OF_MEMORY);
  ASSERT_EQ(kill(child.pid, SIGKILL), 0);
  EXPECT_TRUE(WIFSIGNALED(child.Wait()));
  Free(Alloc(96 * kMiB));
}

// As in a container without SYS_NICE (not permitted, not supported, operating system), and on a node without
// memory.
const char* const kRefusals[] = {"CUDA_ERROR_INVALID_VALUE", "CUDA_ERROR_OUT_OF_MEMORY",
                                 "CUDA_ERROR_OPERATING_SYSTEM", "CUDA_ERROR_NOT_PERMITTED",
                                 "CUDA_ERROR_NOT_SUPPORTED"};

std::string Refused(const std::string& kind, const std::string& result) {
  return "cuMemCreate." + kind + ":1+:" + result;
}

TEST_F(ProcessTest, HostMemoryThatNodesRefuseComesFromWhereTheDriverLikes) {
  for (const char* result : kRefusals) {
    const Environment refused = {{"GPUROOM_SIM_FAIL", Refused("HOST_NUMA", result)}};
    Child told = StartChild("info", refused);
    EXPECT_EQ(told.ReadLine(), std::to_string(kHbm + kHost) + "\n") << result;
    EXPECT_EQ(told.Wait(), 0);
    Child child = StartChild("spill", refused);
    EXPECT_EQ(child.ReadLine(), "spilled\n") << result;
    child.Tell("\n");
    EXPECT_EQ(child.Wait(), 0);
  }
}

TEST_F(ProcessTest, WhereTheDriverRefusesAllHostMemoryTheProgramHasHbmAlone) {
  for (const char* result : kRefusals) {
    const Environment refused = {
        {"GPUROOM_SIM_FAIL", Refused("HOST_NUMA", result) + "," + Refused("HOST", result)}};
    Child told = StartChild("info", refused);
    EXPECT_EQ(told.ReadLine(), std::to_string(kHbm) + "\n") << result;
    EXPECT_EQ(told.Wait(), 0);
    Child beyond = StartChild("spill", refused);
    EXPECT_EQ(beyond.ReadLine(), "CUDA_ERROR_OUT_OF_MEMORY\n") << result;
    EXPECT_EQ(beyond.Wait(), 0);
    Child within = StartChild("fit", refused);
    EXPECT_EQ(within.ReadLine(), "in HBM\n") << result;
    EXPECT_EQ(within.Wait(), 0);
  }
}

// It was there when the process began, and then no more.
TEST_F(ProcessTest, HostMemoryThatIsRefusedLaterIsLackOfMemory) {
  for (const char* result : kRefusals) {
    Child child = StartChild("late", {{"GPUROOM_LATE_FAIL", Refused("HOST_NUMA", result)}});
    EXPECT_EQ(child.ReadLine(), "CUDA_ERROR_OUT_OF_MEMORY\n") << result;
    EXPECT_EQ(child.Wait(), 0);
    for (const char* call : {"cuMemMap", "cuMemSetAccess", "cuMemAddressReserve"}) {
      Child step = StartChild("late", {{"GPUROOM_LATE_FAIL", std::string(call) + ":1+:" + result}});
      EXPECT_EQ(step.ReadLine(), "CUDA_ERROR_OUT_OF_MEMORY\n") << call << " " << result;
      EXPECT_EQ(step.Wait(), 0);
    }
  }
}

// What NVML says in a process before it uses CUDA, CUDA then, and NVML after an allocation beside CUDA after
// it.
void ExpectNvmlAgreesWithCuda(const Environment& environment) {
  Child child = StartChild("nvml", environment);
  std::string before = child.ReadLine();
  EXPECT_EQ(before, child.ReadLine());
  std::string after = child.ReadLine();
  EXPECT_EQ(after, child.ReadLine());
  EXPECT_NE(after, before);
  EXPECT_EQ(child.Wait(), 0);
}

TEST_F(ProcessTest, NvmlAgreesWithCudaBeforeAndAfterItIsUsed) {
  const std::string two = "2x1GiB,host=2GiB,peer=";
  const std::pair<const char*, const char*> managed{"GPUROOM_BACKEND", "managed"};
  for (const Environment& environment : std::vector<Environment>{
           {},
           {{"GPUROOM_HBM_LIMIT", ""}},
           {managed},
           {managed, {"GPUROOM_SIM", "1GiB,host=2GiB,coherent"}},
           {managed, {"GPUROOM_HBM_LIMIT", ""}},
           {managed, {"GPUROOM_SIM", "32GiB,host=2GiB"}, {"GPUROOM_HBM_LIMIT", ""}},
           {managed, {"GPUROOM_SIM", "32GiB,host=2GiB,coherent"}, {"GPUROOM_HBM_LIMIT", ""}},
           {{"GPUROOM_SIM", "32GiB,host=2GiB"}},
           {{"GPUROOM_PEERS", "auto"}, {"GPUROOM_SIM", two + "nvlink"}},
           {{"GPUROOM_PEERS", "auto"}, {"GPUROOM_SIM", two + "none"}},
           {{"GPUROOM_PEERS", "1"}, {"GPUROOM_SIM", two + "nvlink"}, {"GPUROOM_HBM_LIMIT", ""}},
           {{"GPUROOM_PEERS", "0,1:33554432"}, {"GPUROOM_SIM", two + "nvlink"}},
           {{"GPUROOM_PEERS", "auto"}, {"GPUROOM_SIM", two + "nvlink"}, {"CUDA_VISIBLE_DEVICES", "0"}},
           {{"GPUROOM_PEERS", "1"}, {"GPUROOM_SIM", two + "nvlink"}, {"CUDA_VISIBLE_DEVICES", "0,1"}}}) {
    std::string text;
    for (const auto& [name, value] : environment) text += name + "=" + value + " ";
    SCOPED_TRACE(text);
    ExpectNvmlAgreesWithCuda(environment);
  }
}

TEST_F(ProcessTest, WithoutLimitsEverythingPassesThrough) {
  Child child = StartChild("passthrough", {{"GPUROOM_HBM_LIMIT", ""}, {"GPUROOM_HOST_LIMIT", ""}});
  EXPECT_EQ(child.ReadLine(), "passed\n");
  EXPECT_EQ(child.Wait(), 0);
}

TEST_F(ProcessTest, WithoutADriverCallsFailAndNothingCrashes) {
  Child child = StartChild("nodriver", {{"LD_LIBRARY_PATH", "/nonexistent"}});
  EXPECT_EQ(child.ReadLine(), "failed\n");
  EXPECT_EQ(child.Wait(), 0);
}

TEST_F(ProcessTest, StatsAreOneJsonLineAProcess) {
  const std::string path = testing::TempDir() + "gpuroom-stats-" + std::to_string(getpid());
  unlink(path.c_str());
  for (int i = 0; i < 2; ++i) {
    Child child = StartChild("spill", {{"GPUROOM_STATS_FILE", path}});
    EXPECT_EQ(child.ReadLine(), "spilled\n");
    child.Tell("\n");
    EXPECT_EQ(child.Wait(), 0);
  }
  std::ifstream file(path);
  std::string line;
  int lines = 0;
  while (std::getline(file, line)) {
    ++lines;
    EXPECT_EQ(line.find("{\"pid\":"), 0u) << line;
    EXPECT_NE(line.find("\"host_bytes\":{\"current\":0,\"peak\":83886080,\"numa_node\":0}"),
              std::string::npos)
        << line;
    EXPECT_NE(line.find("\"hbm_bytes\":{\"current\":0,"), std::string::npos) << line;
    EXPECT_NE(line.find("\"spilled\":1,\"largest\":83886080"), std::string::npos) << line;
    EXPECT_NE(line.find("\"shim_seconds\":"), std::string::npos) << line;
    EXPECT_EQ(line.back(), '}');
  }
  EXPECT_EQ(lines, 2);
  unlink(path.c_str());
}

TEST_F(ProcessTest, KeptHostChunksServeTheNextRequest) {
  Child child =
      StartChild("keep", {{"GPUROOM_HOST_KEEP", std::to_string(64 * kMiB)}, {"GPUROOM_SIM_STRICT", "0"}});
  EXPECT_EQ(child.ReadLine(), "1\n");  // one cuMemCreate on the host for three allocations
  EXPECT_EQ(child.Wait(), 0);
}

TEST_F(ProcessTest, WithoutAThreadForHostMemoryAheadTheProgramRuns) {
  Child child = StartChild("threadless", {{"GPUROOM_HOST_AHEAD", std::to_string(64 * kMiB)}});
  EXPECT_EQ(child.ReadLine(), "allocated\n");
  EXPECT_EQ(child.Wait(), 0);
}

std::string SizesText(uint64_t total, uint64_t free, uint64_t used) {
  return "total " + std::to_string(total) + " free " + std::to_string(free) + " used " + std::to_string(used);
}

std::string CudaText() {
  const Info info = MemInfo();
  return SizesText(info.total, info.free, info.total - info.free);
}

// Of GPU 0, where both forms say the same; else what they say.
std::string NvmlText() {
  struct {
    unsigned long long total, free, used;
  } one{};
  struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
  } two{sizeof two | 2u << 24, 0, 0, 0, 0};
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
  void* device = nullptr;
  const auto get = [library](const char* name) { return dlsym(library, name); };
  reinterpret_cast<int (*)()>(get("nvmlInit_v2"))();
  reinterpret_cast<int (*)(unsigned, void**)>(get("nvmlDeviceGetHandleByIndex_v2"))(0, &device);
  if (reinterpret_cast<int (*)(void*, void*)>(get("nvmlDeviceGetMemoryInfo"))(device, &one) != 0)
    return "no v1";
  if (reinterpret_cast<int (*)(void*, void*)>(get("nvmlDeviceGetMemoryInfo_v2"))(device, &two) != 0)
    return "no v2";
  const std::string first = SizesText(one.total, one.free, one.used);
  const std::string second = SizesText(two.total, two.free, two.used + two.reserved);
  const bool whole = two.used <= two.total && two.reserved <= two.total;
  return first == second && whole ? first : first + "; v2 " + second;
}

}  // namespace

// What the children do. The exit status is 0 where they did it.
int Play(const std::string& role) {
  gpuroom_set_thread_hint(GPUROOM_HINT_COLD, nullptr);
  const auto say = [](const std::string& text) {
    std::printf("%s\n", text.c_str());
    std::fflush(stdout);
  };
  if (role == "nodriver") {
    // Found in the global scope, though no driver is there.
    CUdeviceptr p = 0;
    const bool failed = ::cuMemAlloc_v2(&p, kSpilled) != CUDA_SUCCESS && ::cuMemFree_v2(0) != CUDA_SUCCESS;
    say(failed ? "failed" : "succeeded");
    return 0;
  }
  if (role == "nvml") {
    say(NvmlText());
    UseDevice(0);
    say(CudaText());
    CUdeviceptr p = 0;
    if (Cu().MemAlloc(&p, kThreshold) != CUDA_SUCCESS) return 1;
    say(NvmlText());
    say(CudaText());
    return Cu().MemFree(p);
  }
  UseDevice(0);
  if (role == "info") {
    say(std::to_string(MemInfo().free));
    return 0;
  }
  CUdeviceptr p = 0;
  if (role == "threadless") {
    Spin(1);  // the simulated driver has its thread
    if (Cu().CtxSynchronize() != CUDA_SUCCESS) return 1;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, size_t{1} << 50);  // more than there are addresses
    if (pthread_setattr_default_np(&attributes) != 0) return 1;
    say(Cu().MemAlloc(&p, 4096) == CUDA_SUCCESS ? "allocated" : "failed");
    return Cu().MemFree(p);
  }
  if (role == "passthrough") {
    const CUresult result = Cu().MemAlloc(&p, 512 * kMiB);
    say(result == CUDA_SUCCESS && PlacementOf(p).device_bytes == 0 && MemInfo().total == kGiB ? "passed"
                                                                                              : "changed");
    return Cu().MemFree(p);
  }
  if (role == "keep") {
    MemInfo();  // where host memory comes from has been tried
    const uint64_t before = GetSim().call_count("cuMemCreate");
    for (int i = 0; i < 3; ++i) {
      if (Cu().MemAlloc(&p, kSpilled) != CUDA_SUCCESS || Cu().MemFree(p) != CUDA_SUCCESS) return 1;
    }
    say(std::to_string(GetSim().call_count("cuMemCreate") - before));
    return 0;
  }
  if (role == "fit") {
    if (Cu().MemAlloc(&p, kThreshold) != CUDA_SUCCESS) return 1;
    say(PlacementOf(p).device_bytes == kThreshold ? "in HBM" : "elsewhere");
    return Cu().MemFree(p);
  }
  if (role == "late") {
    if (MemInfo().free != kHbm + kHost) return 1;
    GetSim().fail(std::getenv("GPUROOM_LATE_FAIL"));
  }
  const CUresult result = Cu().MemAlloc(&p, kChildSpill);
  say(result == CUDA_SUCCESS ? "spilled" : NameOf(result));
  if (result != CUDA_SUCCESS) return 0;
  char byte = 0;
  if (read(STDIN_FILENO, &byte, 1) < 0) return 1;  // until told, or until nobody is there
  return Cu().MemFree(p);
}

}  // namespace gpuroom::shim_test

int main(int argc, char** argv) {
  if (argc == 2 && argv[1][0] != '-') return gpuroom::shim_test::Play(argv[1]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
