// Processes that share one simulated machine's memory.
#include <dlfcn.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <string>

#include "sim_test.h"

namespace gpuroom::sim {
namespace {

constexpr size_t kGpuBytes = 64 * kMega;  // of each GPU and of both host nodes together, by CMakeLists.txt

// A process on the same machine that has done `work` and stays.
class Neighbour {
 public:
  explicit Neighbour(const std::function<bool()>& work) {
    int ready[2];
    if (pipe(ready) != 0) return;
    child_ = fork();
    if (child_ == 0) {
      const char done = work() ? 'y' : 'n';
      _exit(write(ready[1], &done, 1) == 1 ? pause() : 1);
    }
    close(ready[1]);
    char done = 'n';
    EXPECT_EQ(read(ready[0], &done, 1), 1);
    EXPECT_EQ(done, 'y');
    close(ready[0]);
  }
  ~Neighbour() { Kill(); }
  void Kill() {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    child_ = -1;
  }

 private:
  pid_t child_ = -1;
};

bool UseGpu(int device) {
  CUcontext context = nullptr;
  return cuInit(0) == CUDA_SUCCESS && cuDevicePrimaryCtxRetain(&context, device) == CUDA_SUCCESS &&
         cuCtxSetCurrent(context) == CUDA_SUCCESS;
}

bool AllocateOn(int device, size_t bytes) {
  CUdeviceptr address = 0;
  return UseGpu(device) && cuMemAlloc(&address, bytes) == CUDA_SUCCESS;
}

CUresult CreateOn(CUmemLocationType type, int id, size_t bytes) {
  CUmemAllocationProp prop = {};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = type;
  prop.location.id = id;
  CUmemGenericAllocationHandle handle = 0;
  const CUresult result = cuMemCreate(&handle, bytes, &prop, 0);
  if (result == CUDA_SUCCESS) cuMemRelease(handle);
  return result;
}

size_t FreeHbm() {
  size_t free_bytes = 0;
  size_t total = 0;
  EXPECT_EQ(cuMemGetInfo(&free_bytes, &total), CUDA_SUCCESS);
  EXPECT_EQ(total, kGpuBytes);
  return free_bytes;
}

class MachineTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(setenv("GPUROOM_SIM_MACHINE", file_.c_str(), 1), 0); }
  void TearDown() override { unlink(file_.c_str()); }
  const std::string file_ = ::testing::TempDir() + "gpuroom-machine-" + std::to_string(getpid());
};

TEST_F(MachineTest, ProcessesSeeWhatTheOthersLeave) {
  Neighbour neighbour([] { return AllocateOn(0, 24 * kMega); });
  ASSERT_TRUE(UseGpu(0));
  EXPECT_EQ(FreeHbm(), kGpuBytes - 24 * kMega);
  EXPECT_EQ(gpuroom_sim_used(0), 0U);
  EXPECT_EQ(CreateOn(CU_MEM_LOCATION_TYPE_DEVICE, 0, 42 * kMega), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(CreateOn(CU_MEM_LOCATION_TYPE_DEVICE, 0, 40 * kMega), CUDA_SUCCESS);
  EXPECT_EQ(CreateOn(CU_MEM_LOCATION_TYPE_DEVICE, 1, kGpuBytes), CUDA_SUCCESS);
}

TEST_F(MachineTest, WhatAKilledProcessUsedComesBack) {
  Neighbour neighbour([] { return AllocateOn(0, 24 * kMega); });
  ASSERT_TRUE(UseGpu(0));
  neighbour.Kill();
  EXPECT_EQ(FreeHbm(), kGpuBytes);
  EXPECT_EQ(CreateOn(CU_MEM_LOCATION_TYPE_DEVICE, 0, kGpuBytes), CUDA_SUCCESS);
}

TEST_F(MachineTest, HostNodesAreSharedAsWell) {
  Neighbour neighbour([] {
    CUmemAllocationProp prop = {};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
    prop.location.id = 1;
    CUmemGenericAllocationHandle handle = 0;
    return UseGpu(0) && cuMemCreate(&handle, 20 * kMega, &prop, 0) == CUDA_SUCCESS;
  });
  ASSERT_TRUE(UseGpu(0));
  EXPECT_EQ(CreateOn(CU_MEM_LOCATION_TYPE_HOST_NUMA, 1, 14 * kMega), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(CreateOn(CU_MEM_LOCATION_TYPE_HOST_NUMA, 1, 12 * kMega), CUDA_SUCCESS);
  EXPECT_EQ(CreateOn(CU_MEM_LOCATION_TYPE_HOST_NUMA, 0, 32 * kMega), CUDA_SUCCESS);
}

TEST_F(MachineTest, APlaceHasOneNameWhateverAProcessSees) {
  Neighbour neighbour(
      [] { return setenv("CUDA_VISIBLE_DEVICES", "1", 1) == 0 && AllocateOn(0, 24 * kMega); });
  ASSERT_TRUE(UseGpu(0));
  EXPECT_EQ(FreeHbm(), kGpuBytes);
  ASSERT_TRUE(UseGpu(1));
  EXPECT_EQ(FreeHbm(), kGpuBytes - 24 * kMega);
}

TEST_F(MachineTest, WithoutAFileEachProcessHasItsOwn) {
  unsetenv("GPUROOM_SIM_MACHINE");
  Neighbour neighbour([] { return AllocateOn(0, kGpuBytes); });
  ASSERT_TRUE(UseGpu(0));
  EXPECT_EQ(FreeHbm(), kGpuBytes);
}

TEST_F(MachineTest, AFileThatCannotBeMadeKeepsTheDriverFromStarting) {
  setenv("GPUROOM_SIM_MACHINE", "/dev/null/machine", 1);
  EXPECT_EQ(cuInit(0), CUDA_ERROR_SYSTEM_NOT_READY);
}

// A process that asks NVML alone, as nvidia-smi is.
TEST_F(MachineTest, NvmlKnowsWhatAllUse) {
  Neighbour neighbour([] { return AllocateOn(1, 24 * kMega); });
  void* library = dlopen(SIM_NVML_PATH, RTLD_NOW);
  ASSERT_NE(library, nullptr) << dlerror();
  const auto get = [library](const char* name) { return dlsym(library, name); };
  ASSERT_EQ(reinterpret_cast<int (*)()>(get("nvmlInit_v2"))(), 0);
  void* device = nullptr;
  ASSERT_EQ(reinterpret_cast<int (*)(unsigned, void**)>(get("nvmlDeviceGetHandleByIndex_v2"))(1, &device), 0);
  unsigned long long memory[3] = {};
  ASSERT_EQ(reinterpret_cast<int (*)(void*, void*)>(get("nvmlDeviceGetMemoryInfo"))(device, memory), 0);
  EXPECT_EQ(memory[1], kGpuBytes - 24 * kMega);
}

}  // namespace
}  // namespace gpuroom::sim
