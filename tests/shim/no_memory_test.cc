// The host has no memory for the library's own records: each of its allocations fails in turn. No call ends
// the program; each gives an answer of the driver's, and what comes after works.
#include <dlfcn.h>
#include <link.h>

#include <cstdlib>

#include "shim_test.h"

extern "C" void* __libc_malloc(size_t);

namespace {

struct Extent {
  uintptr_t begin = 0;
  uintptr_t end = 0;
};

Extent g_library;             // where libgpuroom.so is mapped
thread_local int t_left = 0;  // of this thread: the library's allocations until one fails; 0: none does
thread_local bool t_failed = false;

bool IsLibrarys(const void* caller) {
  const auto at = reinterpret_cast<uintptr_t>(caller);
  return at >= g_library.begin && at < g_library.end;
}

}  // namespace

extern "C" void* malloc(size_t bytes) {
  if (t_left > 0 && IsLibrarys(__builtin_return_address(0)) && --t_left == 0) {
    t_failed = true;
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

class NoMemoryTest : public ShimTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(dl_iterate_phdr(FindLibrary, nullptr), 1);
    ShimTest::SetUp();
  }

  // Runs `call` once for each allocation that the library makes in it, with that one failing, and `check`
  // after each. Returns how many there were.
  template <typename Call, typename Check>
  static int FailEach(Call call, Check check) {
    for (int turn = 1;; ++turn) {
      t_failed = false;
      t_left = turn;
      const CUresult result = call();
      t_left = 0;
      EXPECT_TRUE(result == CUDA_SUCCESS || result == CUDA_ERROR_OUT_OF_MEMORY) << NameOf(result);
      check(result);
      if (!t_failed) return turn - 1;
    }
  }
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

}  // namespace
}  // namespace gpuroom::shim_test
