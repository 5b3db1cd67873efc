// What the program is told of memory.
#include <dlfcn.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <thread>

#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

using QueryTest = ShimTest;

TEST_F(QueryTest, TotalIsBothTiers) {
  size_t total = 0;
  EXPECT_CU(Cu().DeviceTotalMem(&total, 0));
  EXPECT_EQ(total, kHbm + kHost);
  EXPECT_EQ(MemInfo().total, kHbm + kHost);
  EXPECT_EQ(MemInfo().free, kHbm + kHost);
}

std::atomic<int> g_trapped{0};

// From now on the kernel counts this thread's calls of getpid in g_trapped, and lets all others through;
// false where it cannot. The count says what the call would have cost: it goes through the kernel each time.
bool TrapQuestionsForTheProcess() {
  struct sigaction action {};
  action.sa_sigaction = [](int, siginfo_t*, void*) { ++g_trapped; };
  action.sa_flags = SA_SIGINFO;
  sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 0, 1),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program{sizeof code / sizeof code[0], code};
  return sigaction(SIGSYS, &action, nullptr) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

// Programs ask often, and a call of the kernel costs as much as all the rest of the question.
TEST_F(QueryTest, FreeMemoryIsKnownWithoutTheKernel) {
  bool trapping = false;
  int asked = 0, asked_before = 0;
  std::thread([&] {
    UseDevice(0);
    static_cast<void>(MemInfo());
    trapping = TrapQuestionsForTheProcess();
    static_cast<void>(syscall(SYS_getpid));
    asked_before = g_trapped;
    for (int i = 0; i < 1000; ++i) static_cast<void>(MemInfo());
    asked = g_trapped - asked_before;
  }).join();
  if (!trapping) GTEST_SKIP() << "this kernel, or an emulator, filters no system calls";
  EXPECT_EQ(asked_before, 1);
  EXPECT_LT(asked, 100);  // others' shares are looked at now and then
}

struct NvmlMemory {
  unsigned long long total, free, used;
};
struct NvmlMemoryV2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};

// NVML as programs use it: dlopen, dlsym.
class NvmlTest : public ShimTest {
 protected:
  void SetUp() override {
    ShimTest::SetUp();
    void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    ASSERT_NE(library, nullptr) << dlerror();
    const auto init = reinterpret_cast<int (*)()>(dlsym(library, "nvmlInit_v2"));
    const auto get =
        reinterpret_cast<int (*)(unsigned, void**)>(dlsym(library, "nvmlDeviceGetHandleByIndex_v2"));
    info_ = reinterpret_cast<int (*)(void*, NvmlMemory*)>(dlsym(library, "nvmlDeviceGetMemoryInfo"));
    info_v2_ = reinterpret_cast<int (*)(void*, NvmlMemoryV2*)>(dlsym(library, "nvmlDeviceGetMemoryInfo_v2"));
    ASSERT_TRUE(init != nullptr && get != nullptr && info_ != nullptr && info_v2_ != nullptr);
    ASSERT_EQ(init(), 0);
    ASSERT_EQ(get(0, &device_), 0);
  }
  void ExpectAgreement() {
    const Info cuda = MemInfo();
    NvmlMemory one{};
    ASSERT_EQ(info_(device_, &one), 0);
    EXPECT_EQ(one.total, cuda.total);
    EXPECT_EQ(one.free, cuda.free);
    EXPECT_EQ(one.used, cuda.total - cuda.free);
    NvmlMemoryV2 two{};
    two.version = sizeof two | 2u << 24;
    ASSERT_EQ(info_v2_(device_, &two), 0);
    EXPECT_EQ(two.total, cuda.total);
    EXPECT_EQ(two.free, cuda.free);
    EXPECT_EQ(two.used + two.reserved, cuda.total - cuda.free);
  }

  void* device_ = nullptr;
  int (*info_)(void*, NvmlMemory*) = nullptr;
  int (*info_v2_)(void*, NvmlMemoryV2*) = nullptr;
};

TEST_F(NvmlTest, AgreesWithCudaBeforeDuringAndAfter) {
  ExpectAgreement();
  const CUdeviceptr range = Alloc(kForRanges);
  ExpectAgreement();
  const CUdeviceptr spilled = Alloc(32 * kMiB);
  EXPECT_EQ(PlacementOf(spilled).host_bytes, 32 * kMiB);
  const CUdeviceptr small = Alloc(kMiB);
  EXPECT_EQ(MemInfo().free, before_.free - kForRanges - 33 * kMiB);
  ExpectAgreement();
  Free(small);
  Free(spilled);
  Free(range);
  ExpectAgreement();
}

TEST_F(NvmlTest, AgreesWithCudaForAPartOfAGpu) {
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
  const auto name = reinterpret_cast<int (*)(void*, char*, unsigned)>(dlsym(library, "nvmlDeviceGetUUID"));
  const auto find =
      reinterpret_cast<int (*)(const char*, void**)>(dlsym(library, "nvmlDeviceGetHandleByUUID"));
  char uuid[96] = {};
  ASSERT_EQ(name(device_, uuid, sizeof uuid), 0);
  ASSERT_EQ(find(("MIG-" + std::string(uuid).substr(4)).c_str(), &device_), 0);
  ExpectAgreement();
  const CUdeviceptr p = Alloc(kSpilled);
  ExpectAgreement();
  Free(p);
}

