// How programs come by the driver's functions: dlsym with every kind of handle, and
// cuGetProcAddress in both versions.
#include <dlfcn.h>

#include <cstdlib>
#include <thread>

#include "shim_test.h"

extern "C" void* AskNext(const char* name);
extern "C" __attribute__((visibility("default"))) int gpuroom_test_which() { return 1; }

namespace gpuroom::shim_test {
namespace {

using LookupTest = ShimTest;
using GetV1 = CUresult (*)(const char*, void**, int, cuuint64_t);
using GetV2 = CUresult (*)(const char*, void**, int, cuuint64_t, CUdriverProcAddressQueryResult*);

template <typename Function>
Function Symbol(const char* name) {
  return reinterpret_cast<Function>(dlsym(LibCuda(), name));
}

std::string FileOf(void* address) {
  Dl_info info{};
  return dladdr(address, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}
bool InShim(void* address) { return FileOf(address).find("libgpuroom.so") != std::string::npos; }
bool InDriver(void* address) { return FileOf(address).find("libcuda.so") != std::string::npos; }

TEST_F(LookupTest, DlsymGivesTheShimForWhatItHooksAndTheDriverForTheRest) {
  for (const char* name : {"cuMemAlloc_v2", "cuMemFree_v2", "cuMemCreate", "cuGetProcAddress_v2",
                           "cuGetProcAddress", "cuMemGetInfo_v2", "cuMemAllocAsync", "cuMemFreeAsync_ptsz",
                           "cuLaunchKernel", "cuMemcpyHtoD_v2", "cuMemcpyDtoDAsync_v2_ptsz"}) {
    EXPECT_TRUE(InShim(dlsym(LibCuda(), name))) << name;
  }
  for (const char* name : {"cuInit", "cuStreamSynchronize", "cuModuleLoadData", "gpuroom_sim_fail"}) {
    EXPECT_TRUE(InDriver(dlsym(LibCuda(), name))) << name;
  }
}

TEST_F(LookupTest, EveryHandleOfTheDriverWillDo) {
  void* again = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  void* loaded = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  EXPECT_TRUE(InShim(dlsym(again, "cuMemAlloc_v2")));
  EXPECT_TRUE(InShim(dlsym(loaded, "cuMemAlloc_v2")));
  dlclose(again);
  dlclose(loaded);
}

TEST_F(LookupTest, TheGlobalScopeFindsTheShimFirst) {
  EXPECT_TRUE(InShim(dlsym(RTLD_DEFAULT, "cuMemAlloc_v2")));
  void* program = dlopen(nullptr, RTLD_NOW);
  EXPECT_TRUE(InShim(dlsym(program, "cuMemAlloc_v2")));
  dlclose(program);
}

TEST_F(LookupTest, NextKeepsTheCallerRight) {
  // After the helper library come neither the program nor the shim.
  EXPECT_EQ(AskNext("gpuroom_test_which"), nullptr);
  EXPECT_FALSE(InShim(AskNext("cuMemAlloc_v2")));
  // And what is asked of the next one there is found: the C library's.
  EXPECT_EQ(AskNext("lrand48"), reinterpret_cast<void*>(&lrand48));  // sanitizers leave it alone
  EXPECT_EQ(dlsym(RTLD_DEFAULT, "gpuroom_test_which"), reinterpret_cast<void*>(&gpuroom_test_which));
}

TEST_F(LookupTest, UnknownNamesLeaveDlerrorAsTheCLibraryWouldHave) {
  (void)dlerror();
  EXPECT_EQ(dlsym(LibCuda(), "cuNoSuchThing"), nullptr);
  const char* error = dlerror();
  ASSERT_NE(error, nullptr);
  EXPECT_NE(std::string(error).find("cuNoSuchThing"), std::string::npos) << error;
  EXPECT_EQ(dlerror(), nullptr);
  // A hooked name in a library that has no such symbol.
  void* libc = dlopen("libc.so.6", RTLD_NOW);
  EXPECT_EQ(dlsym(libc, "nvmlDeviceGetMemoryInfo"), nullptr);
  EXPECT_NE(dlerror(), nullptr);
  EXPECT_NE(dlsym(LibCuda(), "cuMemAlloc_v2"), nullptr);
  EXPECT_EQ(dlerror(), nullptr);
  dlclose(libc);
}

TEST_F(LookupTest, DlvsymIsLeftAlone) {
#if defined(__x86_64__)
  EXPECT_NE(dlvsym(RTLD_DEFAULT, "qsort", "GLIBC_2.2.5"), nullptr);
#else
  EXPECT_NE(dlvsym(RTLD_DEFAULT, "qsort", "GLIBC_2.17"), nullptr);
#endif
  EXPECT_EQ(dlvsym(RTLD_DEFAULT, "qsort", "GLIBC_1.0"), nullptr);
}

TEST_F(LookupTest, GetProcAddressGivesTheShimInBothVersions) {
  void* one = nullptr;
  void* two = nullptr;
  CUdriverProcAddressQueryResult status{};
  ASSERT_CU(Symbol<GetV1>("cuGetProcAddress")("cuMemAlloc", &one, 12000, 0));
  ASSERT_CU(Symbol<GetV2>("cuGetProcAddress_v2")("cuMemAlloc", &two, 13000, 0, &status));
  EXPECT_TRUE(InShim(one));
  EXPECT_EQ(one, two);
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_SUCCESS);
  EXPECT_EQ(one, dlsym(LibCuda(), "cuMemAlloc_v2"));
  ASSERT_CU(Symbol<GetV2>("cuGetProcAddress_v2")("cuInit", &two, 13000, 0, nullptr));
  EXPECT_TRUE(InDriver(two));
}

TEST_F(LookupTest, GetProcAddressOfItselfStaysInFront) {
  void* found = nullptr;
  ASSERT_CU(Symbol<GetV2>("cuGetProcAddress_v2")("cuGetProcAddress", &found, 13000, 0, nullptr));
  EXPECT_EQ(found, dlsym(LibCuda(), "cuGetProcAddress_v2"));
  void* again = nullptr;
  ASSERT_CU(reinterpret_cast<GetV2>(found)("cuMemCreate", &again, 13000, 0, nullptr));
  EXPECT_TRUE(InShim(again));
  ASSERT_CU(Symbol<GetV2>("cuGetProcAddress_v2")("cuGetProcAddress", &found, 11080, 0, nullptr));
  EXPECT_EQ(found, dlsym(LibCuda(), "cuGetProcAddress"));
}

TEST_F(LookupTest, FlagsChooseTheDefaultStream) {
  const auto get = Symbol<GetV2>("cuGetProcAddress_v2");
  void* legacy = nullptr;
  void* per_thread = nullptr;
  ASSERT_CU(get("cuMemAllocAsync", &legacy, 13000, CU_GET_PROC_ADDRESS_LEGACY_STREAM, nullptr));
  ASSERT_CU(
      get("cuMemAllocAsync", &per_thread, 13000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, nullptr));
  EXPECT_EQ(legacy, dlsym(LibCuda(), "cuMemAllocAsync"));
  EXPECT_EQ(per_thread, dlsym(LibCuda(), "cuMemAllocAsync_ptsz"));
  ASSERT_CU(get("cuMemAlloc", &per_thread, 13000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, nullptr));
  EXPECT_TRUE(InShim(per_thread));
}

TEST_F(LookupTest, VersionsAndUnknownNamesGetTheDriversAnswer) {
  const auto get = Symbol<GetV2>("cuGetProcAddress_v2");
  CUdriverProcAddressQueryResult status{};
  void* found = &status;
  (void)get("cuNoSuchThing", &found, 13000, 0, &status);
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
  EXPECT_EQ(found, nullptr);
  // Whether this is an error depends on the driver; a function of ours it is not.
  (void)get("cuMemCreate", &found, 9000, 0, &status);
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
  EXPECT_EQ(found, nullptr);
}

TEST_F(LookupTest, ThreadsMayAskAtOnce) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([] {
      for (int round = 0; round < 200; ++round) {
        EXPECT_TRUE(dlsym(LibCuda(), "cuMemAlloc_v2") != nullptr);
        EXPECT_EQ(dlsym(LibCuda(), "cuNoSuchThing"), nullptr);
        EXPECT_NE(dlerror(), nullptr);  // of this thread
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace gpuroom::shim_test
