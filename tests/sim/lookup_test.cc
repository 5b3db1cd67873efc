#include <dlfcn.h>

#include <cstdlib>
#include <string>

#include "sim_test.h"

namespace gpuroom::sim {
namespace {

struct Export {
  const char* name;
  const char* symbol;
  int version;
  const char* suffix;
};

constexpr Export kExports[] = {
#define SIM_FUNCTION(name, symbol, version) {#name, #symbol, version, nullptr},
#define SIM_STREAM_FUNCTION(name, symbol, version, suffix, thread_version, arity) \
  {#name, #symbol, version, #suffix},
#include "entry_points.def"
};

TEST(LookupTest, EveryEntryIsExportedAndFoundAtItsVersion) {
  for (const Export& entry : kExports) {
    void* symbol = dlsym(RTLD_DEFAULT, entry.symbol);
    EXPECT_NE(symbol, nullptr) << entry.symbol;
    void* found = nullptr;
    ASSERT_EQ(cuGetProcAddress(entry.name, &found, entry.version, CU_GET_PROC_ADDRESS_DEFAULT, nullptr),
              CUDA_SUCCESS)
        << entry.name;
    EXPECT_EQ(found, symbol) << entry.symbol;
    if (entry.suffix == nullptr) continue;
    void* per_thread = dlsym(RTLD_DEFAULT, (std::string(entry.symbol) + entry.suffix).c_str());
    ASSERT_NE(per_thread, nullptr) << entry.symbol;
    ASSERT_EQ(
        cuGetProcAddress(entry.name, &found, 13000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, nullptr),
        CUDA_SUCCESS);
    EXPECT_NE(found, nullptr);
    EXPECT_NE(found, symbol);
  }
}

TEST(LookupTest, AVersionBeforeTheFunctionSaysSo) {
  void* found = nullptr;
  CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SUCCESS;
  EXPECT_EQ(cuGetProcAddress("cuMemAllocAsync", &found, 11010, 0, &status), CUDA_SUCCESS);
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
  EXPECT_EQ(cuGetProcAddress("cuNoSuchThing", &found, 13000, 0, &status), CUDA_SUCCESS);
  EXPECT_EQ(found, nullptr);
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
}

TEST(NvmlTest, MemoryFollowsThisProcess) {
  struct Memory {
    unsigned long long total, free, used;
  };
  void* library = dlopen(SIM_NVML_PATH, RTLD_NOW);
  ASSERT_NE(library, nullptr) << dlerror();
  const auto init = reinterpret_cast<int (*)()>(dlsym(library, "nvmlInit_v2"));
  const auto by_index =
      reinterpret_cast<int (*)(unsigned, void**)>(dlsym(library, "nvmlDeviceGetHandleByIndex_v2"));
  const auto memory_info =
      reinterpret_cast<int (*)(void*, Memory*)>(dlsym(library, "nvmlDeviceGetMemoryInfo"));
  void* device = nullptr;
  EXPECT_EQ(by_index(0, &device), 1);  // not initialised
  ASSERT_EQ(init(), 0);
  ASSERT_EQ(by_index(0, &device), 0);
  CUcontext context = nullptr;
  ASSERT_EQ(cuInit(0), CUDA_SUCCESS);
  ASSERT_EQ(cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
  ASSERT_EQ(cuCtxSetCurrent(context), CUDA_SUCCESS);
  CUdeviceptr address = 0;
  ASSERT_EQ(cuMemAlloc(&address, 8 * kMega), CUDA_SUCCESS);
  Memory memory = {};
  ASSERT_EQ(memory_info(device, &memory), 0);
  EXPECT_EQ(memory.total, 64 * kMega);
  EXPECT_EQ(memory.used, 8 * kMega);
  EXPECT_EQ(memory.free, 56 * kMega);
  EXPECT_EQ(cuMemFree(address), CUDA_SUCCESS);
}

TEST(NvmlTest, AGpuWithoutMemoryOfItsOwnHasNoFigures) {
  setenv("GPUROOM_SIM", "gb10", 1);
  void* library = dlopen(SIM_NVML_PATH, RTLD_NOW);
  ASSERT_NE(library, nullptr) << dlerror();
  const auto get = [library](const char* name) { return dlsym(library, name); };
  ASSERT_EQ(reinterpret_cast<int (*)()>(get("nvmlInit_v2"))(), 0);
  void* device = nullptr;
  ASSERT_EQ(reinterpret_cast<int (*)(unsigned, void**)>(get("nvmlDeviceGetHandleByIndex_v2"))(0, &device), 0);
  unsigned long long memory[5] = {40 | 2U << 24};
  for (const char* name : {"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2"}) {
    EXPECT_EQ(reinterpret_cast<int (*)(void*, void*)>(get(name))(device, memory), 3)
        << name;  // not supported
  }
  char text[96] = {};
  EXPECT_EQ(
      reinterpret_cast<int (*)(void*, char*, unsigned)>(get("nvmlDeviceGetName"))(device, text, sizeof text),
      0);
}

}  // namespace
}  // namespace gpuroom::sim