class PointerTest : public ShimTest, public testing::WithParamInterface<uint64_t> {};

template <typename T>
T Attribute(CUdeviceptr p, CUpointer_attribute attribute) {
  T value{};
  EXPECT_CU(Cu().PointerGetAttribute(&value, attribute, p)) << attribute;
  return value;
}

TEST_P(PointerTest, LooksLikeDeviceMemoryEverywhereInside) {
  const uint64_t bytes = GetParam() - 5000;
  const CUdeviceptr p = Alloc(bytes);
  const CUcontext context = UseDevice(0);
  const auto id = Attribute<unsigned long long>(p, CU_POINTER_ATTRIBUTE_BUFFER_ID);
  for (const uint64_t offset : {uint64_t{0}, uint64_t{1}, bytes / 2 + 3, bytes - 1}) {
    const CUdeviceptr at = p + offset;
    EXPECT_EQ(Attribute<unsigned>(at, CU_POINTER_ATTRIBUTE_MEMORY_TYPE), unsigned{CU_MEMORYTYPE_DEVICE});
    EXPECT_EQ(Attribute<CUcontext>(at, CU_POINTER_ATTRIBUTE_CONTEXT), context);
    EXPECT_EQ(Attribute<CUdeviceptr>(at, CU_POINTER_ATTRIBUTE_DEVICE_POINTER), at);
    EXPECT_EQ(Attribute<int>(at, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL), 0);
    EXPECT_EQ(Attribute<unsigned>(at, CU_POINTER_ATTRIBUTE_IS_MANAGED), 0u);
    EXPECT_EQ(Attribute<CUdeviceptr>(at, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR), p);
    EXPECT_EQ(Attribute<size_t>(at, CU_POINTER_ATTRIBUTE_RANGE_SIZE), bytes);
    EXPECT_EQ(Attribute<unsigned>(at, CU_POINTER_ATTRIBUTE_MAPPED), 1u);
    EXPECT_EQ(Attribute<unsigned long long>(at, CU_POINTER_ATTRIBUTE_BUFFER_ID), id);
    void* host = nullptr;
    EXPECT_CU_IS(Cu().PointerGetAttribute(&host, CU_POINTER_ATTRIBUTE_HOST_POINTER, at),
                 CUDA_ERROR_INVALID_VALUE);
    CUdeviceptr base = 0;
    size_t size = 0;
    EXPECT_CU(Cu().MemGetAddressRange(&base, &size, at));
    EXPECT_EQ(base, p);
    EXPECT_EQ(size, bytes);
    EXPECT_CU(Cu().MemGetAddressRange(nullptr, nullptr, at));
  }
  Free(p);
  unsigned type = 0;
  EXPECT_CU_IS(Cu().PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p),
               CUDA_ERROR_INVALID_VALUE);
}

TEST_P(PointerTest, AnswersManyAttributesAtOnce) {
  const CUdeviceptr p = Alloc(GetParam());
  const CUdeviceptr at = p + GetParam() - 4096;
  CUpointer_attribute wanted[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_HOST_POINTER,
                                  CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
                                  CU_POINTER_ATTRIBUTE_RANGE_SIZE};
  unsigned type = 99;
  void* host = &type;
  int ordinal = 99;
  CUdeviceptr start = 99;
  size_t size = 99;
  void* data[] = {&type, &host, &ordinal, &start, &size};
  EXPECT_CU(Cu().PointerGetAttributes(5, wanted, data, at));
  EXPECT_EQ(type, unsigned{CU_MEMORYTYPE_DEVICE});
  EXPECT_EQ(host, nullptr);
  EXPECT_EQ(ordinal, 0);
  EXPECT_EQ(start, p);
  EXPECT_EQ(size, GetParam());
  Free(p);
}

INSTANTIATE_TEST_SUITE_P(Placement, PointerTest, testing::Values(32 * kMiB, kSpilled, kMixed),
                         [](const auto& test) {
                           return test.param == kMixed     ? "Mixed"
                                  : test.param == kSpilled ? "Spilled"
                                                           : "Device";
                         });

TEST_F(QueryTest, LegacyIpcWorksForSmallAllocations) {
  const CUdeviceptr p = Alloc(4 * kMiB);
  CUipcMemHandle handle;
  EXPECT_CU(Cu().IpcGetMemHandle(&handle, p));
  Free(p);
}

TEST_F(QueryTest, HostAndUnknownPointersAreTheDriversBusiness) {
  int local = 0;
  unsigned type = 0;
  EXPECT_CU_IS(Cu().PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                        reinterpret_cast<CUdeviceptr>(&local)),
               CUDA_ERROR_INVALID_VALUE);
  CUdeviceptr base = 0;
  size_t size = 0;
  EXPECT_CU_IS(Cu().MemGetAddressRange(&base, &size, reinterpret_cast<CUdeviceptr>(&local)),
               CUDA_ERROR_NOT_FOUND);
}

}  // namespace
}  // namespace gpuroom::shim_test
